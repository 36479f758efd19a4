//! Whatever stands in the heap's head, operations end with a result: no panic, no endless loop, no address outside the mapping.

use proptest::prelude::*;

use super::*;

/// Values that come near to being right, and some that don't.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..200,
        Just(u64::MAX),
        Just(1 << 63),
        Just(DATA_OFFSET),
        (0_u64..1 << 18).prop_map(|unit| unit * 4096),
        any::<u64>(),
    ]
}

/// Offsets of words in the header, the hints of the classes in use, and the first entries.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        (2_u64..4).prop_map(|word| word * 8),
        (0_u64..40 * 16).prop_map(|word| layout::CLASSES_OFFSET + word * 8),
        (0_u64..20 * 4).prop_map(|word| layout::TABLE_OFFSET + word * 8),
    ]
}

/// First and last byte must be there: outside the mapping, or beyond the file's end, this would be the end of the test run.
fn touch(block: &BlockRef) {
    if let [first, .., last] = bytes(block) {
        *first = 1;
        *last = 2;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn damaged_memory_is_survived(damages in proptest::collection::vec((place(), word()), 1..6)) {
        let heap = heap();
        for size in [1, 5_000, 20_000, 100_000] {
            let block = alloc(&heap, 1, size);
            alloc(&heap, 2, size);
            heap.free_as(1, block.reference).unwrap();
        }
        let there = attached(&heap);
        for (place, value) in damages {
            heap.mapping.word::<AtomicU64>(place).unwrap().store(value, Ordering::Relaxed);
        }
        for reference in 1..12 {
            if let Ok((ptr, len)) = there.slice(reference) {
                touch(&BlockRef { reference, ptr, len });
            }
            if let Ok(block) = there.adopt_as(3, reference, 2) {
                touch(&block);
            }
        }
        for size in [1, 20_000, 100_000] {
            if let Ok(block) = heap.alloc_as(1, size, Pages::AsTouched) {
                touch(&block);
                drop(heap.free_as(1, block.reference));
            }
        }
        drop((heap.trim_as(1, Duration::ZERO), heap.stats(), heap.recover(2), there.recover(3)));
    }
}
