//! Every interleaving of one producer and one consumer, by loom, over memory made of its atomics.
//!
//! Bytes are copied by words, relaxed: a copy that the protocol does not order shows old words, and the test sees them.

use loom::sync::Arc;
use loom::thread;

use super::layout::{Geometry, INLINE};
use super::*;
use crate::sync::{AtomicU32, AtomicU64};

const CAPACITY: usize = 256;
const GEOMETRY: Geometry = Geometry { head_at: 0, tail_at: 8, data_at: 16, capacity: CAPACITY };

/// Words that loom watches.
#[derive(Clone)]
struct Model(Arc<Vec<AtomicU64>>);

impl Model {
    fn new() -> Self {
        Self(Arc::new((0..(16 + CAPACITY) / 8).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Memory for Model {
    fn word(&self, offset: usize) -> Result<&AtomicU64, Damaged> {
        self.0.get(offset / 8).ok_or(Damaged("outside the model"))
    }

    fn half(&self, _offset: usize) -> Result<&AtomicU32, Damaged> {
        Err(Damaged("a ring has no half words"))
    }

    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Damaged> {
        for (number, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(chunk.try_into().unwrap());
            self.word(offset + 8 * number)?.store(word, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Damaged> {
        for (number, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            let word = self.word(offset + 8 * number)?.load(Ordering::Relaxed);
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }
}

fn pair() -> (Producer<Model>, Consumer<Model>) {
    let ring = Ring::new(Model::new(), GEOMETRY).unwrap();
    (Producer::new(ring.clone()), Consumer::new(ring))
}

fn label(id: u64) -> Label {
    Label { kind: 1, flags: INLINE, id, aux: 10 * id }
}

fn push(producer: &mut Producer<Model>, id: u64) -> Option<u64> {
    producer.push(label(id), &id.to_le_bytes()).unwrap()
}

/// The next frame's id, checked against everything else it says.
fn pop(consumer: &mut Consumer<Model>) -> Option<u64> {
    let frame = consumer.next_taken().unwrap()?;
    let mut body = [0; 8];
    consumer.ring().read_body(&frame, &mut body).unwrap();
    consumer.advance(&frame);
    consumer.publish().unwrap();
    assert_eq!(frame.label, label(frame.label.id));
    assert_eq!(u64::from_le_bytes(body), frame.label.id);
    Some(frame.label.id)
}

/// Moves both sides on by `count` frames of 32 bytes.
fn turn(producer: &mut Producer<Model>, consumer: &mut Consumer<Model>, count: u64) {
    for id in 0..count {
        push(producer, id).unwrap();
        assert_eq!(pop(consumer), Some(id));
    }
}

#[test]
fn loom_a_frame_is_seen_whole_or_not_at_all() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair();
        let sender = thread::spawn(move || {
            push(&mut producer, 1).unwrap();
            push(&mut producer, 2).unwrap();
        });
        let mut seen = Vec::new();
        seen.extend(pop(&mut consumer));
        seen.extend(pop(&mut consumer));
        assert!([1, 2].starts_with(&seen), "{seen:?}");
        sender.join().unwrap();
        while let Some(id) = pop(&mut consumer) {
            seen.push(id);
        }
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn loom_room_is_not_written_over_before_it_was_read() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair();
        for id in 0..8 {
            push(&mut producer, id).unwrap();
        }
        let receiver = thread::spawn(move || {
            assert_eq!(pop(&mut consumer), Some(0));
            assert_eq!(pop(&mut consumer), Some(1));
            consumer
        });
        let sent = push(&mut producer, 8).is_some();
        let mut consumer = receiver.join().unwrap();
        for id in 2..8 + u64::from(sent) {
            assert_eq!(pop(&mut consumer), Some(id));
        }
        assert_eq!(pop(&mut consumer), None);
    });
}

#[test]
fn loom_a_frame_behind_the_padding_at_the_rings_end_is_seen_with_it() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair();
        turn(&mut producer, &mut consumer, 7);
        // 32 bytes are left: too few for this body.
        let sender = thread::spawn(move || producer.push(label(9), &[7; 16]).unwrap().unwrap());
        let early = consumer.next_taken().unwrap();
        assert_eq!(sender.join().unwrap(), CAPACITY as u64);
        let frame = early.or_else(|| consumer.next_taken().unwrap()).unwrap();
        let mut body = [0; 16];
        consumer.ring().read_body(&frame, &mut body).unwrap();
        assert_eq!((frame.label, body), (label(9), [7; 16]));
    });
}

#[test]
fn loom_a_frame_is_taken_or_revoked_and_both_sides_agree() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair();
        let position = push(&mut producer, 1).unwrap();
        let receiver = thread::spawn(move || {
            let seen = pop(&mut consumer);
            (consumer, seen)
        });
        let revoked = producer.revoke(position, 1).unwrap().is_some();
        let state = producer.state(position, 1).unwrap();
        let (mut consumer, seen) = receiver.join().unwrap();
        assert_eq!(revoked, seen.is_none());
        assert_eq!(state == State::Revoked, revoked && state != State::Free);
        assert_ne!(state, State::Queued, "it was ours to take back");
        // The ring goes on.
        push(&mut producer, 2).unwrap();
        assert_eq!(pop(&mut consumer), Some(2));
        assert_eq!(producer.state(position, 1).unwrap(), State::Free);
    });
}

#[test]
fn loom_what_the_producer_asks_of_a_frame_is_true_for_good() {
    loom::model(|| {
        let (mut producer, mut consumer) = pair();
        let position = push(&mut producer, 1).unwrap();
        let receiver = thread::spawn(move || pop(&mut consumer));
        let first = producer.state(position, 1).unwrap();
        let second = producer.state(position, 1).unwrap();
        let order = [State::Queued, State::Taken, State::Free];
        let place = |state| order.iter().position(|&one| one == state).unwrap();
        assert!(place(first) <= place(second), "{first:?} then {second:?}");
        assert_eq!(receiver.join().unwrap(), Some(1));
        assert_eq!(producer.state(position, 1).unwrap(), State::Free);
    });
}
