//! Crash enumeration: each operation abandoned after every step, then recovery by a survivor, then the invariants.

use super::*;
use crate::steps;

const KILLED: u64 = 1;
const SURVIVOR: u64 = 2;
const SIZE: usize = 20_000;

/// Runs `operation` to every step it has, and says which there were.
///
/// `prepare` makes a fresh heap's blocks, and returns the reference that `operation` is about.
fn enumerate_crashes(
    prepare: impl Fn(&Heap) -> u64,
    operation: impl Fn(&Heap, u64) -> Result<(), HeapError>,
) -> Vec<&'static str> {
    let mut names = Vec::new();
    loop {
        let heap = heap();
        let reference = prepare(&heap);
        let cut_off = steps::abandon_after(names.len(), || operation(&heap, reference).unwrap());
        heap.recover(KILLED).unwrap();
        check_invariants(&heap, &[SURVIVOR]);
        check_nothing_is_lost(&heap);
        check_invariants(&heap, &[SURVIVOR]);
        match cut_off {
            Ok(()) => return names,
            Err(steps::Abandoned(name)) => names.push(name),
        }
    }
}

/// Every block that is free can be had, each once, before the table grows.
fn check_nothing_is_lost(heap: &Heap) {
    let length = heap.length().unwrap();
    let mut capacities: Vec<u64> = (0..length)
        .filter(|&number| heap.owner_of(number + 1).unwrap() == 0)
        .map(|number| heap.place_of(number).unwrap().1)
        .collect();
    // The largest first: a smaller request may take a larger block.
    capacities.sort_unstable();
    let taken: std::collections::HashSet<u64> = (capacities.iter().rev())
        .map(|&capacity| alloc(heap, SURVIVOR, usize::try_from(capacity).unwrap()).reference)
        .collect();
    assert_eq!((taken.len(), heap.length().unwrap()), (capacities.len(), length));
}

fn freed_block(heap: &Heap) -> u64 {
    let block = alloc(heap, KILLED, SIZE);
    heap.free_as(KILLED, block.reference).unwrap();
    block.reference
}

fn allocate(heap: &Heap, size: usize) -> Result<(), HeapError> {
    heap.alloc_as(KILLED, size, Pages::All).map(drop)
}

#[test]
fn killed_while_it_allocates_a_new_block() {
    let names = enumerate_crashes(|_| 0, |heap, _| allocate(heap, SIZE));
    assert_eq!(names, ["append.classed", "append.done", "alloc.claimed", "alloc.sized"]);
}

#[test]
fn killed_while_it_allocates_a_block_that_was_freed() {
    let names = enumerate_crashes(freed_block, |heap, _| allocate(heap, SIZE));
    assert_eq!(names, ["hint.taken", "claim.claimed", "alloc.claimed", "alloc.sized"]);
}

#[test]
fn killed_while_it_grows_the_file() {
    let names = enumerate_crashes(|_| 0, |heap, _| allocate(heap, 100 << 20));
    assert!(names.ends_with(&["alloc.sized", "grow.measured", "grow.grown"]), "{names:?}");
}

#[test]
fn killed_while_it_frees() {
    let names = enumerate_crashes(
        |heap| alloc(heap, KILLED, SIZE).reference,
        |heap, reference| heap.free_as(KILLED, reference),
    );
    assert_eq!(names, ["free.noted", "free.released", "hint.counted"]);
}

#[test]
fn killed_while_it_adopts() {
    let names = enumerate_crashes(
        |heap| alloc(heap, SURVIVOR, SIZE).reference,
        |heap, reference| heap.adopt_as(KILLED, reference, SURVIVOR).map(drop),
    );
    assert_eq!(names, ["adopt.claimed"]);
}

#[test]
fn killed_while_it_trims() {
    let names = enumerate_crashes(freed_block, |heap, _| heap.trim_as(KILLED, Duration::ZERO).map(drop));
    assert_eq!(names, ["trim.claimed", "trim.discarded", "trim.released"]);
}

#[test]
fn killed_while_it_recovers_another() {
    const EARLIER: u64 = 3;
    let names = enumerate_crashes(
        |heap| {
            alloc(heap, EARLIER, SIZE);
            alloc(heap, EARLIER, SIZE).reference
        },
        |heap, _| {
            // The next survivor recovers everybody who died.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| heap.recover(EARLIER)));
            if let Err(abandoned) = outcome {
                heap.recover(EARLIER).unwrap();
                std::panic::resume_unwind(abandoned);
            }
            Ok(())
        },
    );
    assert_eq!(names, ["free.noted", "free.released", "hint.counted"].repeat(2));
}
