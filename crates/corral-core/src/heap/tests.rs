//! Tests of the heap as one process sees it.
use super::*;

fn heap() -> Heap {
    Heap::create(1 << 30).unwrap()
}

#[test]
fn a_block_is_writable_and_freed_memory_is_used_again_last_first() {
    let heap = heap();
    let first = heap.alloc(10_000).unwrap();
    let second = heap.alloc(10_000).unwrap();
    assert_ne!(first.reference, second.reference);
    // SAFETY: INV-HEAP-4: the block is ours and that long.
    unsafe { first.ptr.as_ptr().write_bytes(7, first.len) };
    heap.free(first.reference).unwrap();
    heap.free(second.reference).unwrap();
    assert_eq!(heap.alloc(9_000).unwrap().reference, second.reference);
    assert_eq!(heap.alloc(9_000).unwrap().reference, first.reference);
}

#[test]
fn an_attached_heap_sees_the_block_and_can_adopt_it() {
    let heap = heap();
    let there = Heap::attach(heap.as_fd().try_clone_to_owned().unwrap()).unwrap();
    let block = heap.alloc_as(1, 5).unwrap();
    // SAFETY: INV-HEAP-4: the block has five bytes.
    unsafe { block.ptr.as_ptr().copy_from(b"hello".as_ptr(), 5) };
    assert!(matches!(there.adopt_as(2, block.reference, 3), Err(HeapError::NotOwned { owner: 1 })));
    let adopted = there.adopt_as(2, block.reference, 1).unwrap();
    // SAFETY: INV-HEAP-4: the block is ours and that long.
    let bytes = unsafe { std::slice::from_raw_parts(adopted.ptr.as_ptr(), adopted.len) };
    assert_eq!(bytes, b"hello");
    assert!(heap.free_as(1, block.reference).is_err());
    there.free_as(2, block.reference).unwrap();
    assert!(matches!(there.free_as(2, block.reference), Err(HeapError::NotOwned { owner: 0 })));
}

#[test]
fn recovery_frees_the_blocks_of_the_dead_alone() {
    let heap = heap();
    for size in [1, 5_000, 70_000] {
        heap.alloc_as(1, size).unwrap();
        heap.alloc_as(2, size).unwrap();
    }
    assert_eq!(heap.recover(1).unwrap(), 3);
    assert_eq!(heap.recover(1).unwrap(), 0);
    assert_eq!(heap.recover(2).unwrap(), 3);
}

/// What must hold whatever happened: places follow from classes, don't overlap, and every entry is free or owned by `owners`.
fn check_invariants(heap: &Heap, owners: &[u64]) {
    let mut end = layout::DATA_OFFSET;
    for number in 0..heap.length().unwrap() {
        let (offset, capacity) = heap.place_of(number).unwrap();
        assert_eq!(offset, end, "entry {number} is not where the one before it ends");
        end = offset + capacity;
        let owner = heap.owner_of(number + 1).unwrap();
        assert!(owner == 0 || owners.contains(&owner), "entry {number} is owned by {owner}");
    }
    assert!(end <= heap.mapping.length() as u64);
}

/// Runs `operation` as process 1 to every step there is, recovers as a survivor, and checks.
fn enumerate_crashes(prepare: impl Fn(&Heap) -> u64, operation: impl Fn(&Heap, u64)) -> Vec<&'static str> {
    let mut names = Vec::new();
    loop {
        let heap = heap();
        let reference = prepare(&heap);
        let cut_off = steps::abandon_after(names.len(), || operation(&heap, reference));
        heap.recover(1).unwrap();
        check_invariants(&heap, &[2]);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..heap.length().unwrap() + 2 {
            assert!(seen.insert(heap.alloc_as(2, 20_000).unwrap().reference));
        }
        check_invariants(&heap, &[2]);
        match cut_off {
            Ok(()) => return names,
            Err(steps::Abandoned(name)) => names.push(name),
        }
    }
}

#[test]
fn a_process_killed_at_any_step_of_an_allocation_leaves_nothing_lost() {
    let fresh = enumerate_crashes(|_| 0, |heap, _| drop(heap.alloc_as(1, 20_000)));
    assert!(fresh.contains(&"append.classed") && fresh.contains(&"alloc.claimed"), "{fresh:?}");
    let reused = enumerate_crashes(
        |heap| {
            let block = heap.alloc_as(1, 20_000).unwrap();
            heap.free_as(1, block.reference).unwrap();
            0
        },
        |heap, _| drop(heap.alloc_as(1, 20_000)),
    );
    assert!(reused.contains(&"hint.taken") && reused.contains(&"claim.claimed"), "{reused:?}");
    let growing = enumerate_crashes(|_| 0, |heap, _| drop(heap.alloc_as(1, 100 << 20)));
    assert!(growing.contains(&"grow.grown"), "{growing:?}");
}

#[test]
fn a_process_killed_at_any_step_of_freeing_leaves_nothing_lost() {
    let names = enumerate_crashes(
        |heap| heap.alloc_as(1, 20_000).unwrap().reference,
        |heap, reference| heap.free_as(1, reference).unwrap(),
    );
    assert_eq!(names, ["free.noted", "free.released", "hint.counted"]);
}
