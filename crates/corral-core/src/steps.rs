//! Named points inside operations on shared memory at which a test may abandon them, as a kill would.
//!
//! Compiled to nothing outside this crate's tests.

/// Marks a point between two accesses to shared memory.
macro_rules! step {
    ($name:literal) => {
        #[cfg(all(test, not(loom)))]
        $crate::steps::reached($name);
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
