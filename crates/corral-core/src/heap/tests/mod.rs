//! Tests of the heap: as one process sees it, against a model, cut off at every step, and with damaged memory.

mod crashes;
mod damage;
mod model;
mod threads;

use std::time::Duration;

use super::*;

fn heap() -> Heap {
    Heap::create(1 << 30).unwrap()
}

/// The smallest heap there is: 16 MiB of blocks.
fn small_heap() -> Heap {
    Heap::create(0).unwrap()
}

fn attached(heap: &Heap) -> Heap {
    Heap::attach(heap.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

fn alloc(heap: &Heap, me: u64, size: usize) -> BlockRef {
    heap.alloc_as(me, size, Pages::All).unwrap()
}

/// The bytes of a block that the test owns.
#[allow(clippy::mut_from_ref, reason = "the block is an address, not the memory")]
fn bytes(block: &BlockRef) -> &mut [u8] {
    // SAFETY: INV-HEAP-4: the block lies in the mapping; the tests own it, and make one slice of it at a time.
    unsafe { std::slice::from_raw_parts_mut(block.ptr.as_ptr(), block.len) }
}

/// What must hold whatever happened: blocks follow each other in the table's order, and each is free or owned by one of `owners`.
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

#[test]
fn freed_blocks_are_used_again_the_last_one_first() {
    let heap = heap();
    let blocks = [(); 3].map(|()| heap.alloc(10_000).unwrap());
    for block in &blocks {
        heap.free(block.reference).unwrap();
    }
    for block in blocks.iter().rev() {
        assert_eq!(heap.alloc(9_000).unwrap().reference, block.reference);
    }
}

#[test]
fn more_free_blocks_than_are_remembered_are_all_found() {
    let heap = heap();
    let blocks: Vec<_> = (0..500).map(|_| heap.alloc(10_000).unwrap().reference).collect();
    blocks.iter().for_each(|&block| heap.free(block).unwrap());
    let length = heap.length().unwrap();
    let again: std::collections::HashSet<_> =
        (0..500).map(|_| heap.alloc(10_000).unwrap().reference).collect();
    assert_eq!((again.len(), heap.length().unwrap()), (500, length));
}

#[test]
fn a_large_request_takes_a_free_block_of_up_to_twice_the_size_and_no_larger_one() {
    let heap = heap();
    let (large, larger) = (heap.alloc(1_900_000).unwrap(), heap.alloc(3_000_000).unwrap());
    heap.free(larger.reference).unwrap();
    let fresh = heap.alloc(1 << 20).unwrap();
    assert!(fresh.reference != larger.reference);
    heap.free(large.reference).unwrap();
    assert_eq!(heap.alloc(1_200_000).unwrap().reference, large.reference);
}

#[test]
fn a_block_of_no_bytes_is_a_block() {
    let heap = heap();
    let (one, other) = (heap.alloc(0).unwrap(), heap.alloc(0).unwrap());
    assert_eq!((one.len, heap.slice(one.reference).unwrap().1), (0, 0));
    assert_ne!(one.reference, other.reference);
    heap.free(one.reference).unwrap();
    heap.free(other.reference).unwrap();
}

#[test]
fn what_no_heap_can_hold_is_refused_and_leaves_nothing() {
    let heap = heap();
    for size in [2 << 30, 1 << 40, 1 << 46, usize::MAX / 2, usize::MAX] {
        assert!(matches!(heap.alloc(size), Err(HeapError::Full { .. })), "{size}");
    }
    assert_eq!(heap.length().unwrap(), 0);
    assert_eq!(heap.alloc(1 << 20).unwrap().len, 1 << 20);
}

#[test]
fn a_full_heap_says_so_and_serves_again_what_is_freed() {
    let heap = small_heap();
    let mut blocks = Vec::new();
    let limit = loop {
        match heap.alloc(1 << 20) {
            Ok(block) => blocks.push(block.reference),
            Err(HeapError::Full { limit, .. }) => break limit,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!((blocks.len(), limit), (16, "the reserved range is used up"));
    // Nothing can be appended, so even a small request gets the one large free block.
    heap.free(blocks.pop().unwrap()).unwrap();
    let small = heap.alloc(10).unwrap();
    assert!(heap.alloc(10).is_err());
    heap.free(small.reference).unwrap();
    assert!(heap.alloc(1 << 20).is_ok());
}

#[test]
fn an_attached_heap_sees_the_block_and_can_adopt_it() {
    let heap = heap();
    let there = attached(&heap);
    let block = alloc(&heap, 1, 5);
    bytes(&block).copy_from_slice(b"hello");
    assert!(matches!(there.adopt_as(2, block.reference, 3), Err(HeapError::NotOwned { owner: 1 })));
    assert!(matches!(there.adopt_as(2, block.reference, 0), Err(HeapError::NotOwned { .. })));
    let adopted = there.adopt_as(2, block.reference, 1).unwrap();
    assert_eq!(bytes(&adopted), b"hello");
    assert!(heap.free_as(1, block.reference).is_err());
    there.free_as(2, block.reference).unwrap();
    assert!(matches!(there.free_as(2, block.reference), Err(HeapError::NotOwned { owner: 0 })));
}

#[test]
fn a_block_that_another_process_has_grown_the_file_for_can_be_touched() {
    let heap = heap();
    let there = attached(&heap);
    let block = alloc(&heap, 1, 100 << 20);
    bytes(&block)[(100 << 20) - 1] = 9;
    let adopted = there.adopt_as(2, block.reference, 1).unwrap();
    assert_eq!(bytes(&adopted)[(100 << 20) - 1], 9);
}

#[test]
fn references_that_lead_nowhere_are_refused() {
    let heap = heap();
    heap.alloc(1).unwrap();
    for reference in [0, 2, layout::ENTRY_LIMIT, layout::ENTRY_LIMIT + 1, u64::MAX] {
        assert!(matches!(heap.slice(reference), Err(HeapError::Damaged(_))), "{reference}");
        assert!(matches!(heap.adopt(reference, 1), Err(HeapError::Damaged(_))), "{reference}");
        assert!(matches!(heap.free(reference), Err(HeapError::Damaged(_))), "{reference}");
    }
}

#[test]
fn recovery_frees_the_blocks_of_the_dead_alone() {
    let heap = heap();
    for size in [1, 5_000, 70_000] {
        alloc(&heap, 1, size);
        alloc(&heap, 2, size);
    }
    assert_eq!(heap.recover(1).unwrap(), 3);
    assert_eq!(heap.recover(1).unwrap(), 0);
    assert_eq!(heap.recover(0).unwrap(), 0);
    assert_eq!(heap.stats().unwrap().blocks_used, 3);
    assert_eq!(heap.recover(2).unwrap(), 3);
}

#[test]
fn trimming_gives_back_the_pages_of_free_blocks_alone() {
    let heap = heap();
    let (kept, freed) = (heap.alloc(4 << 20).unwrap(), heap.alloc(4 << 20).unwrap());
    bytes(&kept).fill(1);
    bytes(&freed).fill(2);
    heap.free(freed.reference).unwrap();
    let before = heap.stats().unwrap();
    assert_eq!((before.blocks_used, before.blocks_free), (1, 1));
    assert_eq!((before.bytes_used, before.bytes_free), (4 << 20, 4 << 20));
    assert_eq!(heap.trim(Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(heap.trim(Duration::ZERO).unwrap(), 4 << 20);
    assert_eq!(heap.trim(Duration::ZERO).unwrap(), 0);
    assert_eq!(before.bytes_resident - heap.stats().unwrap().bytes_resident, 4 << 20);
    assert!(bytes(&kept).iter().all(|&byte| byte == 1));
    let again = heap.alloc(4 << 20).unwrap();
    assert_eq!(again.reference, freed.reference);
    assert!(bytes(&again).iter().all(|&byte| byte == 0));
}

#[test]
fn a_sparse_block_has_no_pages_until_it_is_touched() {
    let heap = heap();
    let resident = |heap: &Heap| heap.stats().unwrap().bytes_resident;
    let first = resident(&heap);
    let sparse = heap.alloc_sparse(8 << 20).unwrap();
    assert!(resident(&heap) - first < 1 << 20);
    heap.free(sparse.reference).unwrap();
    heap.alloc(8 << 20).unwrap();
    assert!(resident(&heap) - first >= 8 << 20);
}

#[test]
fn a_block_larger_than_the_memory_left_is_refused_before_anything_is_killed_for_it() {
    let available = crate::sys::limits::available_memory().unwrap();
    let heap = Heap::create(available.next_power_of_two() * 4).unwrap();
    let wanted = usize::try_from(available * 2).unwrap();
    if heap.mapping.length() > wanted + (100 << 20) {
        assert!(matches!(heap.alloc(wanted), Err(HeapError::Full { .. })));
        assert_eq!(heap.stats().unwrap().blocks_used, 0);
        assert!(matches!(heap.alloc(wanted), Err(HeapError::Full { .. })), "the second time, too");
    }
}

#[test]
fn a_reserve_beyond_the_address_space_is_halved_until_it_fits() {
    let heap = Heap::create(1 << 50).unwrap();
    assert!(heap.stats().unwrap().bytes_reserved < 1 << 50);
    assert!(heap.alloc(1 << 20).is_ok());
    // Whoever attaches reserves as much, and isn't refused for what was asked for at first.
    assert_eq!(read_geometry(heap.as_fd()).unwrap(), heap.mapping.length() as u64);
}

#[test]
fn other_files_are_no_heaps() {
    use crate::sys::memory::{create_shared_file, set_file_length};
    let refused = |file| matches!(Heap::attach(file), Err(HeapError::NotAHeap(_)));
    assert!(refused(std::fs::File::open("/dev/null").unwrap().into()));
    assert!(refused(create_shared_file(100).unwrap()), "too short");
    assert!(refused(create_shared_file(DATA_OFFSET).unwrap()), "all zero");
    let heap = heap();
    assert!(set_file_length(heap.as_fd(), DATA_OFFSET).is_err(), "a heap can't be made shorter");
    heap.header().unwrap().version.store(99, Ordering::Relaxed);
    assert!(refused(heap.as_fd().try_clone_to_owned().unwrap()), "another version");
    heap.header().unwrap().version.store(VERSION, Ordering::Relaxed);
    for reserve in [0, DATA_OFFSET, 1 << 47, u64::MAX] {
        heap.header().unwrap().reserve_bytes.store(reserve, Ordering::Relaxed);
        assert!(refused(heap.as_fd().try_clone_to_owned().unwrap()), "reserve {reserve}");
    }
}
