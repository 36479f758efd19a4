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
use corral_core::primitives::place::Place;
use corral_core::region::Damaged;
use corral_core::sync::spin_loop;
use corral_core::wait::{Deadline, Spin, spin_limit_ns};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::away::{away, check_signals};
use crate::heap::{Heap, heap_error};
use crate::link::deadline_of;

mod barrier;
mod condition;
mod locks;
mod signals;

pub(crate) use locks::{Lock, RLock};

/// Looks before the GIL is released: about as long as that takes.
const LOOKS_WITH_GIL: u32 = 16;

/// Maps what was read from damaged memory.
fn damaged(error: Damaged) -> PyErr {
    heap_error(HeapError::from(error))
}

/// What ends a wait.
enum Failure {
    Damaged(Damaged),
    Python(PyErr),
}

impl From<Damaged> for Failure {
    fn from(what: Damaged) -> Self {
        Self::Damaged(what)
    }
}

/// What has not been initialised by its Python class.
fn unopened() -> PyErr {
    PyValueError::new_err("the object was not initialised: its class's __init__ must call super().__init__()")
}

/// A place in a heap, found or made.
struct Housed {
    heap: Py<Heap>,
    place: Place,
}

impl Housed {
    fn open(heap: &Bound<'_, Heap>, reference: Option<u64>, bytes: usize, tag: u64) -> PyResult<Self> {
        Self::with_options(heap, reference, bytes, tag, 0)
    }

    fn with_options(
        heap: &Bound<'_, Heap>,
        reference: Option<u64>,
        bytes: usize,
        tag: u64,
        options: u64,
    ) -> PyResult<Self> {
        let core = heap.get().core();
        let place = match reference {
            None => Place::create(core, bytes, tag, options),
            Some(reference) => Place::attach(core, reference, tag),
        };
        Ok(Self { heap: heap.clone().unbind(), place: place.map_err(heap_error)? })
    }
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
        wait: impl FnOnce(Patience<'_, Failure>) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        // Another thread is just reading or writing it (or was, when this process was forked): learn from scratch.
        let mut spin = self.spin.enter().map(|inside| *inside).unwrap_or_default();
        let outcome = away(py, || {
            let mut interrupted = || check_signals().map_err(Failure::Python);
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
        outcome.map_err(|failure| match failure {
            Failure::Damaged(what) => damaged(what),
            Failure::Python(error) => error,
        })
    }
}

/// Adds this room's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    locks::register(module)?;
    signals::register(module)?;
    condition::register(module)?;
    barrier::register(module)
}
