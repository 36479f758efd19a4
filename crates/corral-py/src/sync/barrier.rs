//! Barrier for Python.

use std::sync::OnceLock;

use corral_core::identity;
use corral_core::park::Patience;
use corral_core::primitives::barrier::{Barrier as CoreBarrier, Coming, MOST_PARTIES, State};
use corral_core::primitives::place::WORDS_AT;
use corral_core::region::Region;
use corral_core::sync::{AtomicU64, Ordering};
use corral_core::wait::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::{Failure, Housed, Waiter, damaged, deadline_after, unopened};
use crate::heap::Heap;

const TAG: u64 = u64::from_le_bytes(*b"corralSB");

/// The process that has arranged to say at its end that it will not come again.
static RETIRES: AtomicU64 = AtomicU64::new(0);

struct Opened {
    housed: Housed,
    action: Option<Py<PyAny>>,
    /// For waits that name none.
    timeout_s: Option<f64>,
    waiter: Waiter,
    /// The process that has come here, by this object (a fork leaves the parent's).
    came: AtomicU64,
}

impl Opened {
    fn barrier(&self) -> PyResult<CoreBarrier<'_, Region>> {
        CoreBarrier::over(self.housed.place.region(), WORDS_AT).map_err(damaged)
    }

    /// Runs a part of the wait without the GIL; an interruption breaks the barrier.
    fn patiently<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        part: impl FnOnce(&CoreBarrier<'_, Region>, Patience<'_, Failure>) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        let barrier = self.barrier()?;
        let outcome = self.waiter.wait(py, deadline, |patience| part(&barrier, patience));
        if outcome.is_err() {
            barrier.abort();
        }
        outcome
    }

    fn wait(&self, py: Python<'_>, deadline: Deadline) -> PyResult<u32> {
        let me = identity::current();
        self.arrange_retirement(py, me)?;
        let acts = self.action.is_some();
        let coming = self.patiently(py, deadline, |barrier, patience| barrier.come(me, acts, patience))?;
        let coming = coming.ok_or_else(|| broken(py))?;
        let passed = match (coming.is_last, &self.action) {
            (true, Some(action)) => self.act(py, action, me, coming)?,
            (true, None) => true,
            (false, _) => self.wait_for_others(py, coming, deadline)?,
        };
        if passed { Ok(coming.index) } else { Err(broken(py)) }
    }

    fn wait_for_others(&self, py: Python<'_>, coming: Coming, deadline: Deadline) -> PyResult<bool> {
        self.patiently(py, deadline, |barrier, patience| barrier.wait(coming, patience))
    }

    fn act(&self, py: Python<'_>, action: &Py<PyAny>, me: u64, coming: Coming) -> PyResult<bool> {
        if let Err(error) = action.call0(py) {
            self.barrier()?.abort();
            return Err(error);
        }
        self.patiently(py, Deadline::NEVER, |barrier, patience| {
            barrier.complete(me, coming, patience.interrupted.0)
        })
    }

    /// Notes that this process comes here, and has its end not be taken for a death.
    fn arrange_retirement(&self, py: Python<'_>, me: u64) -> PyResult<()> {
        // Relaxed: with the GIL held.
        self.came.store(me, Ordering::Relaxed);
        if RETIRES.load(Ordering::Relaxed) != me {
            py.import("corral.synchronize")?.call_method0("_retire_at_exit")?;
            RETIRES.store(me, Ordering::Relaxed);
        }
        Ok(())
    }

    fn retire(&self) {
        let me = identity::current();
        if self.came.load(Ordering::Relaxed) == me
            && let Ok(barrier) = self.barrier()
        {
            // Damaged: nobody is there to be told.
            let _ = barrier.retire(me);
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.retire();
    }
}

#[cold]
fn broken(py: Python<'_>) -> PyErr {
    let class = py
        .import("threading")
        .and_then(|threading| threading.getattr("BrokenBarrierError"))
        .and_then(|class| Ok(class.cast_into::<PyType>()?));
    match class {
        Ok(class) => PyErr::from_type(class, ()),
        Err(error) => error,
    }
}

/// Nobody passes until all have come.
#[pyclass(frozen, subclass, module = "corral._native")]
pub(crate) struct Barrier {
    opened: OnceLock<Opened>,
}

impl Barrier {
    fn opened(&self) -> PyResult<&Opened> {
        self.opened.get().ok_or_else(unopened)
    }
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { opened: OnceLock::new() }
    }

    /// Makes a barrier, or finds that of `ref`.
    #[pyo3(signature = (heap, r#ref, parties = 0, action = None, timeout = None))]
    fn _open(
        &self,
        heap: &Bound<'_, Heap>,
        r#ref: Option<u64>,
        parties: u32,
        action: Option<Py<PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        if parties > MOST_PARTIES {
            return Err(PyValueError::new_err("too many parties"));
        }
        let housed = Housed::open(heap, r#ref, WORDS_AT + CoreBarrier::<Region>::bytes(parties), TAG)?;
        if r#ref.is_none() {
            CoreBarrier::make(housed.place.region(), WORDS_AT, parties).map_err(damaged)?;
        }
        let opened =
            Opened { housed, action, timeout_s: timeout, waiter: Waiter::new(), came: AtomicU64::new(0) };
        self.opened.set(opened).map_err(|_| PyValueError::new_err("the barrier is initialised already"))
    }

    #[getter]
    fn _heap(&self, py: Python<'_>) -> PyResult<Py<Heap>> {
        Ok(self.opened()?.housed.heap.clone_ref(py))
    }

    #[getter]
    fn _ref(&self) -> PyResult<u64> {
        Ok(self.opened()?.housed.place.reference())
    }

    #[getter]
    fn _action(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.opened()?.action.as_ref().map(|action| action.clone_ref(py)))
    }

    #[getter]
    fn _timeout(&self) -> PyResult<Option<f64>> {
        Ok(self.opened()?.timeout_s)
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u32> {
        let opened = self.opened()?;
        opened.wait(py, deadline_after(timeout.or(opened.timeout_s))?)
    }

    fn _retire(&self) -> PyResult<()> {
        self.opened()?.retire();
        Ok(())
    }

    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        let opened = self.opened()?;
        let me = identity::current();
        let barrier = opened.barrier()?;
        opened.waiter.wait(py, Deadline::NEVER, |patience| barrier.reset(me, patience.interrupted.0))
    }

    fn abort(&self) -> PyResult<()> {
        self.opened()?.barrier()?.abort();
        Ok(())
    }

    #[getter]
    fn parties(&self) -> PyResult<u32> {
        Ok(self.opened()?.barrier()?.parties())
    }

    #[getter]
    fn n_waiting(&self) -> PyResult<u32> {
        let (state, count) = self.opened()?.barrier()?.state();
        Ok(if state == State::Broken { 0 } else { count })
    }

    #[getter]
    fn broken(&self) -> PyResult<bool> {
        Ok(self.opened()?.barrier()?.state().0 == State::Broken)
    }
}

/// Adds the class to the module.
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("MOST_PARTIES", MOST_PARTIES)?;
    module.add_class::<Barrier>()
}
