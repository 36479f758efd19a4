//! The semaphore: a number that is taken from while it is above zero.
//!
//! ```text
//! +0   value     units left
//! +4   sleepers  see `doorbell::many`
//! +8   maximum   releasing beyond this is an error
//! ```
//!
//! # Failure
//!
//! A waiter dies: a unit is taken by the one compare-and-swap that ends its wait, so either it had none, or it held one when it
//! died. A unit that somebody holds has no owner: others may release it, and with its holder it is lost, as in the
//! standard library. A woken waiter that dies before it took anything leaves the unit to who looks next, after 100 ms at the latest.

use crate::doorbell::many;
use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::{AtomicU32, Ordering};

#[cfg(not(loom))]
use crate::park::Patience;

/// A view of a semaphore.
#[derive(Debug, Clone, Copy)]
pub struct Semaphore<'a> {
    value: &'a AtomicU32,
    sleepers: &'a AtomicU32,
    maximum: &'a AtomicU32,
}

impl<'a> Semaphore<'a> {
    /// Bytes of shared memory it takes.
    pub const BYTES: usize = 16;

    /// The semaphore at `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    #[inline]
    pub fn over(memory: &'a impl Memory, offset: usize) -> Result<Self, Damaged> {
        Ok(Self {
            value: memory.half(offset)?,
            sleepers: memory.half(offset + 4)?,
            maximum: memory.half(offset + 8)?,
        })
    }

    /// Makes it anew: only before others know of it.
    pub fn reset(self, value: u32, maximum: u32) {
        // Relaxed: others learn of it through something that orders this before.
        self.value.store(value, Ordering::Relaxed);
        self.sleepers.store(0, Ordering::Relaxed);
        self.maximum.store(maximum, Ordering::Relaxed);
    }

    /// Units left.
    #[must_use]
    pub fn value(self) -> u32 {
        // Relaxed: a hint by the time it is used.
        self.value.load(Ordering::Relaxed)
    }

    /// More units than this there never are.
    #[must_use]
    pub fn maximum(self) -> u32 {
        // Relaxed: never changed.
        self.maximum.load(Ordering::Relaxed)
    }

    /// Takes a unit if there is one.
    #[inline]
    #[must_use]
    pub fn take(self) -> bool {
        let mut seen = self.value.load(Ordering::Relaxed);
        while seen != 0 {
            // Acquire: pairs with the Release in `release`: what was done before a unit was released is seen.
            match self.value.compare_exchange_weak(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Takes a unit, waiting as `patience` says; false: not in time.
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    #[cfg(not(loom))]
    pub fn acquire<E>(self, patience: Patience<'_, E>) -> Result<bool, E> {
        let look = || self.take().then_some(());
        Ok(patience.wait(self.sleepers, look, look)?.is_some())
    }

    /// Adds a unit, and wakes one sleeper if there may be any; false if that would be more than the maximum.
    #[inline]
    #[must_use]
    pub fn release(self) -> bool {
        let maximum = self.maximum();
        let mut seen = self.value.load(Ordering::Relaxed);
        while seen < maximum {
            // Release: pairs with the Acquire in `take`.
            match self.value.compare_exchange_weak(seen, seen + 1, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => {
                    step!("semaphore.released");
                    many::ring(self.sleepers, 1);
                    return true;
                }
                Err(now) => seen = now,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Words {
        value: AtomicU32,
        sleepers: AtomicU32,
        maximum: AtomicU32,
    }

    impl Words {
        fn semaphore(&self) -> Semaphore<'_> {
            Semaphore { value: &self.value, sleepers: &self.sleepers, maximum: &self.maximum }
        }
    }

    #[cfg(loom)]
    mod models {
        use loom::sync::Arc;
        use loom::thread;

        use super::*;
        use crate::sys::futex;

        fn acquire(semaphore: Semaphore<'_>) {
            while !semaphore.take() {
                let ticket = many::enrol(semaphore.sleepers);
                if semaphore.take() {
                    return;
                }
                futex::wait(semaphore.sleepers, ticket, None).unwrap();
            }
        }

        #[test]
        fn loom_two_takers_get_the_units_of_a_releaser() {
            loom::model(|| {
                let words = Arc::new(Words::default());
                words.semaphore().reset(0, 2);
                let takers = [(); 2].map(|()| {
                    let words = Arc::clone(&words);
                    thread::spawn(move || acquire(words.semaphore()))
                });
                assert!(words.semaphore().release());
                assert!(words.semaphore().release());
                takers.into_iter().for_each(|taker| taker.join().unwrap());
                assert_eq!(words.semaphore().value(), 0);
            });
        }
    }

    #[cfg(not(loom))]
    mod real {
        use std::convert::Infallible;

        use super::*;
        use crate::park::Interrupted;
        use crate::steps;
        use crate::wait::{Deadline, Spin};

        fn acquire(semaphore: Semaphore<'_>, deadline: Deadline) -> bool {
            let mut go_on = || Ok::<_, Infallible>(());
            let (spin, interrupted) = (&mut Spin::default(), Interrupted(&mut go_on));
            semaphore.acquire(Patience { deadline, spin_ns: 1_000, spin, interrupted }).unwrap()
        }

        #[test]
        fn units_are_taken_until_there_are_none_and_released_up_to_the_maximum() {
            let words = Words::default();
            let semaphore = words.semaphore();
            semaphore.reset(2, 2);
            assert!(!semaphore.release());
            assert!(semaphore.take() && semaphore.take() && !semaphore.take());
            assert!(!acquire(semaphore, Deadline::PASSED));
            assert!(semaphore.release());
            assert!(acquire(semaphore, Deadline::NEVER));
            assert_eq!((semaphore.value(), semaphore.maximum()), (0, 2));
        }

        #[test]
        fn a_release_cut_off_anywhere_leaves_the_unit_or_not_and_a_sleeper_gets_it() {
            let mut names = Vec::new();
            loop {
                let words = Words::default();
                words.semaphore().reset(0, 1);
                let cut_off = std::thread::scope(|scope| {
                    let sleeper = scope.spawn(|| acquire(words.semaphore(), Deadline::NEVER));
                    while words.sleepers.load(Ordering::Relaxed) == 0 {
                        std::thread::yield_now();
                    }
                    let cut_off = steps::abandon_after(names.len(), || words.semaphore().release());
                    assert!(sleeper.join().unwrap());
                    cut_off
                });
                assert_eq!(words.semaphore().value(), 0);
                match cut_off {
                    Ok(_) => break,
                    Err(steps::Abandoned(name)) => names.push(name),
                }
            }
            assert!(names.starts_with(&["semaphore.released", "ring.seen", "ring.counted"]), "{names:?}");
        }

        #[test]
        fn threads_take_as_many_as_were_released() {
            let words = Words::default();
            words.semaphore().reset(0, u32::MAX);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..5_000).for_each(|_| assert!(words.semaphore().release())));
                    scope.spawn(|| {
                        (0..5_000).for_each(|_| assert!(acquire(words.semaphore(), Deadline::NEVER)));
                    });
                }
            });
            assert_eq!(words.semaphore().value(), 0);
        }
    }
}
