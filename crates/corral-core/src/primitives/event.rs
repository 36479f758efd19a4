//! The event: a flag to wait for.
//!
//! ```text
//! +0   state     bit 0: set; above: how many times it was set
//! +8   sleepers  see `doorbell::many`
//! ```
//!
//! Counting lets a waiter see that the event was set, though it was cleared again before the waiter came to look.
//!
//! # Failure
//!
//! Setting takes effect by one store; a setter that dies before it has woken the sleepers leaves that to their next look.

use crate::doorbell::many;
use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use crate::park::Patience;

const SET: u64 = 1;
const TIME: u64 = 2;

/// A view of an event.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    state: &'a AtomicU64,
    sleepers: &'a AtomicU32,
}

impl<'a> Event<'a> {
    /// Bytes of shared memory it takes; all zero is not set.
    pub const BYTES: usize = 16;

    /// The event at `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    #[inline]
    pub fn over(memory: &'a impl Memory, offset: usize) -> Result<Self, Damaged> {
        Ok(Self { state: memory.word(offset)?, sleepers: memory.half(offset + 8)? })
    }

    /// Is it set?
    #[inline]
    #[must_use]
    pub fn is_set(self) -> bool {
        // Acquire: pairs with the Release in `set`: what was done before is seen.
        self.state.load(Ordering::Acquire) & SET != 0
    }

    /// Sets it and wakes all sleepers.
    #[inline]
    pub fn set(self) {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            // Counted also where it is set already: the store then still orders what was done before it.
            let next = seen.wrapping_add(TIME) | SET;
            // Release: pairs with the Acquires in `is_set` and `has_come`.
            match self.state.compare_exchange_weak(seen, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        step!("event.set");
        many::ring(self.sleepers, u32::MAX);
    }

    /// Clears it.
    #[inline]
    pub fn clear(self) {
        // Relaxed: nothing is said by it but itself.
        self.state.fetch_and(!SET, Ordering::Relaxed);
    }

    /// What has been so far, for a wait that begins now.
    #[inline]
    #[must_use]
    pub fn now(self) -> u64 {
        // Acquire: as in `is_set`.
        self.state.load(Ordering::Acquire)
    }

    /// Is it set, or was it since `then`?
    #[inline]
    #[must_use]
    pub fn has_come(self, then: u64) -> bool {
        // Acquire: pairs with the Release in `set`.
        let now = self.state.load(Ordering::Acquire);
        now & SET != 0 || now / TIME != then / TIME
    }

    /// Waits until it is set, or was since `then`; false: not in time.
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    #[cfg(not(loom))]
    pub fn wait<E>(self, then: u64, patience: Patience<'_, E>) -> Result<bool, E> {
        let look = || self.has_come(then).then_some(());
        Ok(patience.wait(self.sleepers, look, look)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Words {
        state: AtomicU64,
        sleepers: AtomicU32,
    }

    impl Words {
        fn event(&self) -> Event<'_> {
            Event { state: &self.state, sleepers: &self.sleepers }
        }
    }

    #[cfg(loom)]
    #[test]
    fn loom_two_waiters_hear_of_it_although_it_is_cleared_at_once() {
        use loom::{sync::Arc, thread};

        loom::model(|| {
            let words = Arc::new(Words::default());
            let waiters = [(); 2].map(|()| {
                let words = Arc::clone(&words);
                let then = words.event().now();
                thread::spawn(move || {
                    while !words.event().has_come(then) {
                        let ticket = many::enrol(words.event().sleepers);
                        if !words.event().has_come(then) {
                            crate::sys::futex::wait(words.event().sleepers, ticket, None).unwrap();
                        }
                    }
                })
            });
            words.event().set();
            words.event().clear();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        });
    }

    #[cfg(not(loom))]
    mod real {
        use std::convert::Infallible;

        use super::*;
        use crate::park::Interrupted;
        use crate::steps;
        use crate::wait::{Deadline, Spin};

        fn wait(event: Event<'_>, then: u64, deadline: Deadline) -> bool {
            let mut go_on = || Ok::<_, Infallible>(());
            let (spin, interrupted) = (&mut Spin::default(), Interrupted(&mut go_on));
            event.wait(then, Patience { deadline, spin_ns: 1_000, spin, interrupted }).unwrap()
        }

        #[test]
        fn it_is_set_cleared_and_remembered_by_who_waits() {
            let words = Words::default();
            let event = words.event();
            let then = event.now();
            assert!(!event.is_set() && !wait(event, then, Deadline::PASSED));
            event.set();
            assert!(event.is_set() && wait(event, event.now(), Deadline::PASSED));
            event.clear();
            assert!(!event.is_set() && wait(event, then, Deadline::PASSED));
            assert!(!wait(event, event.now(), Deadline::PASSED));
        }

        #[test]
        fn a_setter_cut_off_anywhere_is_heard() {
            let mut names = Vec::new();
            loop {
                let words = Words::default();
                let cut_off = std::thread::scope(|scope| {
                    let then = words.event().now();
                    let words = &words;
                    let waiter = scope.spawn(move || wait(words.event(), then, Deadline::NEVER));
                    while words.sleepers.load(Ordering::Relaxed) == 0 {
                        std::thread::yield_now();
                    }
                    let cut_off = steps::abandon_after(names.len(), || words.event().set());
                    assert!(waiter.join().unwrap());
                    cut_off
                });
                match cut_off {
                    Ok(()) => break,
                    Err(steps::Abandoned(name)) => names.push(name),
                }
            }
            assert!(names.starts_with(&["event.set", "ring.seen", "ring.counted"]), "{names:?}");
        }
    }
}
