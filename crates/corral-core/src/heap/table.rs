//! The block table: find or append a free entry and claim it, give it back, compute where a block lies.

use super::layout::{CLASS_LIMIT, DATA_OFFSET, ENTRY_LIMIT, Entry, UNIT_BYTES, class_capacity, entry_offset};
use super::{Heap, HeapError};
use crate::steps::step;
use crate::sync::Ordering;
use crate::sys::clock::monotonic_ns;

/// Blocks from this class up (64 KiB) are also taken for smaller requests.
const FIRST_SHARING_CLASS: u64 = 12;
/// How many classes up a free block is looked for before a new one is made.
const NEAR_CLASSES: u64 = 3;

impl Heap {
    /// Claims a free entry for a block of `class`: one freed lately, else any free one, else a new one.
    pub(super) fn claim_entry(&self, class: u64, me: u64, wanted: u64) -> Result<u64, HeapError> {
        loop {
            if let Some(number) = self.claim_warm(class, me)? {
                return Ok(number);
            }
            self.count_appended()?;
            let number = match self.append(class, wanted) {
                Ok(number) => number,
                Err(full @ HeapError::Full { .. }) => return self.claim_any(class, me)?.ok_or(full),
                Err(error) => return Err(error),
            };
            step!("append.done");
            // Another process may be faster to take what we have appended: then there is one more for the next.
            if self.try_claim(self.entry(number)?, me) {
                return Ok(number);
            }
        }
    }

    /// Claims a free entry of `class`, or, where a first touch would be dear, of a class less than twice as large.
    fn claim_warm(&self, class: u64, me: u64) -> Result<Option<u64>, HeapError> {
        let near = if class >= FIRST_SHARING_CLASS { class + NEAR_CLASSES } else { class };
        for class in class..=near.min(CLASS_LIMIT as u64 - 1) {
            if let Some(number) = self.claim_free(class, me)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Claims any free entry that is large enough: the last resort when nothing can be appended.
    fn claim_any(&self, class: u64, me: u64) -> Result<Option<u64>, HeapError> {
        self.recount_free()?;
        for class in class..CLASS_LIMIT as u64 {
            if let Some(number) = self.claim_free(class, me)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// Makes a free entry `me`'s; false when it isn't free (any more).
    pub(super) fn try_claim(&self, entry: &Entry, me: u64) -> bool {
        // Acquire: pairs with the release of the owner word by whoever freed it, whose accesses to the block are then over.
        entry.owner.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Frees an entry that `me` owns.
    pub(super) fn release_entry(&self, number: u64, entry: &Entry, me: u64) -> Result<(), HeapError> {
        // Relaxed: only the compare-and-swap below decides.
        let owner = entry.owner.load(Ordering::Relaxed);
        if owner != me || me == 0 {
            return Err(HeapError::NotOwned { owner });
        }
        // Still ours, so nobody reads it as a time; a kill right here leaves it to `recover`, which writes it anew.
        entry.note.store(warm_note(), Ordering::Relaxed);
        step!("free.noted");
        // Release: pairs with `try_claim`; our accesses to the block are over before another owns it.
        entry
            .owner
            .compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed)
            .map_err(|owner| HeapError::NotOwned { owner })?;
        step!("free.released");
        self.hint_free(number, entry.class.load(Ordering::Relaxed));
        Ok(())
    }

    /// Adds a free entry of `class` at the table's end; its number.
    fn append(&self, class: u64, wanted: u64) -> Result<u64, HeapError> {
        let capacity = class_capacity(class).ok_or(HeapError::Damaged("a class"))?;
        let mut number = self.length()?;
        loop {
            if number >= ENTRY_LIMIT {
                return Err(HeapError::Full { wanted, limit: "the block table is full" });
            }
            // Known before the entry exists (INV-HEAP-1), so a block that doesn't fit is never appended.
            let offset = self.end_of_entries(number)?;
            if offset.checked_add(capacity).is_none_or(|end| end > self.mapping.length() as u64) {
                return Err(HeapError::Full { wanted, limit: "the reserved range is used up" });
            }
            let entry = self.entry(number)?;
            // AcqRel: release, so that whoever sees this class sees those before it (`length` reads them in order); acquire when
            // another was faster, for the same reason.
            let swapped = entry.class.compare_exchange(0, class, Ordering::AcqRel, Ordering::Acquire);
            step!("append.classed");
            self.header()?.length_hint.fetch_max(number + 1, Ordering::Release);
            if swapped.is_ok() {
                // Cached for whoever computes the places after it; the value is the same whoever stores it.
                entry.offset.store(offset, Ordering::Relaxed);
                return Ok(number);
            }
            number += 1;
        }
    }

    /// How many entries exist: all before the first virgin one.
    pub(super) fn length(&self) -> Result<u64, HeapError> {
        // Acquire: pairs with the fetch_max in `append`: the entries counted are seen to exist.
        let hint = self.header()?.length_hint.load(Ordering::Acquire);
        let mut number = hint.min(ENTRY_LIMIT);
        if number > 0 && self.entry(number - 1)?.class.load(Ordering::Acquire) == 0 {
            return Err(HeapError::Damaged("the block table's length"));
        }
        while number < ENTRY_LIMIT && self.entry(number)?.class.load(Ordering::Acquire) != 0 {
            number += 1;
        }
        Ok(number)
    }

    pub(super) fn entry(&self, number: u64) -> Result<&Entry, HeapError> {
        if number >= ENTRY_LIMIT {
            return Err(HeapError::Damaged("a reference beyond the block table"));
        }
        self.mapping.word(entry_offset(number)).ok_or(HeapError::Damaged("no block table"))
    }

    /// Offset and capacity of an existing block, checked to lie in the mapping and behind the table (INV-HEAP-4).
    pub(super) fn place_of(&self, number: u64) -> Result<(u64, u64), HeapError> {
        let entry = self.entry(number)?;
        let class = entry.class.load(Ordering::Acquire);
        let capacity = class_capacity(class).ok_or(HeapError::Damaged("a block's class"))?;
        // Relaxed: the value is the same whoever computes it.
        let mut offset = entry.offset.load(Ordering::Relaxed);
        if offset == 0 {
            offset = self.end_of_entries(number)?;
            entry.offset.store(offset, Ordering::Relaxed);
        }
        let end = offset.saturating_add(capacity);
        if offset < DATA_OFFSET || !offset.is_multiple_of(UNIT_BYTES) || end > self.mapping.length() as u64 {
            return Err(HeapError::Damaged("a block's offset"));
        }
        Ok((offset, capacity))
    }

    /// Where the blocks of the first `number` entries end: walks back to the last one whose place is known.
    fn end_of_entries(&self, number: u64) -> Result<u64, HeapError> {
        let mut sum = 0_u64;
        for before in (0..number).rev() {
            let entry = self.entry(before)?;
            let class = entry.class.load(Ordering::Acquire);
            let capacity = class_capacity(class).ok_or(HeapError::Damaged("a block's class"))?;
            sum = sum.checked_add(capacity).ok_or(HeapError::Damaged("a block's class"))?;
            let offset = entry.offset.load(Ordering::Relaxed);
            if offset != 0 {
                return offset.checked_add(sum).ok_or(HeapError::Damaged("a block's offset"));
            }
        }
        DATA_OFFSET.checked_add(sum).ok_or(HeapError::Damaged("a block's class"))
    }
}

/// The note of a block freed now: a time, and never 0, which means that no page is resident.
pub(super) fn warm_note() -> u64 {
    monotonic_ns().max(1)
}
