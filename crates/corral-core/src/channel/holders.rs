//! Who has received items and not yet done with them: so that nobody waits for the dead to be done.
//!
//! Kept for channels that were made for it only. Each process that receives has a slot, with a count of what it has taken and of what it has
//! said to be done; the first changes in the consumers' turn, beside the commit, the second when it says so.
//!
//! # Invariants
//!
//! INV-CHANNEL-7: what a process has taken is counted if and only if the commit was made: an intent says what the count was before.
//!
//! # Failure
//!
//! An item counts as abandoned when the process that received it has died, also if it had passed it on; not if it has signed off. With
//! more than [`layout::HOLDERS`] processes at a time the others are not counted, and their items are waited for.

use super::layout::{self, HOLDER_BYTES, HOLDERS, HOLDERS_AT};
use super::{Channel, ChannelError, Waiting};
use crate::identity::is_alive;
use crate::region::Damaged;
use crate::steps::step;
use crate::sync::{AtomicU64, Ordering};
use crate::wait::Deadline;

/// A slot's words.
struct Holder<'a> {
    who: &'a AtomicU64,
    taken: &'a AtomicU64,
    done: &'a AtomicU64,
}

impl Holder<'_> {
    /// What it has taken and not done with; negative: it did with what others had taken.
    fn held(&self) -> i64 {
        // Relaxed: counts, which are looked at again.
        let (taken, done) = (self.taken.load(Ordering::Relaxed), self.done.load(Ordering::Relaxed));
        taken.wrapping_sub(done).cast_signed()
    }
}

impl Channel {
    /// Has it be known who holds what was received. Before anybody else attaches.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Damaged`].
    pub fn count_holders(&mut self) -> Result<(), ChannelError> {
        // Relaxed: others learn of the channel by a launch or a fork, which orders this before.
        self.word(layout::COUNTED_AT)?.store(1, Ordering::Relaxed);
        self.counted = true;
        Ok(())
    }

