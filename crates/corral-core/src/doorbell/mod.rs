//! Waking a sleeper only when somebody sleeps: an eventcount over one word of shared memory.
//!
//! # Role in the flow
//!
//! Whoever has just made something visible (a frame, room in a ring) rings; whoever waits for it looks, enrols, looks
//! again, and only then sleeps. Where one sleeps is not decided here: a worker on a futex over the word itself, a parent on an
//! eventfd ([`Bell`](crate::bell::Bell)).
//!
//! # Invariants
//!
//! `ring/README.md` has the proof sketch; `loom_tests` below runs it.
//! INV-BELL-1: between making visible and reading the word, and between writing the word and looking, there is a
//! `fence(SeqCst)`: so either the ringer sees the sleeper, or the sleeper sees what was made visible.
//! INV-BELL-2: a ring answers the enrolment it has seen and no later one (each has a number of its own).
//!
//! # Failure
//!
//! A ringer that dies before it wakes anybody is replaced by its own death: worker and parent each watch the other's.
//! With several ringers ([`Pending`]) the sleeper is woken first and marked answered afterwards, so that
//! no ringer relies on another that may be dead or suspended.

use crate::sync::{AtomicU32, Ordering, fence};

pub mod many;

/// A word with one sleeper and one ringer: the sleeper sleeps on the word itself.
pub mod single {
    use std::io;
    use std::time::Duration;

    use super::{AtomicU32, Ordering, fence};
    use crate::sys::futex::{self, Woken};

    const ASLEEP: u32 = 1;
    const NUMBER: u32 = 2;

    /// Announces that the caller is about to sleep. It must look again now, and then sleep while the word holds the result.
    fn enrol(word: &AtomicU32) -> u32 {
        // Relaxed: only the sleeper sets the bit; the fence orders the store before the look that follows.
        let ticket = (word.load(Ordering::Relaxed) & !ASLEEP).wrapping_add(NUMBER) | ASLEEP;
        word.store(ticket, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `answer` (INV-BELL-1).
        fence(Ordering::SeqCst);
        ticket
    }

    /// Takes the announcement back: the caller is awake.
    fn withdraw(word: &AtomicU32, ticket: u32) {
        // Relaxed: a ringer that still sees the old value wakes nobody, for nothing.
        word.store(ticket & !ASLEEP, Ordering::Relaxed);
    }

    /// Must the caller wake the sleeper? True once per enrolment.
    #[inline]
    fn answer(word: &AtomicU32) -> bool {
        // SeqCst: pairs with the fence in `enrol` (INV-BELL-1).
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence; a stale value is one that was enrolled before what the sleeper looks at now.
        let seen = word.load(Ordering::Relaxed);
        seen & ASLEEP != 0 && clear(word, seen)
    }

    /// After something was made visible: wakes the sleeper, if there is one.
    #[inline]
    pub fn ring(word: &AtomicU32) {
        if answer(word) {
            futex::wake(word, 1);
        }
    }

    /// Enrols, looks again, and sleeps for what `remaining` then says (None: without an end).
    ///
    /// # Errors
    ///
    /// The system's: none is expected.
    pub fn sleep(
        word: &AtomicU32,
        remaining: impl FnOnce() -> Option<Duration>,
        mut is_ready: impl FnMut() -> bool,
    ) -> io::Result<Woken> {
        let ticket = enrol(word);
        let woken = if is_ready() { Ok(Woken::Changed) } else { futex::wait(word, ticket, remaining()) };
        withdraw(word, ticket);
        woken
    }

    #[cold]
    fn clear(word: &AtomicU32, seen: u32) -> bool {
        // Relaxed: a failure means that the sleeper has woken and looked, or enrolled anew after our fence, and so looks after it.
        word.compare_exchange(seen, seen & !ASLEEP, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Which of a parent's two waiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Role {
    /// The caller's own thread, in `result()` or `map()`: it is served first.
    Foreground = 1,
    /// The driver thread, for when nobody waits in the foreground.
    Background = 2,
}

/// A word with two sleepers and any number of ringers, who wake by another means (an eventfd).
pub mod shared {
    use super::{AtomicU32, Ordering, Pending, Role, fence};

    pub(super) const SLEEPERS: u32 = Role::Foreground as u32 | Role::Background as u32;
    const NUMBER: u32 = 4;

    /// Announces that `role` is about to sleep. It must look again now.
    pub fn enrol(word: &AtomicU32, role: Role) {
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let next = seen.wrapping_add(NUMBER) | role as u32;
            // Relaxed: the fence below orders it before the look that follows.
            match word.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        // SeqCst: pairs with the fence in `pending` (INV-BELL-1).
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement of `role` back.
    pub fn withdraw(word: &AtomicU32, role: Role) {
        // Relaxed: a ringer that still sees the bit rings for nothing.
        word.fetch_and(!(role as u32), Ordering::Relaxed);
    }

    /// Is `role` announced?
    #[inline]
    #[must_use]
    pub fn is_enrolled(word: &AtomicU32, role: Role) -> bool {
        // Relaxed: who needs an order has a fence before this (`WaitSet`'s foreground).
        word.load(Ordering::Relaxed) & role as u32 != 0
    }

    /// After something was made visible: whom to wake, if anybody sleeps. Wake first, then [`Pending::answered`].
    #[inline]
    #[must_use]
    pub fn pending(word: &AtomicU32) -> Option<Pending> {
        // SeqCst: pairs with the fence in `enrol` (INV-BELL-1).
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        let seen = word.load(Ordering::Relaxed);
        (seen & SLEEPERS != 0).then_some(Pending { seen })
    }
}

/// Sleepers that a ringer has seen.
#[derive(Debug, Clone, Copy)]
#[must_use = "wake them"]
pub struct Pending {
    seen: u32,
}

impl Pending {
    /// Marks the sleepers seen as woken, unless one has enrolled since (INV-BELL-2).
    pub fn answered(self, word: &AtomicU32) {
        let answered = self.seen & !shared::SLEEPERS;
        // Relaxed: this only spares other ringers a system call.
        let _ = word.compare_exchange(self.seen, answered, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
