//! Several owners at once: no block is ever given to two of them.

use super::*;

/// A small generator of numbers, so that runs repeat: a linear congruence, its high half.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

fn allocate_and_free(heap: &Heap, me: u64) {
    let mut numbers = Numbers(me);
    let mut held: Vec<BlockRef> = Vec::new();
    for _ in 0..3_000 {
        if held.len() < 20 && numbers.below(3) > 0 {
            let block = alloc(heap, me, 8 + numbers.below(60_000));
            bytes(&block)[..8].copy_from_slice(&me.to_le_bytes());
            held.push(block);
        } else if !held.is_empty() {
            let block = held.swap_remove(numbers.below(held.len()));
            assert_eq!(bytes(&block)[..8], me.to_le_bytes(), "another owner has written into the block");
            heap.free_as(me, block.reference).unwrap();
        }
        if numbers.below(500) == 0 {
            heap.trim_as(me, Duration::ZERO).unwrap();
        }
    }
    for block in held {
        heap.free_as(me, block.reference).unwrap();
    }
}

/// Many claims of few blocks: whoever finds one free is seldom the only one.
fn take_turns(heap: &Heap, me: u64) {
    for turn in 0..30_000 {
        let block = alloc(heap, me, 8);
        bytes(&block).copy_from_slice(&me.to_le_bytes());
        if turn % 50 == 0 {
            heap.trim_as(me, Duration::ZERO).unwrap();
        }
        assert_eq!(*bytes(&block), me.to_le_bytes(), "another owner has written into the block");
        heap.free_as(me, block.reference).unwrap();
    }
}

/// Runs `work` as four owners at once over two mappings; in the end nobody owns anything.
fn at_once(work: impl Fn(&Heap, u64) + Sync) -> Heap {
    let heap = heap();
    let there = attached(&heap);
    std::thread::scope(|scope| {
        for me in 1..5 {
            let side = if me % 2 == 0 { &heap } else { &there };
            let work = &work;
            scope.spawn(move || work(side, me));
        }
    });
    check_invariants(&heap, &[]);
    assert_eq!(heap.stats().unwrap().blocks_used, 0);
    heap
}

#[test]
fn no_block_is_given_to_two_owners() {
    at_once(allocate_and_free);
}

#[test]
fn few_blocks_wanted_by_all_are_given_to_one_at_a_time() {
    let heap = at_once(take_turns);
    assert!(heap.length().unwrap() < 100, "free blocks were not found again: {}", heap.length().unwrap());
}
