//! Whatever stands in a channel's words, operations end with a result: no panic, no endless wait, no address outside the mapping.

use proptest::prelude::*;

use super::*;
use crate::region::Memory;

/// Values that come near to being right, and some that don't.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..200,
        Just(u64::MAX),
        Just(1 << 63),
        (0_u64..20, 0_u64..20_000).prop_map(|(segment, offset)| segment << 32 | offset),
        (0_u64..6, 0_u64..5000).prop_map(|(kind, length)| kind << 32 | length),
        any::<u64>(),
    ]
}

/// Words of the channel (but for the tenures: those of a living process would be waited for), and of its first segment.
fn place() -> impl Strategy<Value = (bool, usize)> {
    let channel = prop_oneof![
        (layout::MAX_ITEMS_AT..layout::PRODUCERS_AT).prop_map(|at| at / 8 * 8),
        (layout::PRODUCERS_AT + 16..layout::CONSUMERS_AT).prop_map(|at| at / 8 * 8),
        (layout::CONSUMERS_AT + 16..1024_usize).prop_map(|at| at / 8 * 8),
    ];
    prop_oneof![channel.prop_map(|at| (true, at)), (0_usize..400).prop_map(|word| (false, word * 8)),]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn damaged_memory_is_survived(
        damages in proptest::collection::vec((place(), word()), 1..6),
        inherited in any::<bool>(),
    ) {
        let here = channel();
        for number in 0..10 {
            send(&here, &[number; 30]);
            send_block(&here, &[&[number; 5000]]);
        }
        for _ in 0..4 {
            recv(&here);
        }
        let segment = here.block(Side::read(&here, layout::CONSUMERS_AT).unwrap().place.segment).unwrap();
        for ((of_channel, at), value) in damages {
            let region = if of_channel { here.region } else { segment };
            region.word(at).unwrap().store(value, Ordering::Relaxed);
        }
        if inherited {
            for side in [layout::PRODUCERS_AT, layout::CONSUMERS_AT] {
                here.word(side).unwrap().store(7, Ordering::Relaxed);
            }
        }
        let soon = || Deadline::after(Duration::from_millis(20));
        let sides = [Channel::attach(Arc::clone(&here.heap), here.reference()), Ok(attached_or(&here))];
        for side in sides.into_iter().flatten() {
            let block = pack(&side.heap, &[b"block"]).unwrap();
            let items = [Item::Bytes(b"short"), Item::Block(block), Item::Bytes(&[1; 4000])];
            drop(waiting(soon(), |waiting| side.send_many(&items, &mut 0, waiting)));
            for limit in [1, 3, 1000] {
                let mut bytes = Vec::new();
                let mut found = |taken| if let Taken::Block(block) = taken { touch(&block); };
                drop(waiting(soon(), |waiting| side.recv_many(limit, &mut bytes, &mut found, waiting)));
            }
            drop((side.item_done(), side.is_full(), side.length(), side.unfinished()));
            drop(waiting(soon(), |waiting| side.wait_done(waiting)));
            drop(side.close());
        }
    }
}

/// As this process sees it already.
fn attached_or(here: &Channel) -> Channel {
    Channel::over(Arc::clone(&here.heap), here.reference, Bounds::default()).unwrap()
}

/// First and last byte must be there: outside the mapping, or beyond the file's end, this would be the end of the test run.
fn touch(block: &crate::heap::BlockRef) {
    // SAFETY: INV-HEAP-4: that is what is tested; the block is this process's own.
    let bytes = unsafe { std::slice::from_raw_parts_mut(block.ptr.as_ptr(), block.len) };
    if let [first, .., last] = bytes {
        *first = 1;
        *last = 2;
    }
}
