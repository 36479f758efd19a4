//! Semaphore and Event for Python.

use std::sync::OnceLock;

use corral_core::primitives::event::Event as CoreEvent;
use corral_core::primitives::place::WORDS_AT;
use corral_core::primitives::semaphore::Semaphore as CoreSemaphore;
use corral_core::wait::Deadline;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Housed, Truth, Waiter, damaged, deadline_after, unopened};
use crate::heap::Heap;

const SEMAPHORE_TAG: u64 = u64::from_le_bytes(*b"corralSS");
const EVENT_TAG: u64 = u64::from_le_bytes(*b"corralSE");

/// A place and the experience of waiting there.
struct Opened {
    housed: Housed,
    waiter: Waiter,
}

impl Opened {
    #[inline]
    fn semaphore(&self) -> PyResult<CoreSemaphore<'_>> {
        CoreSemaphore::over(self.housed.place.region(), WORDS_AT).map_err(damaged)
    }

    #[inline]
    fn event(&self) -> PyResult<CoreEvent<'_>> {
        CoreEvent::over(self.housed.place.region(), WORDS_AT).map_err(damaged)
    }
}

/// Units that are taken while there are some, and released by anybody.
#[pyclass(frozen, subclass, module = "corral._native")]
pub(crate) struct Semaphore {
    opened: OnceLock<Opened>,
}

impl Semaphore {
    #[inline]
    fn opened(&self) -> PyResult<&Opened> {
        self.opened.get().ok_or_else(unopened)
    }

    #[inline]
    fn take(&self, py: Python<'_>, blocks: bool, timeout_s: Option<f64>) -> PyResult<bool> {
        let opened = self.opened()?;
        let semaphore = opened.semaphore()?;
        if semaphore.take() {
            return Ok(true);
        }
        let deadline = if blocks { deadline_after(timeout_s)? } else { Deadline::PASSED };
        if deadline == Deadline::PASSED {
            return Ok(false);
        }
        if Waiter::glance(|| semaphore.take().then_some(())).is_some() {
            return Ok(true);
        }
        opened.waiter.wait(py, deadline, |patience| semaphore.acquire(patience))
    }

    #[inline]
    fn give(&self) -> PyResult<()> {
        if self.opened()?.semaphore()?.release() {
            Ok(())
        } else {
            Err(PyValueError::new_err("semaphore or lock released too many times"))
        }
    }
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { opened: OnceLock::new() }
    }

    /// Makes a semaphore, or finds that of `ref`.
    #[pyo3(signature = (heap, r#ref, value = 0, maximum = 0))]
    fn _open(&self, heap: &Bound<'_, Heap>, r#ref: Option<u64>, value: u32, maximum: u32) -> PyResult<()> {
        let housed = Housed::open(heap, r#ref, WORDS_AT + CoreSemaphore::BYTES, SEMAPHORE_TAG)?;
        let opened = Opened { housed, waiter: Waiter::new() };
        if r#ref.is_none() {
            opened.semaphore()?.reset(value, maximum);
        }
        self.opened.set(opened).map_err(|_| PyValueError::new_err("the semaphore is initialised already"))
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
    fn _semlock(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[classattr]
    fn kind() -> u64 {
        1
    }

    #[getter]
    fn maxvalue(&self) -> PyResult<u32> {
        Ok(self.opened()?.semaphore()?.maximum())
    }

    #[pyo3(signature = (block = Truth(true), timeout = None))]
    fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
        self.take(py, block.0, timeout)
    }

    fn release(&self) -> PyResult<()> {
        self.give()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, true, None)
    }

    #[pyo3(signature = (_kind = None, _value = None, _traceback = None))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.give()
    }

    fn get_value(&self) -> PyResult<u32> {
        Ok(self.opened()?.semaphore()?.value())
    }

    fn _get_value(&self) -> PyResult<u32> {
        self.get_value()
    }

    fn _is_zero(&self) -> PyResult<bool> {
        Ok(self.get_value()? == 0)
    }

    fn locked(&self) -> PyResult<bool> {
        self._is_zero()
    }
}

/// A flag to wait for.
#[pyclass(frozen, subclass, module = "corral._native")]
pub(crate) struct Event {
    opened: OnceLock<Opened>,
}

impl Event {
    #[inline]
    fn opened(&self) -> PyResult<&Opened> {
        self.opened.get().ok_or_else(unopened)
    }
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self { opened: OnceLock::new() }
    }

    /// Makes an event, or finds that of `ref`.
    #[pyo3(signature = (heap, r#ref))]
    fn _open(&self, heap: &Bound<'_, Heap>, r#ref: Option<u64>) -> PyResult<()> {
        let housed = Housed::open(heap, r#ref, WORDS_AT + CoreEvent::BYTES, EVENT_TAG)?;
        let opened = Opened { housed, waiter: Waiter::new() };
        self.opened.set(opened).map_err(|_| PyValueError::new_err("the event is initialised already"))
    }

    #[getter]
    fn _heap(&self, py: Python<'_>) -> PyResult<Py<Heap>> {
        Ok(self.opened()?.housed.heap.clone_ref(py))
    }

    #[getter]
    fn _ref(&self) -> PyResult<u64> {
        Ok(self.opened()?.housed.place.reference())
    }

    fn is_set(&self) -> PyResult<bool> {
        Ok(self.opened()?.event()?.is_set())
    }

    fn set(&self) -> PyResult<()> {
        self.opened()?.event()?.set();
        Ok(())
    }

    fn clear(&self) -> PyResult<()> {
        self.opened()?.event()?.clear();
        Ok(())
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let opened = self.opened()?;
        let event = opened.event()?;
        let then = event.now();
        if event.has_come(then) {
            return Ok(true);
        }
        let deadline = deadline_after(timeout)?;
        if deadline == Deadline::PASSED {
            return Ok(false);
        }
        if Waiter::glance(|| event.has_come(then).then_some(())).is_some() {
            return Ok(true);
        }
        opened.waiter.wait(py, deadline, |patience| event.wait(then, patience))
    }
}

/// Adds the classes to the module.
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Semaphore>()?;
    module.add_class::<Event>()?;
    Ok(())
}
