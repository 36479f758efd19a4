//! Whatever stands in the memory, each side answers with a frame, nothing, or an error: no panic, no endless loop, no access outside.

use proptest::prelude::*;

use super::*;
use crate::sync::Ordering;

/// A ring in the middle of its life: wrapped once, some frames released, one taken, one revoked, some queued.
fn busy() -> Bench {
    let mut bench = Bench::new();
    for id in 0..12 {
        bench.push(id, &[id as u8; 33]).unwrap();
        bench.pop().unwrap();
    }
    let first = bench.push(20, b"revoked").unwrap();
    bench.push(21, &[1; 64]).unwrap();
    bench.push(22, b"").unwrap();
    bench.producer.revoke(first, 20).unwrap().unwrap();
    bench
}

fn flip(memory: &[AtomicU64], bit: usize) {
    let word = &memory[bit / 64 % memory.len()];
    word.fetch_xor(1 << (bit % 64), Ordering::Relaxed);
}

/// Uses both sides for a while; the outcomes are the damage's.
fn use_both_sides(bench: &mut Bench, asked: u64) {
    for id in 30..60 {
        let _ = bench.producer.push(label(id), &[2; 20]);
        let _ = bench.producer.state(asked, id);
        let _ = bench.producer.revoke(asked, 21);
        let _ = bench.producer.released();
        drop(pop(&mut bench.consumer));
        let _ = bench.consumer.ring().has_frames();
    }
}

proptest! {
    #[test]
    fn flipped_bits_do_no_harm(
        bits in proptest::collection::vec(0_usize..(DATA_AT + CAPACITY) * 8, 1..20),
        asked in 0_u64..2048,
    ) {
        let mut bench = busy();
        bits.iter().for_each(|&bit| flip(&bench.memory, bit));
        use_both_sides(&mut bench, asked);
    }

    #[test]
    fn random_words_do_no_harm(
        words in proptest::collection::vec((0_usize..(DATA_AT + CAPACITY) / 8, any::<u64>()), 1..20),
        asked in any::<u64>(),
    ) {
        let mut bench = busy();
        for (number, word) in words {
            bench.memory[number].store(word, Ordering::Relaxed);
        }
        use_both_sides(&mut bench, asked);
    }

    #[test]
    fn random_frame_heads_do_no_harm(
        length in prop_oneof![0_usize..600, 0xffff_ff00_usize..=0xffff_ffff],
        kind in any::<u8>(),
        flags in 0_u8..9,
        claim in any::<u64>(),
    ) {
        let mut bench = busy();
        let at = (bench.memory[HEAD_AT / 8].load(Ordering::Relaxed) as usize % CAPACITY + DATA_AT) / 8;
        bench.memory[at].store(Head { length, kind, flags }.word(), Ordering::Relaxed);
        bench.memory[at + 1].store(claim, Ordering::Relaxed);
        use_both_sides(&mut bench, 0);
    }
}

#[test]
fn a_tail_beyond_the_ring_is_damage() {
    let mut bench = busy();
    bench.pop().unwrap();
    bench.pop().unwrap();
    bench.memory[TAIL_AT / 8].fetch_add(CAPACITY as u64 + 8, Ordering::Relaxed);
    assert_eq!(bench.consumer.peek(), Err(Damaged("the producer's position is impossible")));
}

#[test]
fn a_head_that_moved_back_or_beyond_the_tail_is_damage() {
    for head in [0, u64::MAX - 7, 1 << 20] {
        let mut bench = busy();
        bench.memory[HEAD_AT / 8].store(head, Ordering::Relaxed);
        bench.producer.head_seen = bench.producer.tail - 8;
        assert_eq!(bench.producer.released(), Err(Damaged("the consumer's position is impossible")));
    }
}

#[test]
fn a_frame_longer_than_what_was_committed_is_damage() {
    let mut bench = Bench::new();
    bench.push(1, b"").unwrap();
    bench.memory[DATA_AT / 8].store(Head { length: 1, kind: 0, flags: INLINE }.word(), Ordering::Relaxed);
    assert_eq!(bench.consumer.peek(), Err(Damaged("a frame's length is impossible")));
}

#[test]
fn a_claim_that_is_free_or_of_another_frame_is_damage() {
    for word in [claim(1, State::Free), claim(1, State::Taken)] {
        let mut bench = Bench::new();
        bench.push(1, b"").unwrap();
        bench.memory[(DATA_AT + CLAIM_WORD) / 8].store(word, Ordering::Relaxed);
        assert_eq!(bench.consumer.next_taken(), Err(Damaged("a frame's claim is impossible")));
    }
}
