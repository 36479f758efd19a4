//! Condition for Python: the table of waiters, around a lock of ours or of anybody's.

use std::sync::OnceLock;

use corral_core::identity;
use corral_core::primitives::condition::{Condition as CoreCondition, Seat};
use corral_core::primitives::place::WORDS_AT;
use corral_core::region::Region;
use corral_core::wait::Deadline;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::locks::{Held, Lock, RLock};
use super::{Housed, Waiter, damaged, deadline_after, unopened};
use crate::heap::Heap;

const TAG: u64 = u64::from_le_bytes(*b"corralSC");
/// Waiters at once; their memory is touched when they come.
const SEATS: usize = 4095;

/// The lock that a condition goes with.
enum Guard {
    Plain(Py<Lock>),
    Recursive(Py<RLock>),
    /// Something else with the standard library's methods.
    Other(Py<PyAny>),
}

impl Guard {
    fn of(lock: &Bound<'_, PyAny>) -> Self {
        if let Ok(lock) = lock.cast::<Lock>() {
            Self::Plain(lock.clone().unbind())
        } else if let Ok(lock) = lock.cast::<RLock>() {
            Self::Recursive(lock.clone().unbind())
        } else {
            Self::Other(lock.clone().unbind())
        }
    }

    /// The lock, if it is ours.
    #[inline]
    fn held(&self) -> PyResult<Result<&Held, &Py<PyAny>>> {
        match self {
            Self::Plain(lock) => lock.get().held().map(Ok),
            Self::Recursive(lock) => lock.get().held().map(Ok),
            Self::Other(lock) => Ok(Err(lock)),
        }
    }

    fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self {
            Self::Plain(lock) => lock.bind(py).as_any().clone(),
            Self::Recursive(lock) => lock.bind(py).as_any().clone(),
            Self::Other(lock) => lock.bind(py).clone(),
        }
    }

    fn is_mine(&self, py: Python<'_>) -> PyResult<bool> {
        match self.held()? {
            Ok(held) => held.is_mine(),
            Err(other) => other.bind(py).getattr("_semlock")?.call_method0("_is_mine")?.is_truthy(),
        }
    }

    fn let_go(&self, py: Python<'_>) -> PyResult<u64> {
        match self.held()? {
            Ok(held) => held.let_go(),
            Err(other) => {
                let other = other.bind(py);
                let depth: u64 = other.getattr("_semlock")?.call_method0("_count")?.extract()?;
                for _ in 0..depth {
                    other.call_method0("release")?;
                }
                Ok(depth)
            }
        }
    }

    fn take_back(&self, py: Python<'_>, depth: u64) -> PyResult<()> {
        match self.held()? {
            Ok(held) => held.take_back(py, depth),
            Err(other) => (0..depth).try_for_each(|_| other.bind(py).call_method0("acquire").map(drop)),
        }
    }
}

struct Opened {
    housed: Housed,
    guard: Guard,
    waiter: Waiter,
}

impl Opened {
    fn condition(&self) -> CoreCondition<'_, Region> {
        let region = self.housed.place.region();
        CoreCondition::over(region, WORDS_AT, region.length())
    }

    /// Waits without the lock; the seat is taken until the lock is.
    fn wait(&self, py: Python<'_>, deadline: Deadline) -> PyResult<bool> {
        let condition = self.condition();
        let me = identity::current();
        let Some(seat) = condition.enrol(me).map_err(damaged)? else {
            return Err(PyRuntimeError::new_err(format!("more than {SEATS} wait for this condition")));
        };
        let depth = self.guard.let_go(py)?;
        let outcome = self.sleep(py, &condition, seat, me, deadline);
        // Who was interrupted may have been called: then the call is another's.
        let is_wasted = outcome.is_err() && condition.withdraw(seat).map_err(damaged)?;
        let taken = self.guard.take_back(py, depth);
        condition.leave(seat).map_err(damaged)?;
        if is_wasted {
            condition.call(1).map_err(damaged)?;
        }
        taken?;
        outcome
    }

    fn sleep(
        &self,
        py: Python<'_>,
        condition: &CoreCondition<'_, Region>,
        seat: Seat,
        me: u64,
        deadline: Deadline,
    ) -> PyResult<bool> {
        self.waiter.wait(py, deadline, |patience| condition.wait(seat, me, patience))
    }
}

/// Waiting, with a lock let go of meanwhile, until called.
#[pyclass(frozen, subclass, module = "corral._native")]
pub(crate) struct Condition {
    opened: OnceLock<Opened>,
}

impl Condition {
    #[inline]
    fn opened(&self) -> PyResult<&Opened> {
        self.opened.get().ok_or_else(unopened)
    }

    fn owned(&self, py: Python<'_>, complaint: &'static str) -> PyResult<&Opened> {
        let opened = self.opened()?;
        if opened.guard.is_mine(py)? { Ok(opened) } else { Err(PyAssertionError::new_err(complaint)) }
    }
}

#[pymethods]
impl Condition {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { opened: OnceLock::new() }
    }

    /// Makes a condition, or finds that of `ref`; it goes with `lock`.
    #[pyo3(signature = (heap, r#ref, lock))]
    fn _open(&self, heap: &Bound<'_, Heap>, r#ref: Option<u64>, lock: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = WORDS_AT + CoreCondition::<Region>::bytes(SEATS);
        let housed = Housed::open(heap, r#ref, bytes, TAG)?;
        let opened = Opened { housed, guard: Guard::of(lock), waiter: Waiter::new() };
        self.opened.set(opened).map_err(|_| PyValueError::new_err("the condition is initialised already"))
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
    fn _lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.opened()?.guard.object(py))
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn acquire<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.opened()?.guard.object(args.py()).call_method("acquire", args, kwargs)
    }

    fn release(&self, py: Python<'_>) -> PyResult<()> {
        match self.opened()?.guard.held()? {
            Ok(held) => held.release(),
            Err(other) => other.bind(py).call_method0("release").map(drop),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        match self.opened()?.guard.held()? {
            Ok(held) => held.acquire(py, true, None),
            Err(other) => other.bind(py).call_method0("acquire")?.is_truthy(),
        }
    }

    #[pyo3(signature = (_kind = None, _value = None, _traceback = None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.release(py)
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let opened = self.owned(py, "must acquire() condition before using wait()")?;
        opened.wait(py, deadline_after(timeout)?)
    }

    #[pyo3(signature = (n = 1))]
    fn notify(&self, py: Python<'_>, n: i64) -> PyResult<()> {
        let opened = self.owned(py, "lock is not owned")?;
        opened.condition().call(u64::try_from(n).unwrap_or(0)).map(drop).map_err(damaged)
    }

    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        let opened = self.owned(py, "lock is not owned")?;
        opened.condition().call_all().map_err(damaged)
    }

    fn _waiting(&self) -> PyResult<u64> {
        self.opened()?.condition().waiting().map_err(damaged)
    }
}

/// Adds the class to the module.
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Condition>()
}
