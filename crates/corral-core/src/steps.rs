//! Named points inside operations on shared memory at which a test may abandon them, as a kill would.
//!
//! Compiled to nothing but in this crate's tests, where an operation is abandoned by unwinding, and with the feature `fault`, where
//! the process is struck by a true signal ([`arm`]).

/// Marks a point between two accesses to shared memory.
macro_rules! step {
    ($name:literal) => {
        #[cfg(all(test, not(loom)))]
        $crate::steps::reached($name);
        #[cfg(all(feature = "fault", not(test), not(loom)))]
        $crate::steps::pass($name);
    };
}
pub(crate) use step;

#[cfg(all(test, not(loom)))]
pub(crate) use enumeration::{Abandoned, abandon_after, reached};

#[cfg(all(test, not(loom)))]
mod enumeration {
    use std::cell::{Cell, RefCell};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        static REMAINING: Cell<Option<usize>> = const { Cell::new(None) };
        static LAST: RefCell<&'static str> = const { RefCell::new("") };
    }

    /// What an operation that was cut off leaves to the test: the step it was cut off at.
    #[derive(Debug)]
    pub(crate) struct Abandoned(pub &'static str);

    /// Counts a step down; at zero the operation ends here, with nothing cleaned up by itself.
    pub(crate) fn reached(name: &'static str) {
        REMAINING.with(|remaining| match remaining.get() {
            Some(0) => {
                remaining.set(None);
                LAST.set(name);
                resume_unwind(Box::new("abandoned"));
            }
            Some(count) => remaining.set(Some(count - 1)),
            None => {}
        });
    }

    /// Runs `operation` to its step `count` (from 0) and abandons it there; Ok when it had fewer steps.
    pub(crate) fn abandon_after<T>(count: usize, operation: impl FnOnce() -> T) -> Result<T, Abandoned> {
        REMAINING.set(Some(count));
        let outcome = catch_unwind(AssertUnwindSafe(operation));
        let cut_off = REMAINING.take().is_none();
        match outcome {
            Ok(value) => Ok(value),
            Err(_) if cut_off => Err(Abandoned(LAST.with(|last| *last.borrow()))),
            Err(other) => resume_unwind(other),
        }
    }
}

#[cfg(all(feature = "fault", not(test), not(loom)))]
pub use strike::{arm, pass, passed, scribble};

#[cfg(all(feature = "fault", not(test), not(loom)))]
mod strike {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    use crate::heap::{Heap, HeapError};
    use crate::region::{Memory as _, Region};
    use crate::sys::process::{own_pid, send_signal};

    struct Fault {
        step: String,
        remaining: u64,
        signal: i32,
    }

    static ARMED: Mutex<Option<Fault>> = Mutex::new(None);
    static PASSED: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

    /// Has this process send itself `signal` when it passes `step` for the `nth` time from now (from 1); 0 disarms.
    pub fn arm(step: &str, nth: u64, signal: i32) {
        let fault = (nth > 0).then(|| Fault { step: step.to_owned(), remaining: nth, signal });
        *ARMED.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How often each step was passed in this process.
    #[must_use]
    pub fn passed() -> BTreeMap<&'static str, u64> {
        PASSED.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Strikes if this is the step that was armed.
    pub fn pass(name: &'static str) {
        *PASSED.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fault) = armed.as_mut() else { return };
        if fault.step != name {
            return;
        }
        fault.remaining -= 1;
        if fault.remaining == 0 {
            let signal = fault.signal;
            *armed = None;
            drop(armed);
            // A process can always signal itself.
            let _ = send_signal(own_pid(), signal);
        }
    }

    /// Writes `garbage` into block `reference`, `offset` bytes in, whoever owns it: what a wild pointer does.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when there is no such block, or the place lies outside it.
    pub fn scribble(heap: &Heap, reference: u64, offset: usize, garbage: &[u8]) -> Result<(), HeapError> {
        let (start, length) = heap.slice(reference)?;
        // SAFETY: INV-REGION-1: the heap's mapping lives as long as this borrow of it.
        let region = unsafe { Region::new(start, length) };
        Ok(region.ok_or(HeapError::Damaged("a block's place"))?.write(offset, garbage)?)
    }
}
