//! The condition: a table of who waits, out of which a notifier calls the first ones.
//!
//! ```text
//! +0    next ticket     +8  seats in use (the table's length so far)
//! +64   seats of 64 bytes:
//!       +0  owner     the identity of the waiter's process; 0: free
//!       +8  ticket    who came earlier is called earlier
//!       +16 called    the next ticket when it was called: who came later can't inherit the call
//!       +24 state     idle, waiting, called
//!       +28 sleepers  see `doorbell::many`: the waiter sleeps in its seat
//! ```
//!
//! # Role in the flow
//!
//! The caller holds a lock of its own while it takes a seat and while it calls. It lets go of the lock, waits in its seat, takes the
//! lock again, and only then leaves the seat.
//!
//! # Invariants
//!
//! INV-CONDITION-1: a call stays in its seat until the waiter has the lock again. So a waiter that dies after it was called leaves
//! the call where another finds it.
//!
//! # Failure
//!
//! A waiter dies: a call in its seat is inherited by the next waiter that looks again (100 ms at the latest), unless that one
//! came after the call; without a call the seat is cleared. At worst, one call wakes two. A notifier dies: those it had
//! called are called.

use crate::doorbell::many;
use crate::identity::is_alive;
use crate::park::Patience;
use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

const SEATS_AT: usize = 64;
const SEAT_BYTES: usize = 64;

const IDLE: u32 = 0;
const WAITING: u32 = 1;
const CALLED: u32 = 2;

/// A waiter's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    number: u32,
    ticket: u64,
}

/// The words of a seat.
#[derive(Debug, Clone, Copy)]
struct Words<'a> {
    owner: &'a AtomicU64,
    ticket: &'a AtomicU64,
    called: &'a AtomicU64,
    state: &'a AtomicU32,
    sleepers: &'a AtomicU32,
}

impl Words<'_> {
    fn is(self, state: u32) -> bool {
        // Acquire: pairs with the Release of whoever called or enrolled.
        self.state.load(Ordering::Acquire) == state
    }

    /// Moves on from waiting; false if it was called, or left, before.
    fn move_on(self, to: u32) -> bool {
        // Release: pairs with the Acquire in `is`: the called one sees what was done before it was called.
        self.state.compare_exchange(WAITING, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn vacate(self) {
        self.state.store(IDLE, Ordering::Relaxed);
        step!("condition.idle");
        // Release: pairs with the Acquire of the next that takes the seat.
        self.owner.store(0, Ordering::Release);
    }
}

/// A view of a condition.
#[derive(Debug)]
pub struct Condition<'a, M> {
    memory: &'a M,
    at: usize,
    limit: u32,
}

impl<'a, M: Memory> Condition<'a, M> {
    /// The condition at `offset`, in a region of `length` bytes.
    pub fn over(memory: &'a M, offset: usize, length: usize) -> Self {
        let seats = length.saturating_sub(offset + SEATS_AT) / SEAT_BYTES;
        Self { memory, at: offset, limit: u32::try_from(seats).unwrap_or(u32::MAX) }
    }

    /// Bytes of shared memory for so many waiters.
    #[must_use]
    pub const fn bytes(seats: usize) -> usize {
        SEATS_AT + seats * SEAT_BYTES
    }

