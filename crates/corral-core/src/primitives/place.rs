//! Where a primitive lies: a cell of a slab that its creator shares out, or a block of its own.
//!
//! # Role in the flow
//!
//! A lock needs 64 bytes and a block has 4096, so the creator cuts blocks into cells. Only it does: what it has given out is
//! its own business, in its own memory, and others only learn references.
//!
//! # Invariants
//!
//! INV-PLACE-1: a cell is given out once until it is given back, by the process that created it and by no other.
//! INV-PLACE-2: what leads to a place is checked: block, cell, and the tag that says what lies there.

use std::sync::{Arc, OnceLock, Weak};

use crate::exclusive::Exclusive;
use crate::heap::{Heap, HeapError};
use crate::identity;
use crate::region::{Memory as _, Region};
use crate::sync::Ordering;

/// Bytes of a cell: two cache lines, since processors fetch them by two.
pub const CELL_BYTES: usize = 128;
const CELLS_PER_SLAB: u32 = 32;
const SLAB_BYTES: usize = CELL_BYTES * CELLS_PER_SLAB as usize;
/// In a reference, below the block: the number of the cell, or this for all of the block.
const WHOLE: u64 = 63;
const CELL_BITS: u32 = 6;
/// Where each primitive says what it is.
const TAG_AT: usize = 0;
/// Where its creator's say on details stands.
const OPTIONS_AT: usize = 8;
/// Where a primitive's own words begin.
pub const WORDS_AT: usize = 16;

/// A block cut into cells.
#[derive(Debug)]
struct Slab {
    block: u64,
    free: u32,
}

/// The slabs of one heap.
#[derive(Debug)]
struct Slabs {
    heap: Weak<Heap>,
    creator: u64,
    slabs: Vec<Slab>,
}

/// Never waited for: a thread may have been inside when this process was forked.
fn shelves() -> &'static Exclusive<Vec<Slabs>> {
    static SHELVES: OnceLock<Exclusive<Vec<Slabs>>> = OnceLock::new();
    SHELVES.get_or_init(|| Exclusive::new(Vec::new()))
}

/// A stretch of a heap that holds one primitive; given back when its creator's object is dropped.
#[derive(Debug)]
pub struct Place {
    heap: Arc<Heap>,
    reference: u64,
    region: Region,
    /// The identity of the process that must give it back; 0: another's object.
    creator: u64,
}

impl Place {
    /// Finds room of `bytes` bytes, zeroed as far as a cell reaches, and tags it.
    ///
    /// # Errors
    ///
    /// The heap's, when it is full.
    pub fn create(heap: &Arc<Heap>, bytes: usize, tag: u64, options: u64) -> Result<Self, HeapError> {
        let creator = identity::current();
        let reference = if bytes <= CELL_BYTES {
            cell_of(heap, creator)?
        } else {
            heap.alloc_sparse(bytes)?.reference << CELL_BITS | WHOLE
        };
        let mut place = Self::over(heap, reference)?;
        place.creator = creator;
        place.region.write(0, &[0; CELL_BYTES])?;
        place.region.word(OPTIONS_AT)?.store(options, Ordering::Relaxed);
        // Relaxed: others learn the reference through a launch.
        place.region.word(TAG_AT)?.store(tag, Ordering::Relaxed);
        Ok(place)
    }

    /// The place that `reference` names, if `tag` stands there.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when it does not.
    pub fn attach(heap: &Arc<Heap>, reference: u64, tag: u64) -> Result<Self, HeapError> {
        let place = Self::over(heap, reference)?;
        if place.region.word(TAG_AT)?.load(Ordering::Relaxed) != tag {
            return Err(HeapError::Damaged("no such object lies there (any more)"));
        }
        Ok(place)
    }

    fn over(heap: &Arc<Heap>, reference: u64) -> Result<Self, HeapError> {
        let cell = reference & WHOLE;
        let (start, length) = heap.slice(reference >> CELL_BITS)?;
        // SAFETY: INV-REGION-1: the block lies in the mapping, which the heap beside the region keeps.
        let block = unsafe { Region::new(start, length) };
        let block = block.ok_or(HeapError::Damaged("a block is not aligned"))?;
        let region = match cell {
            WHOLE => Some(block),
            _ => {
                block.part(usize::try_from(cell).unwrap_or(usize::MAX).saturating_mul(CELL_BYTES), CELL_BYTES)
            }
        };
        let region = region.ok_or(HeapError::Damaged("a cell outside its block"))?;
        if region.length() < CELL_BYTES {
            return Err(HeapError::Damaged("a block that is too small"));
        }
        Ok(Self { heap: Arc::clone(heap), reference, region, creator: 0 })
    }

