//! The barrier: nobody passes until all have come.
//!
//! ```text
//! +0   tenure (16 bytes)   held while somebody comes, completes or resets
//! +16  word      generation (32 bits), state (2), how many have come (30)
//! +24  sleepers  see `doorbell::many`
//! +28  parties
//! +32  undone    bit g % 64: generation g was ended by a reset
//! +64  who came: two rows of identities, for even and odd generations
//! ```
//!
//! # Invariants
//!
//! INV-BARRIER-1: the word changes by compare-and-swap; a coming is its change from n to n + 1, after the identity was written.
//! INV-BARRIER-2: the row of the last generation that was passed stands until the next but one begins.
//!
//! # Failure
//!
//! Whoever dies while it holds the lock word has changed the word or has not; there is nothing to repair. Who waits looks again
//! at those who came, and at those who passed the last time: one of them is dead, and the barrier breaks. Processes that end in an
//! orderly way say so ([`Barrier::retire`]).

use crate::doorbell::many;
use crate::identity::is_alive;
use crate::park::{Interrupted, Patience};
use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::tenure::Tenure;
use crate::wait::{Deadline, Spin};

const ROWS_AT: usize = 64;
/// More parties than this can't be counted.
pub const MOST_PARTIES: u32 = (1 << 30) - 1;

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They are coming.
    Filling,
    /// All are here, the last one runs the action.
    Acting,
    /// Nobody passes any more.
    Broken,
}

/// The word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    generation: u32,
    state: State,
    count: u32,
    /// As it stood there: damaged bits would not come back from the rest.
    raw: u64,
}

impl Moment {
    fn of(word: u64) -> Self {
        let state = match word >> 30 & 3 {
            0 => State::Filling,
            1 => State::Acting,
            _ => State::Broken,
        };
        let count = u32::try_from(word & u64::from(MOST_PARTIES)).unwrap_or(0);
        Self { generation: u32::try_from(word >> 32).unwrap_or(0), state, count, raw: word }
    }

    fn word(self) -> u64 {
        let state: u64 = match self.state {
            State::Filling => 0,
            State::Acting => 1,
            State::Broken => 2,
        };
        u64::from(self.generation) << 32 | state << 30 | u64::from(self.count)
    }

    fn next_generation(self) -> Self {
        Self { generation: self.generation.wrapping_add(1), state: State::Filling, count: 0, ..self }
    }
}

/// Having come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coming {
    generation: u32,
    /// How many came before.
    pub index: u32,
    /// All are here: run the action and complete.
    pub is_last: bool,
}

/// A view of a barrier.
#[derive(Debug)]
pub struct Barrier<'a, M> {
    memory: &'a M,
    at: usize,
    tenure: Tenure<'a>,
    word: &'a AtomicU64,
    sleepers: &'a AtomicU32,
    parties: u32,
    undone: &'a AtomicU64,
}

