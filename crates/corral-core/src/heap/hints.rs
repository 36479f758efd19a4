//! What processes tell each other about free blocks, so that an allocation needn't search the table.
//!
//! # Invariants
//!
//! INV-HEAP-5: everything here is a hint. A slot names an entry that was free; claiming it decides. A count that is too high costs a
//! search, which corrects it. One that is too low (a kill between freeing and counting, or two processes that correct it at the same
//! moment) leaves free blocks unused until they are counted anew: after each death ([`Heap::recover`]), by [`Heap::trim`], when the heap
//! is full, and every [`APPENDS_PER_COUNT`] blocks that a process has appended.

use super::layout::{CLASS_LIMIT, CLASSES_OFFSET, ClassHints, Entry, HINT_SLOTS};
use super::{Heap, HeapError};
use crate::steps::step;
use crate::sync::{AtomicU32, Ordering};

/// After so many appended blocks a process counts the free ones.
const APPENDS_PER_COUNT: u64 = 256;
/// How many entries after a find a search looks at for more.
const SEARCH_AHEAD: u64 = 64;

impl Heap {
    /// Claims a free entry of `class` for `me`: the one freed last, if possible.
    pub(super) fn claim_free(&self, class: u64, me: u64) -> Result<Option<u64>, HeapError> {
        let hints = self.class_hints(class)?;
        // Relaxed, here and below: hints order nothing; the claim of the entry does.
        let counted = hints.free.load(Ordering::Relaxed);
        if counted == 0 {
            return Ok(None);
        }
        let found = match self.claim_hinted(hints, class, me)? {
            Some(number) => Some(number),
            None => self.claim_searched(hints, class, me)?,
        };
        let corrected = match found {
            Some(_) => {
                step!("claim.claimed");
                hints.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1))
            }
            // The search saw every entry: the count was wrong, unless somebody has changed it meanwhile.
            None => hints.free.compare_exchange(counted, 0, Ordering::Relaxed, Ordering::Relaxed),
        };
        // Either way nothing is lost when somebody else was faster: only a hint.
        let _ = corrected;
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

    /// Looks at the whole table, from where the last search ended; what else is free nearby goes into the slots.
    fn claim_searched(&self, hints: &ClassHints, class: u64, me: u64) -> Result<Option<u64>, HeapError> {
        let length = self.length()?;
        let start = self.cursor.load(Ordering::Relaxed).checked_rem(length).unwrap_or(0);
        for number in (start..length).chain(0..start) {
            let entry = self.entry(number)?;
            if is_free(entry, class) && self.try_claim(entry, me) {
                let end = length.min(number + SEARCH_AHEAD);
                for next in number + 1..end {
                    if is_free(self.entry(next)?, class) {
                        put_slot(hints, next);
                    }
                }
                self.cursor.store(end, Ordering::Relaxed);
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
        put_slot(hints, number);
    }

    /// Counts the blocks that this process has appended, and every so often the free ones.
    pub(super) fn count_appended(&self) -> Result<(), HeapError> {
        let appended = self.appended.fetch_add(1, Ordering::Relaxed);
        if appended % APPENDS_PER_COUNT == APPENDS_PER_COUNT - 1 { self.recount_free() } else { Ok(()) }
    }

    /// Tells that an entry that is about to be claimed will not be free.
    pub(super) fn uncount_free(&self, class: u64) {
        if let Ok(hints) = self.class_hints(class) {
            let less = |count: u64| count.checked_sub(1);
            let _ = hints.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Tells of a free entry without recommending it.
    pub(super) fn count_free(&self, class: u64) {
        if let Ok(hints) = self.class_hints(class) {
            hints.free.fetch_add(1, Ordering::Relaxed);
        }
    }

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
        // Classes without free blocks are left alone: their hints may have no page yet.
        for (class, &count) in (0_u64..).zip(&counts).skip(1).filter(|(_, count)| **count > 0) {
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

fn is_free(entry: &Entry, class: u64) -> bool {
    entry.class.load(Ordering::Relaxed) == class && entry.owner.load(Ordering::Relaxed) == 0
}

fn put_slot(hints: &ClassHints, number: u64) {
    let place = hints.top.fetch_add(1, Ordering::Relaxed);
    if let (Some(slot), Ok(name)) = (slot_at(hints, place), u32::try_from(number + 1)) {
        slot.store(name, Ordering::Relaxed);
    }
}

fn slot_at(hints: &ClassHints, place: u64) -> Option<&AtomicU32> {
    hints.slots.get(usize::try_from(place % HINT_SLOTS as u64).ok()?)
}
