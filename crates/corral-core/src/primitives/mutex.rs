//! The mutex, plain or recursive: a lock word, and which thread holds it how many times.
//!
//! ```text
//! +0   tenure (16 bytes)
//! +16  thread    of the holder: its process id and its own; 0 while free
//! +24  depth     how many times the holder has taken it
//! +32  poison    under "raise": the identity of a holder that died; 0: nobody did, or it was forgiven
//! ```
//!
//! # Invariants
//!
//! INV-MUTEX-1: `thread` and `depth` are written by the holder alone, and cleared before it lets go. Threads of two processes
//! never have the same mark, so what a dead holder left never looks like somebody's own.
//!
//! # Failure
//!
//! The holder dies at any instruction: the next one inherits the lock word and sets thread and depth anew.

use std::cell::Cell;

use crate::park::Patience;
use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::{AtomicU64, Ordering};
use crate::tenure::{Got, Tenure};
use crate::{identity, sys::process::own_thread_id};

/// May its holder take it again?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No; but anybody may release it.
    Plain,
    /// Yes; and nobody else may release it.
    Recursive,
}

/// Who asks: a process and a thread of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Me {
    /// The identity of the process.
    pub process: u64,
    /// The mark of the thread: two threads alive never have the same.
    pub thread: u64,
}

thread_local! {
    /// The process in which the mark was computed (a fork leaves the parent's here), and the mark.
    static MARK: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

impl Me {
    /// The calling thread.
    #[inline]
    #[must_use]
    pub fn current() -> Self {
        let process = identity::current();
        let (computed_in, thread) = MARK.get();
        if computed_in == process { Self { process, thread } } else { Self::compute(process) }
    }

    #[cold]
    fn compute(process: u64) -> Self {
        let thread = u64::from(identity::pid_of(process)) << 32 | u64::from(own_thread_id());
        MARK.set((process, thread));
        Self { process, thread }
    }
}

/// A view of a mutex.
#[derive(Debug, Clone, Copy)]
pub struct Mutex<'a> {
    tenure: Tenure<'a>,
    thread: &'a AtomicU64,
    depth: &'a AtomicU64,
    poison: &'a AtomicU64,
}

impl<'a> Mutex<'a> {
    /// Bytes of shared memory it takes; all zero is free.
    pub const BYTES: usize = 40;

    /// The mutex at `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    #[inline]
    pub fn over(memory: &'a impl Memory, offset: usize) -> Result<Self, Damaged> {
        Ok(Self {
            tenure: Tenure::over(memory, offset)?,
            thread: memory.word(offset + 16)?,
            depth: memory.word(offset + 24)?,
            poison: memory.word(offset + 32)?,
        })
    }

    /// Does this very thread hold it?
    #[inline]
    #[must_use]
    pub fn is_mine(self, me: Me) -> bool {
        // Relaxed: equal only if this thread wrote it (INV-MUTEX-1).
        self.thread.load(Ordering::Relaxed) == me.thread
    }

    /// The identity of the process that holds it, 0 if none does.
    #[must_use]
    pub fn holder(self) -> u64 {
        self.tenure.holder()
    }

    /// How many times the holder has taken it.
    #[must_use]
    pub fn depth(self) -> u64 {
        // Relaxed: for the holder, or as a hint.
        self.depth.load(Ordering::Relaxed)
    }

    /// Takes it once more, if this thread holds it.
    #[inline]
    #[must_use]
    pub fn take_again(self, me: Me) -> bool {
        if !self.is_mine(me) {
            return false;
        }
        // Relaxed: the holder's own word.
        self.depth.store(self.depth().saturating_add(1), Ordering::Relaxed);
        true
    }

    /// Takes it if it is free; asks nothing about the holder.
    #[inline]
    #[must_use]
    pub fn take(self, me: Me) -> bool {
        self.tenure.take(me.process) && {
            self.sign(me, 1);
            true
        }
    }

    /// Takes it if it is free or its holder is dead.
    #[must_use]
    pub fn try_acquire(self, me: Me) -> Option<Got> {
        let got = self.tenure.try_acquire(me.process)?;
        self.sign(me, 1);
        Some(got)
    }

    /// Takes it, waiting as `patience` says; None: not in time.
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    pub fn acquire<E>(self, me: Me, patience: Patience<'_, E>) -> Result<Option<Got>, E> {
        let got = self.tenure.acquire_patiently(me.process, patience)?;
        if got.is_some() {
            self.sign(me, 1);
        }
        Ok(got)
    }

    #[inline]
    fn sign(self, me: Me, depth: u64) {
        step!("mutex.taken");
        // Relaxed: the holder's own words; others only compare them with what they could have written themselves.
        self.depth.store(depth, Ordering::Relaxed);
        self.thread.store(me.thread, Ordering::Relaxed);
    }

    /// Releases it once, for the thread that holds it; how many times it is still taken, None if another or nobody holds it.
    #[inline]
    #[must_use]
    pub fn release_mine(self, me: Me) -> Option<u64> {
        if !self.is_mine(me) {
            return None;
        }
        let left = self.depth().saturating_sub(1);
        self.depth.store(left, Ordering::Relaxed);
        if left == 0 {
            self.let_go();
        }
        Some(left)
    }

    /// Releases it whoever holds it; false if nobody does.
    #[inline]
    #[must_use]
    pub fn release_any(self) -> bool {
        let holder = self.tenure.holder();
        if holder == 0 {
            return false;
        }
        self.thread.store(0, Ordering::Relaxed);
        step!("mutex.unsigned");
        self.tenure.release_of(holder)
    }

    /// Releases it altogether, for the thread that holds it; how many times it was taken.
    #[must_use]
    pub fn release_all(self) -> u64 {
        let depth = self.depth();
        self.let_go();
        depth
    }

    /// Says, right after acquiring, that it had been taken so many times.
    pub fn restore_depth(self, depth: u64) {
        self.depth.store(depth, Ordering::Relaxed);
    }

    #[inline]
    fn let_go(self) {
        // Relaxed: the lock word's release orders it.
        self.thread.store(0, Ordering::Relaxed);
        step!("mutex.unsigned");
        self.tenure.release();
    }

    /// The identity of the dead holder that nobody has forgiven yet, 0 if there is none. For the holder.
    #[inline]
    #[must_use]
    pub fn poison(self) -> u64 {
        // Relaxed: the lock orders it.
        self.poison.load(Ordering::Relaxed)
    }

    /// Remembers, or with 0 forgives, that a holder died. For the holder.
    pub fn set_poison(self, identity: u64) {
        self.poison.store(identity, Ordering::Relaxed);
    }
}