    /// What names it in every process that maps the heap.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.reference
    }

    /// Its memory.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What its creator chose.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`], never: the region is large enough.
    pub fn options(&self) -> Result<u64, HeapError> {
        // Relaxed: never changed once others know of it.
        Ok(self.region.word(OPTIONS_AT)?.load(Ordering::Relaxed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.creator == 0 || self.creator != identity::current() {
            return;
        }
        if let Ok(tag) = self.region.word(TAG_AT) {
            // Relaxed: a guard against late attachment, not a synchronisation.
            tag.store(0, Ordering::Relaxed);
        }
        let (block, cell) = (self.reference >> CELL_BITS, self.reference & WHOLE);
        if cell == WHOLE {
            // Not owned, or damaged: nothing to give back.
            drop(self.heap.free(block));
        } else if let Some(mut shelves) = shelves().enter() {
            give_back(&mut shelves, &self.heap, block, cell);
        }
    }
}

/// A free cell; a whole block where another thread is just looking for one.
fn cell_of(heap: &Arc<Heap>, creator: u64) -> Result<u64, HeapError> {
    let Some(mut shelves) = shelves().enter() else {
        return Ok(heap.alloc(SLAB_BYTES)?.reference << CELL_BITS | WHOLE);
    };
    // A forked child's slabs are its parent's.
    shelves.retain(|shelf| shelf.creator == creator && shelf.heap.strong_count() > 0);
    let weak = Arc::downgrade(heap);
    let at = shelves.iter().position(|shelf| shelf.heap.ptr_eq(&weak)).unwrap_or_else(|| {
        shelves.push(Slabs { heap: weak, creator, slabs: Vec::new() });
        shelves.len() - 1
    });
    let slabs = shelves.get_mut(at).map(|shelf| &mut shelf.slabs).ok_or(HeapError::Damaged("no shelf"))?;
    if let Some(slab) = slabs.iter_mut().find(|slab| slab.free != 0) {
        let cell = slab.free.trailing_zeros();
        slab.free &= !(1 << cell);
        return Ok(slab.block << CELL_BITS | u64::from(cell));
    }
    let block = heap.alloc(SLAB_BYTES)?.reference;
    slabs.push(Slab { block, free: !1 });
    Ok(block << CELL_BITS)
}

fn give_back(shelves: &mut [Slabs], heap: &Arc<Heap>, block: u64, cell: u64) {
    let weak = Arc::downgrade(heap);
    let Some(shelf) = shelves.iter_mut().find(|shelf| shelf.heap.ptr_eq(&weak)) else { return };
    let Some(at) = shelf.slabs.iter().position(|slab| slab.block == block) else { return };
    let is_spare = shelf.slabs.len() > 1;
    if let Some(slab) = shelf.slabs.get_mut(at) {
        slab.free |= 1 << cell;
        if slab.free == u32::MAX && is_spare {
            shelf.slabs.swap_remove(at);
            drop(heap.free(block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: u64 = 77;

    fn heap() -> Arc<Heap> {
        Arc::new(Heap::create(0).unwrap())
    }

    #[test]
    fn cells_share_a_block_are_zeroed_and_used_again() {
        let heap = heap();
        let places: Vec<_> = (0..33).map(|_| Place::create(&heap, 64, TAG, 5).unwrap()).collect();
        let references: std::collections::HashSet<_> = places.iter().map(Place::reference).collect();
        assert_eq!(references.len(), 33);
        assert_eq!(heap.stats().unwrap().blocks_used, 2);
        places.iter().for_each(|place| place.region().word(WORDS_AT).unwrap().store(9, Ordering::Relaxed));
        drop(places);
        assert_eq!(heap.stats().unwrap().blocks_used, 1);
        let again = Place::create(&heap, 64, TAG, 0).unwrap();
        assert!(references.contains(&again.reference()));
        assert_eq!(again.region().word(WORDS_AT).unwrap().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_larger_has_a_block_of_its_own() {
        let heap = heap();
        let place = Place::create(&heap, 10_000, TAG, 0).unwrap();
        assert_eq!(place.region().length(), 10_000);
        drop(place);
        assert_eq!(heap.stats().unwrap().blocks_used, 0);
    }

    #[test]
    fn an_attached_object_sees_the_same_words_and_gives_nothing_back() {
        let heap = heap();
        let place = Place::create(&heap, 64, TAG, 5).unwrap();
        let other = Place::attach(&heap, place.reference(), TAG).unwrap();
        assert_eq!(other.options().unwrap(), 5);
        drop(other);
        assert!(Place::attach(&heap, place.reference(), TAG).is_ok());
        assert!(Place::attach(&heap, place.reference(), TAG + 1).is_err());
        let reference = place.reference();
        drop(place);
        assert!(Place::attach(&heap, reference, TAG).is_err());
    }

    #[test]
    fn references_that_lead_nowhere_are_errors() {
        let heap = heap();
        let place = Place::create(&heap, 64, TAG, 0).unwrap();
        let block = place.reference() >> CELL_BITS;
        for reference in [0, block << CELL_BITS | 40, (block + 1) << CELL_BITS, u64::MAX] {
            assert!(Place::attach(&heap, reference, TAG).is_err(), "{reference}");
        }
    }

    #[test]
    fn a_cell_is_found_although_another_thread_is_inside_for_ever() {
        let heap = heap();
        let inside = shelves().enter();
        let place = Place::create(&heap, 64, TAG, 0).unwrap();
        assert_eq!(
            place.reference() & WHOLE,
            if inside.is_some() { WHOLE } else { place.reference() & WHOLE }
        );
        drop(inside);
    }
}
