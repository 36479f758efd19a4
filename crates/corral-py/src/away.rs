//! Waiting without the GIL: signals meanwhile, and the end of the interpreter.
//!
//! # Role in the flow
//!
//! Whatever waits for other processes does so in [`away`], and asks [`check_signals`] from time to time.
//!
//! # Invariants
//!
//! INV-AWAY-1: once the interpreter is being finalized, no thread but the one that does it comes back to it. A daemon thread that waits
//! then would otherwise be ended where it asks for the GIL, by unwinding through what must not be unwound. It stays away instead, and
//! ends with the process.
//! INV-AWAY-2: only the main thread comes back to handle signals: no other thread runs handlers.

use std::time::Duration;

use corral_core::identity;
use corral_core::sync::{AtomicU64, Ordering};
use corral_core::sys::process::{own_pid, own_thread_id};
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

/// The identity of the process that is being finalized, and the thread that does it; 0 at first. A child forked by then goes on as usual.
static FINALIZED: AtomicU64 = AtomicU64::new(0);
static FINALIZER: AtomicU64 = AtomicU64::new(0);

/// Runs `wait` without the GIL.
#[inline]
pub(crate) fn away<T: Send>(py: Python<'_>, wait: impl FnOnce() -> T + Send) -> T {
    py.detach(|| {
        let result = wait();
        stay_if_over();
        result
    })
}

/// Lets signals' handlers run, from within [`away`].
pub(crate) fn check_signals() -> PyResult<()> {
    stay_if_over();
    if own_thread_id() == own_pid() { Python::attach(|py| py.check_signals()) } else { Ok(()) }
}

#[inline]
fn stay_if_over() {
    // Acquire: pairs with the Release in `finalizing`.
    if FINALIZED.load(Ordering::Acquire) != 0 {
        stay();
    }
}

#[cold]
fn stay() {
    let over = FINALIZED.load(Ordering::Relaxed) == identity::current();
    while over && FINALIZER.load(Ordering::Relaxed) != u64::from(own_thread_id()) {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn finalizing() {
    FINALIZER.store(u64::from(own_thread_id()), Ordering::Relaxed);
    // Release: who sees it sees the thread.
    FINALIZED.store(identity::current(), Ordering::Release);
}

/// Has the interpreter say when it ends. What was registered first is called last: when nothing is left that would wait for other threads.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let told = PyCFunction::new_closure(py, None, None, |_, _| finalizing())?;
    py.import("atexit")?.call_method1("register", (told,)).map(drop)
}