impl<'a, M: Memory> Barrier<'a, M> {
    /// The barrier at `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    pub fn over(memory: &'a M, offset: usize) -> Result<Self, Damaged> {
        // Relaxed: never changed once others know of it.
        let parties = memory.half(offset + 28)?.load(Ordering::Relaxed);
        // Both rows lie inside.
        memory.word(offset + Self::bytes(parties) - 8)?;
        Ok(Self {
            memory,
            at: offset,
            tenure: Tenure::over(memory, offset)?,
            word: memory.word(offset + 16)?,
            sleepers: memory.half(offset + 24)?,
            parties,
            undone: memory.word(offset + 32)?,
        })
    }

    /// Bytes of shared memory for so many parties.
    #[must_use]
    pub const fn bytes(parties: u32) -> usize {
        ROWS_AT + 16 * parties as usize
    }

    /// Makes a barrier at `offset`, in memory whose first bytes are zero: only before others know of it.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    pub fn make(memory: &'a M, offset: usize, parties: u32) -> Result<Self, Damaged> {
        memory.half(offset + 28)?.store(parties, Ordering::Relaxed);
        let barrier = Self::over(memory, offset)?;
        barrier.forget_all()?;
        Ok(barrier)
    }

    fn cell(&self, generation: u32, index: u32) -> Result<&'a AtomicU64, Damaged> {
        let row = (generation % 2) as usize * self.parties as usize;
        self.memory.word(self.at + ROWS_AT + 8 * (row + index as usize))
    }

    fn forget_all(&self) -> Result<(), Damaged> {
        for index in 0..self.parties {
            self.cell(0, index)?.store(0, Ordering::Relaxed);
            self.cell(1, index)?.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    fn moment(&self) -> Moment {
        // Acquire: pairs with the Release in `change`: who passes sees what was done before the others came.
        Moment::of(self.word.load(Ordering::Acquire))
    }

    fn change(&self, from: Moment, to: Moment) -> bool {
        // Release: pairs with the Acquire in `moment`; Acquire: so that the chain of comings is one.
        self.word.compare_exchange(from.raw, to.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// How many must come.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.parties
    }

    /// What goes on, and how many have come.
    #[must_use]
    pub fn state(&self) -> (State, u32) {
        let now = self.moment();
        (now.state, now.count)
    }

    /// Runs `work` while holding the lock word; what the dead left needs no repair.
    fn guarded<T, E>(
        &self,
        me: u64,
        interrupted: &mut dyn FnMut() -> Result<(), E>,
        work: impl FnOnce() -> T,
    ) -> Result<T, E> {
        let mut spin = Spin::default();
        let limits = (&mut spin, crate::wait::spin_limit_ns());
        // Without a deadline there is no outcome but having it.
        let _ = self.tenure.acquire(me, Deadline::NEVER, limits, interrupted)?;
        let outcome = work();
        self.tenure.release();
        Ok(outcome)
    }

    /// Comes; None: the barrier is broken. `acts`: the last one will run an action, and then [`Barrier::complete`].
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    pub fn come<E: From<Damaged>>(
        &self,
        me: u64,
        acts: bool,
        patience: Patience<'_, E>,
    ) -> Result<Option<Coming>, E> {
        let Patience { deadline, spin_ns, spin, interrupted: Interrupted(interrupted) } = patience;
        loop {
            let seen = self.guarded(me, interrupted, || self.step_in(me, acts))??;
            match seen {
                Ok(coming) => return Ok(Some(coming)),
                Err(State::Broken) => return Ok(None),
                Err(_) => {}
            }
            // More than there are parties: the last one is still running the action.
            let then = self.moment();
            let look = || (self.moment() != then || then.state != State::Acting).then_some(());
            let patience =
                Patience { deadline, spin_ns, spin: &mut *spin, interrupted: Interrupted(&mut *interrupted) };
            if patience.wait(self.sleepers, look, || self.bury(then, 0).then_some(()))?.is_none() {
                self.abort();
                return Ok(None);
            }
        }
    }

    /// One coming, with the lock word held.
    fn step_in(&self, me: u64, acts: bool) -> Result<Result<Coming, State>, Damaged> {
        loop {
            let now = self.moment();
            if now.state != State::Filling {
                return Ok(Err(now.state));
            }
            let index = now.count;
            let is_last = index + 1 >= self.parties;
            if index < self.parties {
                self.cell(now.generation, index)?.store(me, Ordering::Relaxed);
            }
            step!("barrier.written");
            let next = match (is_last, acts) {
                (false, _) => Moment { count: index + 1, ..now },
                (true, true) => Moment { count: index + 1, state: State::Acting, ..now },
                (true, false) => self.passed(now),
            };
            // Not changed: somebody has just broken it.
            if self.change(now, next) {
                step!("barrier.came");
                if is_last && !acts {
                    many::ring(self.sleepers, u32::MAX);
                }
                return Ok(Ok(Coming { generation: now.generation, index, is_last }));
            }
        }
    }

    /// What comes after a generation that is passed. With the lock word held.
    fn passed(&self, now: Moment) -> Moment {
        self.undone.fetch_and(!(1 << (now.generation % 64)), Ordering::Relaxed);
        step!("barrier.redone");
        now.next_generation()
    }

    /// Lets the others pass, after the action; false: it was broken or reset meanwhile.
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    pub fn complete<E>(
        &self,
        me: u64,
        coming: Coming,
        interrupted: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        self.guarded(me, interrupted, || {
            let now = self.moment();
            let is_ours = now.generation == coming.generation && now.state == State::Acting;
            let done = is_ours && self.change(now, self.passed(now));
            if done {
                step!("barrier.passed");
                many::ring(self.sleepers, u32::MAX);
            }
            done
        })
    }

    /// Waits until all have come; false: the barrier was broken, by us if the time is up or somebody has died.
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    pub fn wait<E>(&self, coming: Coming, patience: Patience<'_, E>) -> Result<bool, E> {
        let look = || self.outcome(coming);
        let overdue = || self.outcome(coming).or_else(|| self.bury_for(coming));
        match patience.wait(self.sleepers, look, overdue)? {
            Some(passed) => Ok(passed),
            None => {
                let now = self.moment();
                self.break_up(now, coming.generation);
                Ok(self.outcome(coming).unwrap_or(false))
            }
        }
    }

    /// What became of the generation in which one came; None: it goes on.
    fn outcome(&self, coming: Coming) -> Option<bool> {
        let now = self.moment();
        if now.generation == coming.generation {
            return (now.state == State::Broken).then_some(false);
        }
        Some(self.undone.load(Ordering::Relaxed) & 1 << (coming.generation % 64) == 0)
    }

    fn bury_for(&self, coming: Coming) -> Option<bool> {
        let now = self.moment();
        let is_ours = now.generation == coming.generation;
        (is_ours && self.bury(now, coming.index)).then_some(false)
    }

    /// Breaks the barrier if one of those whom the `index`th has to look after is dead. The work is divided among those who wait.
    fn bury(&self, now: Moment, index: u32) -> bool {
        let count = now.count.clamp(1, self.parties.max(1));
        let neighbour = (index + 1) % count;
        let before = now.generation.wrapping_sub(1);
        let is_dead = |generation: u32, index: u32| {
            // Relaxed: an identity stands for itself.
            let identity = self.cell(generation, index).map_or(0, |cell| cell.load(Ordering::Relaxed));
            identity != 0 && !is_alive(identity)
        };
        let mut watched = (index % count..self.parties).step_by(count as usize);
        let dead = is_dead(now.generation, neighbour) || watched.any(|index| is_dead(before, index));
        dead && self.break_up(now, now.generation)
    }

    /// Breaks the generation `generation`, if that is what goes on; has it been?
    fn break_up(&self, mut now: Moment, generation: u32) -> bool {
        while now.generation == generation && now.state != State::Broken {
            if self.change(now, Moment { state: State::Broken, ..now }) {
                step!("barrier.broken");
                many::ring(self.sleepers, u32::MAX);
                return true;
            }
            now = self.moment();
        }
        false
    }

    /// Breaks the barrier.
    pub fn abort(&self) {
        loop {
            let now = self.moment();
            if now.state == State::Broken || self.break_up(now, now.generation) {
                return;
            }
        }
    }

    /// Makes it as new; who waits gets an error.
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    pub fn reset<E: From<Damaged>>(
        &self,
        me: u64,
        interrupted: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        self.guarded(me, interrupted, || {
            loop {
                let now = self.moment();
                if now.count == 0 && now.state == State::Filling {
                    return self.forget_all();
                }
                self.undone.fetch_or(1 << (now.generation % 64), Ordering::Relaxed);
                step!("barrier.undone");
                self.forget_all()?;
                if self.change(now, now.next_generation()) {
                    step!("barrier.reset");
                    many::ring(self.sleepers, u32::MAX);
                    return Ok(());
                }
            }
        })??;
        Ok(())
    }

    /// The process `me` will not come again: its end does not break the barrier.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the rows can't be right.
    pub fn retire(&self, me: u64) -> Result<(), Damaged> {
        let before = self.moment().generation.wrapping_sub(1);
        for index in 0..self.parties {
            // Relaxed: an identity stands for itself.
            let _ = self.cell(before, index)?.compare_exchange(me, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
