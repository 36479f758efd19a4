//! A value that one thread at a time may use, where a second is a mistake and not a reason to wait.
//!
//! # Invariants
//!
//! INV-EXCLUSIVE-1: the value is reached only through the one [`Entered`] that exists while `busy` is set.
//!
//! See: the two ends of a link and the two waiters of a wait set; callers hold a lock of their own, and if they don't
//! they get an error instead of a data race.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

use crate::sync::{AtomicBool, Ordering};

/// A value with a flag: entering fails at once while somebody is inside.
#[derive(Debug)]
pub struct Exclusive<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: INV-EXCLUSIVE-1: threads reach the value one after the other, so it need only be fit to move between them.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self { busy: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Enters, or None while another thread (or this one, further up) is inside.
    #[inline]
    pub fn enter(&self) -> Option<Entered<'_, T>> {
        // Acquire: pairs with the Release in `Entered::drop`: what the last one did is seen.
        if self.busy.swap(true, Ordering::Acquire) { None } else { Some(Entered { cell: self }) }
    }

    /// The value, while nobody else can have the cell.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// Being inside; leaving is dropping it.
#[derive(Debug)]
pub struct Entered<'a, T> {
    cell: &'a Exclusive<T>,
}

// SAFETY: INV-EXCLUSIVE-1: it stands for `&mut T`, which may be shared when T may.
unsafe impl<T: Send + Sync> Sync for Entered<'_, T> {}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: INV-EXCLUSIVE-1: this is the only one inside.
        unsafe { &*self.cell.value.get() }
    }
}

impl<T> DerefMut for Entered<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: INV-EXCLUSIVE-1: this is the only one inside, and borrowed mutably.
        unsafe { &mut *self.cell.value.get() }
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `Exclusive::enter`.
        self.cell.busy.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_second_entry_fails_until_the_first_has_left() {
        let cell = Exclusive::new(1);
        let mut inside = cell.enter();
        assert!(cell.enter().is_none());
        if let Some(value) = inside.as_deref_mut() {
            *value += 1;
        }
        drop(inside);
        assert_eq!(cell.enter().map(|value| *value), Some(2));
    }
}
