//! What processes tell each other about free blocks, so that an allocation needn't search the table.
//!
//! # Invariants
//!
//! INV-HEAP-5: everything here is a hint. A slot names an entry that was free; claiming it decides. A count that is too high costs a
//! search, which corrects it; one that is too low (a kill between freeing and counting) hides free blocks until the next
//! [`Heap::recover`], which counts anew and follows every death.

use super::layout::{CLASS_LIMIT, CLASSES_OFFSET, ClassHints, HINT_SLOTS};
use super::steps::step;
use super::{Heap, HeapError};
use crate::sync::Ordering;

impl Heap {
    /// Claims a free entry of `class` for `me`: the one freed last, if possible.
    pub(super) fn claim_free(&self, class: u64, me: u64) -> Result<Option<u64>, HeapError> {
        let hints = self.class_hints(class)?;
        // Relaxed, here and below: hints order nothing; the claim of the entry does.
        let counted = hints.free.load(Ordering::Relaxed);
        if is_none_free(counted) {
            return Ok(None);
        }
        let found = match self.claim_hinted(hints, class, me)? {
            Some(number) => Some(number),
            None => self.claim_searched(class, me)?,
        };
        match found {
            Some(_) => {
                step!("claim.claimed");
                hints.free.fetch_sub(1, Ordering::Relaxed);
            }
            // The search saw every entry: the count was wrong, unless somebody has changed it meanwhile.
            None => drop(hints.free.compare_exchange(counted, 0, Ordering::Relaxed, Ordering::Relaxed)),
        }
        Ok(found)
    }

    fn claim_hinted(&self, hints: &ClassHints, class: u64, me: u64) -> Result<Option<u64>, HeapError> {
        let top = hints.top.load(Ordering::Relaxed);
        for back in 1..=HINT_SLOTS as u64 {
            let place = top.wrapping_sub(back);
            let Some(slot) = slot_at(hints, place) else { continue };
            if slot.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let Some(number) = u64::from(slot.swap(0, Ordering::Relaxed)).checked_sub(1) else {
                continue;
            };
            step!("hint.taken");
            let entry = self.entry(number)?;
            if entry.class.load(Ordering::Relaxed) == class && self.try_claim(entry, me) {
                hints.top.store(place, Ordering::Relaxed);
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Looks at the whole table, from where the last search ended; fills the slots with what else it meets on the way.
    fn claim_searched(&self, class: u64, me: u64) -> Result<Option<u64>, HeapError> {
        let length = self.length()?;
        if length == 0 {
            return Ok(None);
        }
        let start = self.cursor.load(Ordering::Relaxed) % length;
        for number in (start..length).chain(0..start) {
            let entry = self.entry(number)?;
            if entry.class.load(Ordering::Relaxed) == class
                && entry.owner.load(Ordering::Relaxed) == 0
                && self.try_claim(entry, me)
            {
                self.cursor.store(number + 1, Ordering::Relaxed);
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Tells of an entry that has just been freed.
    pub(super) fn hint_free(&self, number: u64, class: u64) {
        let Ok(hints) = self.class_hints(class) else { return };
        hints.free.fetch_add(1, Ordering::Relaxed);
        step!("hint.counted");
        let place = hints.top.fetch_add(1, Ordering::Relaxed);
        if let (Some(slot), Ok(name)) = (slot_at(hints, place), u32::try_from(number + 1)) {
            slot.store(name, Ordering::Relaxed);
        }
    }

    /// Counts an entry that has just been appended: it is free until it is claimed.
    pub(super) fn count_appended(&self, _class: u64) {}

    /// Counts the free entries of every class anew.
    pub(super) fn recount_free(&self) -> Result<(), HeapError> {
        let mut counts = [0_u64; CLASS_LIMIT];
        for number in 0..self.length()? {
            let entry = self.entry(number)?;
            let class = usize::try_from(entry.class.load(Ordering::Relaxed)).unwrap_or(0);
            if entry.owner.load(Ordering::Relaxed) == 0
                && let Some(count) = counts.get_mut(class)
            {
                *count += 1;
            }
        }
        for (class, &count) in (0_u64..).zip(&counts).skip(1) {
            self.class_hints(class)?.free.fetch_max(count, Ordering::Relaxed);
        }
        Ok(())
    }

    fn class_hints(&self, class: u64) -> Result<&ClassHints, HeapError> {
        if class >= CLASS_LIMIT as u64 {
            return Err(HeapError::Damaged("a block's class"));
        }
        self.mapping.word(CLASSES_OFFSET + class * 128).ok_or(HeapError::Damaged("no hints"))
    }
}

/// Counts may fall below zero for a moment (claimed before it was counted): half of the range is negative.
fn is_none_free(counted: u64) -> bool {
    counted.cast_signed() <= 0
}

fn slot_at(hints: &ClassHints, place: u64) -> Option<&crate::sync::AtomicU32> {
    hints.slots.get(usize::try_from(place % HINT_SLOTS as u64).ok()?)
}
