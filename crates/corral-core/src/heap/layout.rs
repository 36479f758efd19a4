//! Where things lie in the heap's memory: offsets and sizes only, no algorithm.
//!
//! ```text
//! 0                  Header     magic, version, geometry, hints that processes share
//! CLASSES_OFFSET     ClassHints x CLASS_LIMIT      (hints: may be wrong, never harmful)
//! TABLE_OFFSET       Entry x ENTRY_LIMIT           the block table, the only truth
//! DATA_OFFSET        the blocks, in the table's order, each of its class's capacity
//!
//! Entry (32 bytes)
//! +-------------------+-------------------+-------------------+-------------------+
//! | class             | owner             | offset            | note              |
//! | 0: virgin         | 0: free, else the | 0: not yet cached | owned: size       |
//! |                   | owner's identity  |                   | free: see Note    |
//! +-------------------+-------------------+-------------------+-------------------+
//! ```

use crate::sync::{AtomicU32, AtomicU64};
use crate::sys::memory::SharedWords;

/// The first word of every heap.
pub const MAGIC: u64 = u64::from_le_bytes(*b"corralH\x01");
/// Changed whenever this file changes what bytes mean.
pub const VERSION: u64 = 1;

/// The smallest block, and the unit of all capacities.
pub const UNIT_BYTES: u64 = 4096;
/// Size classes are numbered from 1; this is one more than the largest.
pub const CLASS_LIMIT: usize = 136;
/// Blocks a heap can ever have.
pub const ENTRY_LIMIT: u64 = 1 << 20;
/// Free blocks remembered per class.
pub const HINT_SLOTS: usize = 28;

/// Where the class hints begin.
pub const CLASSES_OFFSET: u64 = 4096;
/// Where the block table begins.
pub const TABLE_OFFSET: u64 = 64 << 10;
/// Where the blocks begin.
pub const DATA_OFFSET: u64 = TABLE_OFFSET + ENTRY_LIMIT * 32;

/// The head of a heap.
#[repr(C)]
#[derive(Debug)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU64,
    /// Bytes of address space every process maps.
    pub reserve_bytes: AtomicU64,
    /// Hint: at least this many entries from the first are not virgin.
    pub length_hint: AtomicU64,
}

/// What processes tell each other about the free blocks of a class. Only hints: INV-HEAP-5.
#[repr(C)]
#[derive(Debug)]
pub struct ClassHints {
    /// About how many entries of the class are free.
    pub free: AtomicU64,
    /// The slot after the one filled last; runs on without end.
    pub top: AtomicU64,
    /// Entry numbers plus one of blocks freed lately, 0 where there is none.
    pub slots: [AtomicU32; HINT_SLOTS],
}

/// One block: INV-HEAP-1 to INV-HEAP-4.
#[repr(C)]
#[derive(Debug)]
pub struct Entry {
    /// Size class, 0 while virgin. Set once.
    pub class: AtomicU64,
    /// Who owns the block, 0 while free.
    pub owner: AtomicU64,
    /// Cached offset of the block's first byte, 0 while nobody has computed it.
    pub offset: AtomicU64,
    /// While owned: the size asked for. While free: 0 if no page of it is resident, otherwise when it was freed.
    pub note: AtomicU64,
}

// SAFETY: repr(C), atomics only.
unsafe impl SharedWords for Header {}
// SAFETY: repr(C), atomics only.
unsafe impl SharedWords for ClassHints {}
// SAFETY: repr(C), atomics only.
unsafe impl SharedWords for Entry {}

const _: () = assert!(size_of::<Header>() as u64 <= CLASSES_OFFSET);
const _: () = assert!(size_of::<ClassHints>() == 128);
const _: () = assert!(CLASSES_OFFSET + 128 * CLASS_LIMIT as u64 <= TABLE_OFFSET);
const _: () = assert!(size_of::<Entry>() == 32);
const _: () = assert!(DATA_OFFSET.is_multiple_of(64 << 10));

/// Where entry `number` lies.
#[must_use]
pub const fn entry_offset(number: u64) -> u64 {
    TABLE_OFFSET + number * 32
}

/// The capacity in bytes of the blocks of a class, or None for what is no class.
///
/// 4, 8, 12 KiB, then four steps per doubling: 16, 20, 24, 28, 32, 40 KiB ...
#[must_use]
pub const fn class_capacity(class: u64) -> Option<u64> {
    match class {
        0 => None,
        1..=3 => Some(class * UNIT_BYTES),
        4..136 => Some(((4 + class % 4) * UNIT_BYTES) << (class / 4 - 1)),
        _ => None,
    }
}

/// The smallest class whose blocks hold `size` bytes, or None when there is none.
#[must_use]
pub fn class_of_size(size: u64) -> Option<u64> {
    let units = size.div_ceil(UNIT_BYTES).max(1);
    if units < 4 {
        return Some(units);
    }
    // units lies in (4 + step - 1, 4 + step] * 2^doubling for the class 4 * (doubling + 1) + step.
    let doubling = u64::from((units - 1).max(4).ilog2() - 2);
    let steps = units.div_ceil(1 << doubling) - 4;
    let class = 4 * (doubling + 1) + steps;
    class_capacity(class).is_some().then_some(class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn capacities_grow_by_at_most_a_quarter_above_sixteen_kibibytes() {
        for class in 2..CLASS_LIMIT as u64 {
            let (below, here) = (class_capacity(class - 1).unwrap(), class_capacity(class).unwrap());
            assert!(below < here && here.is_multiple_of(UNIT_BYTES));
            assert!(class <= 4 || here <= below + below.div_ceil(4), "class {class}");
        }
        assert_eq!(class_capacity(0), None);
        assert_eq!(class_capacity(CLASS_LIMIT as u64), None);
    }

    #[test]
    fn every_capacity_is_its_own_class_and_one_byte_more_is_the_next() {
        for class in 1..CLASS_LIMIT as u64 {
            let capacity = class_capacity(class).unwrap();
            assert_eq!(class_of_size(capacity), Some(class));
            let next = (class + 1 < CLASS_LIMIT as u64).then_some(class + 1);
            assert_eq!(class_of_size(capacity + 1), next);
        }
        assert_eq!(class_of_size(0), Some(1));
        assert_eq!(class_of_size(u64::MAX), None);
    }

    proptest! {
        #[test]
        fn the_class_is_the_smallest_that_fits(size in 0_u64..1 << 44) {
            let class = class_of_size(size).unwrap();
            prop_assert!(class_capacity(class).unwrap() >= size);
            prop_assert!(class == 1 || class_capacity(class - 1).unwrap() < size);
        }
    }
}
