//! Lock, Semaphore, Event, Condition and Barrier for Python.
//!
//! # Role in the flow
//!
//! Converts, releases the GIL, maps errors; the algorithms are in `corral_core::primitives`. The classes are made to be subclassed
//! by `corral.synchronize`, so that no Python frame is on the way of `acquire` and its kind.
//!
//! # Invariants
//!
//! INV-WAITER-1: a wait first looks with the GIL held, for a moment: what another process lets go of just now costs no release.

use corral_core::exclusive::Exclusive;
use corral_core::heap::HeapError;
use corral_core::park::{Interrupted, Patience};
use corral_core::region::Damaged;
use corral_core::sync::spin_loop;
use corral_core::wait::{Deadline, Spin, spin_limit_ns};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::heap::heap_error;
use crate::link::deadline_of;

mod locks;
pub(crate) use locks::{Lock, RLock};

/// Looks before the GIL is released: about as long as that takes.
const LOOKS_WITH_GIL: u32 = 16;

/// Maps what was read from damaged memory.
fn damaged(error: Damaged) -> PyErr {
    heap_error(HeapError::from(error))
}

/// What has not been initialised by its Python class.
fn unopened() -> PyErr {
    PyValueError::new_err("the object was not initialised: its class's __init__ must call super().__init__()")
}

/// Any object, as a condition.
#[derive(Clone, Copy)]
struct Truth(bool);

impl<'a, 'py> FromPyObject<'a, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Self)
    }
}

/// The deadline of a time-out in seconds; None: never; negative: passed.
fn deadline_after(timeout_s: Option<f64>) -> PyResult<Deadline> {
    if timeout_s.is_some_and(|seconds| seconds <= 0.0) {
        Ok(Deadline::PASSED)
    } else {
        deadline_of(timeout_s)
    }
}

/// What waiting on one object has taught this process.
struct Waiter {
    spin: Exclusive<Spin>,
}

impl Waiter {
    fn new() -> Self {
        Self { spin: Exclusive::new(Spin::default()) }
    }

    /// Looks for a moment with the GIL held.
    fn glance<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if spin_limit_ns() == 0 {
            return None;
        }
        (0..LOOKS_WITH_GIL).find_map(|_| {
            spin_loop();
            look()
        })
    }

    /// Runs `wait` without the GIL; signals are handled while it goes on.
    fn wait<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        wait: impl FnOnce(Patience<'_, PyErr>) -> PyResult<T> + Send,
    ) -> PyResult<T> {
        // Another thread is just reading or writing it (or was, when this process was forked): learn from scratch.
        let mut spin = self.spin.enter().map(|inside| *inside).unwrap_or_default();
        let outcome = py.detach(|| {
            let mut interrupted = || Python::attach(|py| py.check_signals());
            wait(Patience {
                deadline,
                spin_ns: spin_limit_ns(),
                spin: &mut spin,
                interrupted: Interrupted(&mut interrupted),
            })
        });
        if let Some(mut inside) = self.spin.enter() {
            *inside = spin;
        }
        outcome
    }
}

/// Adds this room's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    locks::register(module)
}
