//! The robust lock word: one compare-and-swap takes it and names the taker, and what a dead process held is inherited.
//!
//! ```text
//! +0   owner     0: free, else the identity of the process that holds it
//! +8   sleepers  see `doorbell::many`
//! +12  (unused)
//! ```
//!
//! # Role in the flow
//!
//! Guards what several processes change: locks, barriers, the two ends of a channel. Between the threads of one process it
//! excludes as well; who of them holds it is not recorded here.
//!
//! # Invariants
//!
//! INV-TENURE-1: the owner word changes from 0 to an identity, from a dead one to a living one, and to 0, by one atomic step
//! each. So at most one living process holds it, and there is no instant at which nobody can tell who.
//! INV-TENURE-2: who waits looks again after 100 ms at the latest ([`crate::park`]), also at whether the holder lives.
//!
//! # Failure
//!
//! The holder dies: the next one gets it as [`Got::Inherited`] and must repair what it guards before use. A releaser dies
//! before it has woken anybody, or a sleeper after it was woken: INV-TENURE-2.

use crate::doorbell::many;
use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

#[cfg(not(loom))]
use crate::{
    identity::is_alive,
    park::{Interrupted, Patience},
    wait::{Deadline, Spin},
};

/// Nobody dies in a model.
#[cfg(loom)]
fn is_alive(_identity: u64) -> bool {
    true
}

/// How a tenure was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what a dead holder guarded must be repaired"]
pub enum Got {
    /// It was free.
    Free,
    /// From the dead process of this identity, in whatever state it left what it guarded.
    Inherited(u64),
}

/// A view of a lock word.
#[derive(Debug, Clone, Copy)]
pub struct Tenure<'a> {
    owner: &'a AtomicU64,
    sleepers: &'a AtomicU32,
}

impl<'a> Tenure<'a> {
    /// Bytes of shared memory it takes, on an 8-byte boundary; all zero is free.
    pub const BYTES: usize = 16;

    /// The lock word at `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    #[inline]
    pub fn over(memory: &'a impl Memory, offset: usize) -> Result<Self, Damaged> {
        Ok(Self { owner: memory.word(offset)?, sleepers: memory.half(offset + 8)? })
    }

    /// Makes it free, whatever it was: only before others know of it.
    pub fn reset(self) {
        // Relaxed: others learn of it through something that orders this before.
        self.owner.store(0, Ordering::Relaxed);
        self.sleepers.store(0, Ordering::Relaxed);
    }

    /// The identity of the process that holds it, 0 if none does.
    #[inline]
    #[must_use]
    pub fn holder(self) -> u64 {
        // Relaxed: for the holder itself, or as a hint.
        self.owner.load(Ordering::Relaxed)
    }

    /// Takes it if it is free; asks nothing about the holder. `me` is the caller's identity.
    #[inline]
    #[must_use]
    pub fn take(self, me: u64) -> bool {
        // Acquire: pairs with the Release in `release`: what the last holder did is seen.
        self.owner.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes it if its holder is dead.
    #[must_use]
    pub fn inherit(self, me: u64) -> Option<Got> {
        let holder = self.owner.load(Ordering::Relaxed);
        if holder == 0 {
            return self.take(me).then_some(Got::Free);
        }
        if holder == me || is_alive(holder) {
            return None;
        }
        step!("tenure.dead");
        // Acquire: what the dead one did comes to be seen as far as it got: its death, seen through the kernel, is after all of it.
        self.owner
            .compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
            .then_some(Got::Inherited(holder))
    }

    /// Takes it if it is free or its holder is dead (asking that costs some microseconds).
    #[inline]
    #[must_use]
    pub fn try_acquire(self, me: u64) -> Option<Got> {
        if self.take(me) { Some(Got::Free) } else { self.inherit(me) }
    }

    /// Takes it, waiting until the deadline at most: spinning for `spin_ns` as far as that pays, then asleep. None: not in time.
    ///
    /// # Errors
    ///
    /// What `interrupted` returns, which is called when a signal has, or may have, arrived.
    #[cfg(not(loom))]
    pub fn acquire<E>(
        self,
        me: u64,
        deadline: Deadline,
        (spin, spin_ns): (&mut Spin, u64),
        interrupted: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<Option<Got>, E> {
        if self.take(me) {
            return Ok(Some(Got::Free));
        }
        let patience = Patience { deadline, spin_ns, spin, interrupted: Interrupted(interrupted) };
        self.acquire_patiently(me, patience)
    }

    /// As [`Tenure::acquire`].
    ///
    /// # Errors
    ///
    /// What an interruption returns.
    #[cfg(not(loom))]
    pub fn acquire_patiently<E>(self, me: u64, patience: Patience<'_, E>) -> Result<Option<Got>, E> {
        // Looked at before it is swapped: spinners then share the cache line, and don't take it from the holder.
        let look = || (self.holder() == 0 && self.take(me)).then_some(Got::Free);
        patience.wait(self.sleepers, look, || self.inherit(me))
    }

    /// Gives it back, and wakes one sleeper if there may be any. Only for the holder.
    #[inline]
    pub fn release(self) {
        // Release: pairs with the Acquire in `take`.
        self.owner.store(0, Ordering::Release);
        step!("tenure.released");
        many::ring(self.sleepers, 1);
    }

    /// As [`Tenure::release`], unless `holder` doesn't hold it (any more): false.
    #[inline]
    #[must_use]
    pub fn release_of(self, holder: u64) -> bool {
        // Release: pairs with the Acquire in `take`.
        let released = self.owner.compare_exchange(holder, 0, Ordering::Release, Ordering::Relaxed).is_ok();
        if released {
            step!("tenure.released");
            many::ring(self.sleepers, 1);
        }
        released
    }

    /// The word that waiters sleep on, for a model.
    #[cfg(all(test, loom))]
    pub(crate) fn sleepers(self) -> &'a AtomicU32 {
        self.sleepers
    }
}

#[cfg(test)]
mod tests;