    fn next(&self) -> Result<&'a AtomicU64, Damaged> {
        self.memory.word(self.at)
    }

    fn used(&self) -> Result<&'a AtomicU32, Damaged> {
        self.memory.half(self.at + 8)
    }

    /// Seats that were ever taken, as far as there is room for.
    fn length(&self) -> Result<u32, Damaged> {
        // Acquire: pairs with the Release in `add_seat`.
        Ok(self.used()?.load(Ordering::Acquire).min(self.limit))
    }

    fn seat(&self, number: u32) -> Result<Words<'a>, Damaged> {
        let at = self.at + SEATS_AT + number as usize * SEAT_BYTES;
        Ok(Words {
            owner: self.memory.word(at)?,
            ticket: self.memory.word(at + 8)?,
            called: self.memory.word(at + 16)?,
            state: self.memory.half(at + 24)?,
            sleepers: self.memory.half(at + 28)?,
        })
    }

    fn seats(&self) -> Result<impl Iterator<Item = Result<(u32, Words<'a>), Damaged>>, Damaged> {
        Ok((0..self.length()?).map(|number| Ok((number, self.seat(number)?))))
    }

    /// Takes a seat for a waiter of the process `me`, which holds the lock; None: there are none left.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the table can't be right.
    pub fn enrol(&self, me: u64) -> Result<Option<Seat>, Damaged> {
        let number = match self.free_seat(me)? {
            Some(number) => number,
            None => match self.add_seat(me)? {
                Some(number) => number,
                None if self.sweep(me)? => return self.enrol(me),
                None => return Ok(None),
            },
        };
        step!("condition.seated");
        let seat = self.seat(number)?;
        // Relaxed: numbers only; the holder of the lock is the only one that counts.
        let ticket = self.next()?.fetch_add(1, Ordering::Relaxed);
        seat.ticket.store(ticket, Ordering::Relaxed);
        step!("condition.numbered");
        // Release: pairs with the Acquire in `is`.
        seat.state.store(WAITING, Ordering::Release);
        Ok(Some(Seat { number, ticket }))
    }

    fn free_seat(&self, me: u64) -> Result<Option<u32>, Damaged> {
        for seat in self.seats()? {
            let (number, words) = seat?;
            // Acquire: pairs with the Release in `vacate`.
            if words.owner.load(Ordering::Relaxed) == 0
                && words.owner.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn add_seat(&self, me: u64) -> Result<Option<u32>, Damaged> {
        let number = self.length()?;
        if number >= self.limit {
            return Ok(None);
        }
        let words = self.seat(number)?;
        words.state.store(IDLE, Ordering::Relaxed);
        words.sleepers.store(0, Ordering::Relaxed);
        words.owner.store(me, Ordering::Relaxed);
        step!("condition.made");
        // Release: pairs with the Acquire in `length`.
        self.used()?.store(number + 1, Ordering::Release);
        Ok(Some(number))
    }

    /// Frees the seats of the dead; were there any?
    fn sweep(&self, me: u64) -> Result<bool, Damaged> {
        let mut found = false;
        for seat in self.seats()? {
            let (_, words) = seat?;
            let owner = words.owner.load(Ordering::Relaxed);
            if owner != me && take_over(words, owner, me) {
                words.vacate();
                found = true;
            }
        }
        Ok(found)
    }

    /// Calls up to `count` waiters, those who came first; how many there were. For the holder of the lock.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the table can't be right.
    pub fn call(&self, count: u64) -> Result<u64, Damaged> {
        let mut called = 0;
        while called < count {
            let Some(words) = self.first_waiting(None)? else { break };
            // Relaxed: the state's change orders it.
            words.called.store(self.next()?.load(Ordering::Relaxed), Ordering::Relaxed);
            step!("condition.dated");
            if words.move_on(CALLED) {
                called += 1;
                step!("condition.called");
                many::ring(words.sleepers, 1);
            }
        }
        Ok(called)
    }

    /// Calls everybody who waits.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the table can't be right.
    pub fn call_all(&self) -> Result<(), Damaged> {
        let next = self.next()?.load(Ordering::Relaxed);
        for seat in self.seats()? {
            let (_, words) = seat?;
            if words.is(WAITING) {
                words.called.store(next, Ordering::Relaxed);
                if words.move_on(CALLED) {
                    step!("condition.called");
                    many::ring(words.sleepers, 1);
                }
            }
        }
        Ok(())
    }

    /// The waiter that came first, but for the one in the seat `besides`.
    fn first_waiting(&self, besides: Option<u32>) -> Result<Option<Words<'a>>, Damaged> {
        let mut first: Option<(u64, Words<'a>)> = None;
        for seat in self.seats()? {
            let (number, words) = seat?;
            let ticket = words.ticket.load(Ordering::Relaxed);
            if Some(number) != besides && words.is(WAITING) && first.is_none_or(|(least, _)| ticket < least) {
                first = Some((ticket, words));
            }
        }
        Ok(first.map(|(_, words)| words))
    }

    /// How many wait.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the table can't be right.
    pub fn waiting(&self) -> Result<u64, Damaged> {
        let mut count = 0;
        for seat in self.seats()? {
            count += u64::from(seat?.1.is(WAITING));
        }
        Ok(count)
    }

    /// Waits in the seat until called; false: not in time, and from then on nobody will call.
    ///
    /// # Errors
    ///
    /// What an interruption returns; the seat is still taken then.
    pub fn wait<E: From<Damaged>>(&self, seat: Seat, me: u64, patience: Patience<'_, E>) -> Result<bool, E> {
        let words = self.seat(seat.number)?;
        let look = || words.is(CALLED).then_some(());
        let overdue = || look().or_else(|| self.inherit(seat, me).ok().flatten());
        let called = patience.wait(words.sleepers, look, overdue)?.is_some();
        Ok(called || self.withdraw(seat)?)
    }

    /// Stops waiting; true if it has been called before that.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the table can't be right.
    pub fn withdraw(&self, seat: Seat) -> Result<bool, Damaged> {
        Ok(!self.seat(seat.number)?.move_on(IDLE))
    }

    /// Leaves the seat: the waiter has the lock again.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the table can't be right.
    pub fn leave(&self, seat: Seat) -> Result<(), Damaged> {
        self.seat(seat.number)?.vacate();
        Ok(())
    }

    /// Looks for a call that a dead waiter has left, and clears the seat of the first in the line if that one is dead.
    fn inherit(&self, seat: Seat, me: u64) -> Result<Option<()>, Damaged> {
        let mine = self.seat(seat.number)?;
        for other in self.seats()? {
            let (number, words) = other?;
            let owner = words.owner.load(Ordering::Relaxed);
            let is_for_us = number != seat.number && owner != me && words.is(CALLED);
            if is_for_us && words.called.load(Ordering::Relaxed) > seat.ticket && take_over(words, owner, me)
            {
                step!("condition.taken");
                mine.called.store(words.called.load(Ordering::Relaxed), Ordering::Relaxed);
                if mine.move_on(CALLED) {
                    step!("condition.inherited");
                    words.vacate();
                } else {
                    // We have just been called ourselves: it is for another.
                    words.owner.store(owner, Ordering::Release);
                }
                return Ok(Some(()));
            }
        }
        if let Some(words) = self.first_waiting(Some(seat.number))? {
            let owner = words.owner.load(Ordering::Relaxed);
            if owner != me && take_over(words, owner, me) {
                // Called just now, by who can't have known: then the call stays for who looks next.
                if words.move_on(IDLE) { words.vacate() } else { words.owner.store(owner, Ordering::Release) }
            }
        }
        Ok(None)
    }
}

/// Takes the seat of `owner`, if that process is dead.
fn take_over(words: Words<'_>, owner: u64, me: u64) -> bool {
    // Acquire: pairs with whatever the dead one wrote before; its death was seen through the kernel.
    owner != 0
        && !is_alive(owner)
        && words.owner.compare_exchange(owner, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests;
