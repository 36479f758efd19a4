//! A value that is dropped when it is closed, or when the last that uses it then has left.
//!
//! # Role in the flow
//!
//! A connection is closed by one thread while another may wait in it, and by a forked child whose parent's threads did.
//!
//! # Invariants
//!
//! INV-CLOSABLE-1: the value is reached only through a [`Use`], and dropped once: by whoever brings the word to `CLOSED` and no uses.
//! INV-CLOSABLE-2: uses are counted for one process: in a forked child those of its parent's threads, which it doesn't have, are forgotten.

use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ops::Deref;

use crate::sync::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;
/// What the word holds once the value is dropped.
const GONE: u64 = CLOSED | 1 << 62;
const FLAGS: u64 = GONE;

/// A value with a door. `owner` numbers the process: the same as long as it is the same.
#[derive(Debug)]
pub struct Closable<T> {
    /// Uses, and whether it was closed.
    word: AtomicU64,
    owner: AtomicU64,
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: INV-CLOSABLE-1: threads share the value by reference, and one of them drops it.
unsafe impl<T: Send + Sync> Sync for Closable<T> {}

impl<T> Closable<T> {
    /// Wraps `value`, for the process `owner`.
    pub fn new(value: T, owner: u64) -> Self {
        Self {
            word: AtomicU64::new(0),
            owner: AtomicU64::new(owner),
            value: UnsafeCell::new(ManuallyDrop::new(value)),
        }
    }

    /// The value, kept until the result is dropped; None once it is closed.
    #[inline]
    pub fn enter(&self, process: u64) -> Option<Use<'_, T>> {
        self.settle_in(process);
        // Acquire: pairs with the AcqRel of a closer, so that nothing is read of a value that it drops.
        let seen = self.word.fetch_add(1, Ordering::Acquire);
        let entered = Use { cell: self };
        // A closed one is left again at once, by dropping what was entered.
        (seen & CLOSED == 0).then_some(entered)
    }

    /// Closes it; false if it was closed before.
    pub fn close(&self, process: u64) -> bool {
        self.settle_in(process);
        let seen = self.word.fetch_or(CLOSED, Ordering::AcqRel);
        if seen == 0 {
            self.drop_value();
        }
        seen & CLOSED == 0
    }

    /// Was it closed?
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Relaxed: a hint; who needs the value enters.
        self.word.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Forgets the uses of a parent's threads, in a forked child.
    #[inline]
    fn settle_in(&self, process: u64) {
        // Relaxed: it changes right after a fork, when there is one thread, or is the same.
        if self.owner.load(Ordering::Relaxed) != process {
            self.forget_uses(process);
        }
    }

    #[cold]
    fn forget_uses(&self, process: u64) {
        // The first of a child's threads to come here forgets; the others find the number changed.
        if self.owner.swap(process, Ordering::AcqRel) != process {
            let seen = self.word.fetch_and(FLAGS, Ordering::AcqRel);
            if seen & FLAGS == CLOSED {
                self.drop_value();
            }
        }
    }

    fn leave(&self) {
        // Release: our last access comes before the drop; Acquire: so do those of all others.
        if self.word.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            self.drop_value();
        }
    }

    /// Drops the value, unless another does.
    fn drop_value(&self) {
        if self.word.compare_exchange(CLOSED, GONE, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: INV-CLOSABLE-1: closed, so nobody enters; no uses, so nobody is inside; GONE, so nobody comes here again.
            let value = unsafe { &mut *self.value.get() };
            // SAFETY: INV-CLOSABLE-1: as above: once, and never used again.
            unsafe { ManuallyDrop::drop(value) };
        }
    }
}

impl<T> Drop for Closable<T> {
    fn drop(&mut self) {
        // Whoever drops it has it alone: a fork's leftover uses don't count.
        let seen = self.word.fetch_and(FLAGS, Ordering::AcqRel);
        if seen & FLAGS != GONE {
            self.word.fetch_or(CLOSED, Ordering::AcqRel);
            self.drop_value();
        }
    }
}

/// Using the value; leaving is dropping it.
#[derive(Debug)]
pub struct Use<'a, T> {
    cell: &'a Closable<T>,
}

impl<T> Use<'_, T> {
    /// Has it been closed meanwhile? Then leave soon.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.cell.is_closed()
    }
}

impl<T> Deref for Use<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: INV-CLOSABLE-1: it isn't dropped while this use is counted.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> Drop for Use<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.cell.leave();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ME: u64 = 7;

    fn cell() -> (Arc<()>, Closable<Arc<()>>) {
        let value = Arc::new(());
        (Arc::clone(&value), Closable::new(value, ME))
    }

    #[test]
    fn closing_drops_the_value_at_once_if_nobody_uses_it() {
        let (value, cell) = cell();
        assert!(cell.enter(ME).is_some());
        assert!(cell.close(ME));
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(cell.enter(ME).is_none() && cell.is_closed());
        assert!(!cell.close(ME));
        drop(cell);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn who_is_inside_keeps_the_value_and_drops_it_on_leaving() {
        let (value, cell) = cell();
        let inside = cell.enter(ME).unwrap();
        assert!(cell.close(ME) && inside.is_closed());
        assert!(cell.enter(ME).is_none());
        assert_eq!(Arc::strong_count(&value), 2);
        drop(inside);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_forked_child_does_not_wait_for_its_parents_threads() {
        let (value, cell) = cell();
        std::mem::forget(cell.enter(ME).unwrap());
        assert!(cell.close(ME + 1));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn a_value_closed_before_a_fork_but_still_used_there_is_dropped_in_the_child() {
        let (value, cell) = cell();
        std::mem::forget(cell.enter(ME).unwrap());
        cell.close(ME);
        assert!(cell.enter(ME + 1).is_none());
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn what_was_never_closed_is_dropped_with_its_cell() {
        let (value, cell) = cell();
        drop(cell);
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn loom_a_value_is_dropped_once_and_not_while_it_is_used() {
        loom::model(|| {
            let value = Arc::new(AtomicU64::new(0));
            struct Counted(Arc<AtomicU64>);
            impl Drop for Counted {
                fn drop(&mut self) {
                    self.0.fetch_add(1, Ordering::Relaxed);
                }
            }
            let cell = Arc::new(Closable::new(Counted(Arc::clone(&value)), 1));
            let user = {
                let cell = Arc::clone(&cell);
                thread::spawn(move || {
                    if let Some(inside) = cell.enter(1) {
                        assert_eq!(inside.0.load(Ordering::Relaxed), 0);
                    }
                })
            };
            cell.close(1);
            user.join().unwrap();
            assert_eq!(value.load(Ordering::Relaxed), 1);
        });
    }
}
