//! A link's block with anything in it: errors at most, on both sides, and for whoever attaches.

use proptest::prelude::*;

use super::*;
use crate::sync::Ordering;

/// Everything one can ask of both sides; what it answers is the damage's.
fn use_everything(pair: &Pair) {
    for id in 0..20 {
        drop(pair.parent.send(tag(id), Body::Bytes(&[1; 20])));
        drop(pair.parent.send(tag(id), Body::Block(id)));
        drop(pair.parent.is_taken(id * 32, id));
        drop(pair.parent.revoke(id * 32, id, got));
        drop(pair.worker.try_receive(|_, body| lengths(body)));
        drop(pair.worker.try_reply(tag(id), Body::Bytes(&[1; 20])));
        let collected: Result<usize, LinkError> = pair.parent.collect(3, |_, body| {
            lengths(body);
            Ok(())
        });
        drop(collected);
        let _ = pair.parent.has_replies();
        drop(pair.worker.begin(id, 3));
        drop(pair.parent.progress());
        drop(pair.parent.ask(id));
        drop(pair.worker.asked());
    }
    drop(pair.parent.settle());
    let event = pair.parent.bell().as_fd().try_clone_to_owned().unwrap();
    drop(WorkerLink::attach(Arc::clone(&pair.heap), pair.parent.reference(), event));
}

fn lengths(body: Arrived<'_>) -> usize {
    match body {
        Arrived::Bytes(bytes) => {
            let mut copy = vec![0; bytes.length()];
            let _ = bytes.copy_to(&mut copy);
            copy.len()
        }
        Arrived::Block(block) => block.len,
    }
}

fn busy() -> Pair {
    let pair = pair();
    for id in 0..6 {
        pair.send(id, Body::Bytes(&[id as u8; 40]));
        pair.send(id, Body::Block(pair.block()));
        pair.receive().unwrap();
        assert!(pair.worker.try_reply(tag(id), Body::Block(pair.block())).unwrap());
    }
    pair
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn random_words_in_a_links_block_do_no_harm(
        words in proptest::collection::vec(
            (0_usize..layout::block_bytes(CAPACITY) / 8, prop_oneof![any::<u64>(), 0_u64..100]), 1..20),
    ) {
        let pair = busy();
        for (number, word) in words {
            pair.parent.shared.region.word(8 * number).unwrap().store(word, Ordering::Relaxed);
        }
        use_everything(&pair);
    }

    #[test]
    fn flipped_bits_in_a_links_words_do_no_harm(
        bits in proptest::collection::vec(0_usize..1024 * 8, 1..20),
    ) {
        let pair = busy();
        for bit in bits {
            pair.parent.shared.region.word(bit / 64 * 8).unwrap().fetch_xor(1 << (bit % 64), Ordering::Relaxed);
        }
        use_everything(&pair);
    }
}

#[test]
fn a_reference_to_nowhere_is_an_error_and_the_ring_goes_on() {
    let pair = pair();
    pair.send(1, Body::Block(77_777));
    pair.send(2, Body::Bytes(b"next"));
    let lost = pair.worker.try_receive(|_, body| got(body));
    assert!(matches!(lost, Err(LinkError::Heap(HeapError::Damaged(_)))), "{lost:?}");
    assert_eq!(pair.receive(), Some((tag(2), Got::Bytes(b"next".to_vec()))));
}

#[test]
fn what_was_collected_before_damage_is_not_lost() {
    let pair = pair();
    assert!(pair.worker.try_reply(tag(1), Body::Bytes(b"good")).unwrap());
    assert!(pair.worker.try_reply(tag(2), Body::Block(77_777)).unwrap());
    assert_eq!(pair.collect(), [(tag(1), Got::Bytes(b"good".to_vec()))]);
    let error = pair.parent.collect(10, |_, _| -> Result<(), LinkError> { Ok(()) });
    assert!(error.is_err());
}
