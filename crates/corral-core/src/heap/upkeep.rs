//! What is done for the heap as a whole: take back what the dead held, give idle pages to the system, count.
//!
//! # Runs in
//!
//! Any process, at any time, beside the others' allocations; in practice the parent.

use std::time::Duration;

use super::layout::{Entry, class_capacity};
use super::table::warm_note;
use super::{Heap, HeapError};
use crate::identity;
use crate::steps::step;
use crate::sync::Ordering;
use crate::sys::clock::monotonic_ns;
use crate::sys::memory::{file_extent, page_bytes};

/// The heap in numbers, as they were while they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Blocks that somebody owns.
    pub blocks_used: u64,
    /// Blocks that nobody owns.
    pub blocks_free: u64,
    /// Bytes asked for in the blocks that are used.
    pub bytes_used: u64,
    /// Capacity of the free blocks, resident or not.
    pub bytes_free: u64,
    /// Bytes of the heap that take up memory or swap, for whatever.
    pub bytes_resident: u64,
    /// Address space: what the heap can grow to.
    pub bytes_reserved: u64,
}

impl Heap {
    /// Frees every block of the process of identity `owner`, which must be dead; how many there were.
    ///
    /// # Errors
    ///
    /// [`HeapError::OwnerAlive`] when it isn't dead, [`HeapError::Damaged`] when the table can't be read.
    pub fn recover(&self, owner: u64) -> Result<u64, HeapError> {
        if owner == 0 {
            return Ok(0);
        }
        if identity::is_alive(owner) {
            return Err(HeapError::OwnerAlive { owner });
        }
        let mut freed = 0;
        for number in 0..self.length()? {
            let entry = self.entry(number)?;
            // Relaxed: the release below checks again, by compare-and-swap.
            if entry.owner.load(Ordering::Relaxed) == owner
                && self.release_entry(number, entry, owner).is_ok()
            {
                freed += 1;
            }
        }
        self.recount_free()?;
        Ok(freed)
    }

    /// Gives the pages of blocks that have been free for `idle` back to the system; about how many bytes that were.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when the table can't be read.
    pub fn trim(&self, idle: Duration) -> Result<u64, HeapError> {
        self.trim_as(identity::current(), idle)
    }

    /// As [`Heap::trim`], for the process of identity `me`.
    pub(crate) fn trim_as(&self, me: u64, idle: Duration) -> Result<u64, HeapError> {
        let idle_ns = u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX);
        let before = file_extent(self.as_fd())?.resident;
        for number in 0..self.length()? {
            let entry = self.entry(number)?;
            // Relaxed: asked only to skip; the claim decides.
            let freed_at = entry.note.load(Ordering::Relaxed);
            let is_idle = freed_at != 0 && monotonic_ns().saturating_sub(freed_at) >= idle_ns;
            if is_idle && entry.owner.load(Ordering::Relaxed) == 0 && self.try_claim(entry, me) {
                self.uncount_free(entry.class.load(Ordering::Relaxed));
                step!("trim.claimed");
                self.release_cold(number, entry, me)?;
            }
        }
        self.recount_free()?;
        Ok(before.saturating_sub(file_extent(self.as_fd())?.resident))
    }

    /// Frees a block that `me` owns and gives its pages back.
    pub(super) fn release_cold(&self, number: u64, entry: &Entry, me: u64) -> Result<(), HeapError> {
        let discarded = self.discard_pages(number);
        step!("trim.discarded");
        let note = if discarded.is_ok() { 0 } else { warm_note() };
        entry.note.store(note, Ordering::Relaxed);
        // Release: as when a block is freed: our discarding is over before another owns it.
        let released = entry.owner.compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed);
        step!("trim.released");
        self.count_free(entry.class.load(Ordering::Relaxed));
        released.map(drop).map_err(|owner| HeapError::NotOwned { owner })
    }

    fn discard_pages(&self, number: u64) -> Result<(), HeapError> {
        let (offset, capacity) = self.place_of(number)?;
        let page = page_bytes() as u64;
        // Pages may be larger than the unit of blocks: those shared with a neighbour stay.
        let first = offset.next_multiple_of(page);
        let end = (offset + capacity) / page * page;
        let length = usize::try_from(end.saturating_sub(first)).unwrap_or(0);
        if length > 0 {
            self.mapping.discard(first, length)?;
        }
        Ok(())
    }

    /// Counts blocks and bytes.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when the table can't be read.
    pub fn stats(&self) -> Result<Stats, HeapError> {
        let mut stats = Stats {
            bytes_resident: file_extent(self.as_fd())?.resident,
            bytes_reserved: self.mapping.length() as u64,
            ..Stats::default()
        };
        for number in 0..self.length()? {
            let entry = self.entry(number)?;
            let capacity = class_capacity(entry.class.load(Ordering::Relaxed)).unwrap_or(0);
            if entry.owner.load(Ordering::Relaxed) == 0 {
                stats.blocks_free += 1;
                stats.bytes_free = stats.bytes_free.saturating_add(capacity);
            } else {
                stats.blocks_used += 1;
                // The block may be freed right now, and its note a time.
                let size = entry.note.load(Ordering::Relaxed).min(capacity);
                stats.bytes_used = stats.bytes_used.saturating_add(size);
            }
        }
        Ok(stats)
    }
}