    fn holder(&self, number: usize) -> Result<Holder<'_>, Damaged> {
        let at = HOLDERS_AT + number * HOLDER_BYTES;
        Ok(Holder { who: self.word(at)?, taken: self.word(at + 8)?, done: self.word(at + 16)? })
    }

    fn holders(&self) -> impl Iterator<Item = Holder<'_>> {
        (0..HOLDERS).map_while(|number| self.holder(number).ok())
    }

    /// The slot of `me`, if it has one.
    fn slot_of(&self, me: u64) -> Option<usize> {
        // Relaxed, here and below: only its own process, or the holder of the consumers' tenure, changes who has a slot.
        let is_mine =
            |number: usize| self.holder(number).is_ok_and(|slot| slot.who.load(Ordering::Relaxed) == me);
        let known = usize::try_from(self.slot.load(Ordering::Relaxed)).unwrap_or(HOLDERS);
        if known < HOLDERS && is_mine(known) {
            return Some(known);
        }
        let found = (0..HOLDERS).find(|&number| is_mine(number))?;
        self.slot.store(found as u64, Ordering::Relaxed);
        Some(found)
    }

    /// The slot of `me`, taken now if it has none; in the consumers' turn.
    fn claim_slot(&self, me: u64) -> Option<usize> {
        if let Some(number) = self.slot_of(me) {
            return Some(number);
        }
        let is_free = |slot: &Holder<'_>| {
            let who = slot.who.load(Ordering::Relaxed);
            who == 0 || (slot.held() == 0 && !is_alive(who))
        };
        let (number, slot) = self.holders().enumerate().find(|(_, slot)| is_free(slot))?;
        // The counts go on: they are equal.
        slot.who.store(me, Ordering::Relaxed);
        step!("hold.claimed");
        Some(number)
    }

    /// Counts items as held by `me`, just before the commit that makes the consumers' word `target`; in their turn. To be settled.
    #[inline]
    pub(super) fn hold(&self, me: u64, items: u64, target: u64) -> Result<bool, ChannelError> {
        if self.counted { self.hold_counted(me, items, target) } else { Ok(false) }
    }

    fn hold_counted(&self, me: u64, items: u64, target: u64) -> Result<bool, ChannelError> {
        let Some(number) = self.claim_slot(me) else { return Ok(false) };
        let taken = self.holder(number)?.taken;
        let before = taken.load(Ordering::Relaxed);
        self.word(layout::HOLD_BEFORE_AT)?.store(before, Ordering::Relaxed);
        self.word(layout::HOLD_TARGET_AT)?.store(target, Ordering::Relaxed);
        // Release: a successor that sees the intent sees what it says.
        self.word(layout::HOLD_SLOT_AT)?.store(number as u64 + 1, Ordering::Release);
        step!("hold.intended");
        taken.store(before.wrapping_add(items), Ordering::Relaxed);
        step!("hold.counted");
        Ok(true)
    }

    /// After the commit.
    pub(super) fn settle_hold(&self) -> Result<(), ChannelError> {
        self.word(layout::HOLD_SLOT_AT)?.store(0, Ordering::Relaxed);
        step!("hold.settled");
        Ok(())
    }

    /// What a dead consumer had counted and not committed was never taken.
    pub(super) fn repair_hold(&self) -> Result<(), ChannelError> {
        let slot = self.word(layout::HOLD_SLOT_AT)?.load(Ordering::Acquire);
        if let Some(number) = slot.checked_sub(1).and_then(|number| usize::try_from(number).ok()) {
            let committed = self.committed(layout::CONSUMERS_AT)?.word();
            if committed != self.word(layout::HOLD_TARGET_AT)?.load(Ordering::Relaxed) && number < HOLDERS {
                let before = self.word(layout::HOLD_BEFORE_AT)?.load(Ordering::Relaxed);
                self.holder(number)?.taken.store(before, Ordering::Relaxed);
                step!("repair.unheld");
            }
            self.settle_hold()?;
        }
        Ok(())
    }

    /// Counts an item of `me`'s as done.
    pub(super) fn let_go(&self, me: u64) -> Result<(), ChannelError> {
        if self.counted {
            let own = self.slot_of(me).and_then(|number| self.holder(number).ok());
            let done = own.map_or(self.word(layout::STRAY_AT)?, |slot| slot.done);
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// This process ends in good order: what it holds is somebody's business still, as far as it knows.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Damaged`].
    pub fn sign_off(&self) -> Result<(), ChannelError> {
        let me = self.me();
        if self.counted && self.slot_of(me).is_some() {
            // Out of time: somebody was stopped inside; then it is as if we had been killed.
            let mut waiting = Waiting { deadline: Deadline::PASSED, interrupted: &mut || Ok(()) };
            self.entered::<_, ChannelError>(layout::CONSUMERS_AT, Some(&mut waiting), |_| {
                if let Some(number) = self.slot_of(me) {
                    let slot = self.holder(number)?;
                    let held = slot.held();
                    let at = if held > 0 { layout::ADRIFT_AT } else { layout::STRAY_AT };
                    self.word(at)?.fetch_add(held.unsigned_abs(), Ordering::Relaxed);
                    slot.taken.store(slot.done.load(Ordering::Relaxed), Ordering::Relaxed);
                    slot.who.store(0, Ordering::Relaxed);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// How many items were received by processes that have died since, and nobody was done with them. Takes its time.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Damaged`].
    pub fn abandoned(&self) -> Result<u64, ChannelError> {
        if !self.counted {
            return Ok(0);
        }
        // If its holder is dead, what it left is set right before it is looked at.
        let mut waiting = Waiting { deadline: Deadline::PASSED, interrupted: &mut || Ok(()) };
        self.entered::<_, ChannelError>(layout::CONSUMERS_AT, Some(&mut waiting), |_| Ok(()))?;
        let (mut lost, mut surplus) = (0_u64, self.word(layout::STRAY_AT)?.load(Ordering::Relaxed));
        for slot in self.holders() {
            let (who, held) = (slot.who.load(Ordering::Relaxed), slot.held());
            if held < 0 {
                surplus = surplus.saturating_add(held.unsigned_abs());
            } else if held > 0 && who != 0 && !is_alive(who) {
                lost = lost.saturating_add(held.unsigned_abs());
            }
        }
        // Who does with what he has not taken does so for those who have left, first.
        let adrift = self.word(layout::ADRIFT_AT)?.load(Ordering::Relaxed);
        Ok(lost.saturating_sub(surplus.saturating_sub(adrift)))
    }
}
