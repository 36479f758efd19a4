//! Tests of the ring: in one thread, against a model, between two threads, cut off at every step, and with damaged memory.

mod crashes;
mod damage;
mod model;

use std::sync::Arc;

use super::layout::{BLOCK, INLINE};
use super::*;
use crate::region::Region;
use crate::sync::AtomicU64;

const CAPACITY: usize = 512;
const HEAD_AT: usize = 0;
const TAIL_AT: usize = 8;
const DATA_AT: usize = 16;

/// Memory for one ring, and its two sides, which all may be used (or damaged) in any order.
struct Bench {
    memory: Arc<[AtomicU64]>,
    producer: Producer<Region>,
    consumer: Consumer<Region>,
}

impl Bench {
    fn new() -> Self {
        let memory: Arc<[AtomicU64]> = (0..(DATA_AT + CAPACITY) / 8).map(|_| AtomicU64::new(0)).collect();
        let ring = Ring::new(region(&memory), geometry()).unwrap();
        Self { memory, producer: Producer::new(ring), consumer: Consumer::new(ring) }
    }

    fn push(&mut self, id: u64, body: &[u8]) -> Option<u64> {
        self.producer.push(label(id), body).unwrap()
    }

    fn pop(&mut self) -> Option<(u64, Vec<u8>)> {
        pop(&mut self.consumer).unwrap()
    }
}

fn region(memory: &[AtomicU64]) -> Region {
    let start = std::ptr::NonNull::from(memory).cast::<u8>();
    // SAFETY: INV-REGION-1: the shared slice stays where it is, and every user of the region is dropped or done before it.
    unsafe { Region::new(start, size_of_val(memory)) }.unwrap()
}

const fn geometry() -> Geometry {
    Geometry { head_at: HEAD_AT, tail_at: TAIL_AT, data_at: DATA_AT, capacity: CAPACITY }
}

fn label(id: u64) -> Label {
    Label { kind: id as u8, flags: INLINE, id, aux: !id }
}

fn pop(consumer: &mut Consumer<Region>) -> Result<Option<(u64, Vec<u8>)>, Damaged> {
    let Some(frame) = consumer.next_taken()? else { return Ok(None) };
    let mut body = vec![0; frame.body_bytes];
    consumer.ring().read_body(&frame, &mut body)?;
    consumer.advance(&frame);
    consumer.publish()?;
    Ok(Some((frame.label.id, body)))
}

#[test]
fn a_frame_keeps_its_label() {
    let mut bench = Bench::new();
    let sent = Label { kind: 200, flags: BLOCK, id: layout::MAX_ID - 1, aux: u64::MAX };
    assert_eq!(bench.producer.push(sent, b"body").unwrap(), Some(0));
    let frame = bench.consumer.next_taken().unwrap().unwrap();
    assert_eq!((frame.label, frame.body_bytes), (sent, 4));
}

#[test]
fn a_full_ring_has_no_room_until_a_frame_is_released() {
    let mut bench = Bench::new();
    let mut count = 0;
    while bench.push(count, &[1; 40]).is_some() {
        count += 1;
    }
    assert_eq!(count, (CAPACITY / 64) as u64);
    let frame = bench.consumer.next_taken().unwrap().unwrap();
    assert_eq!(bench.push(count, &[1; 40]), None, "taken is not released");
    bench.consumer.advance(&frame);
    bench.consumer.publish().unwrap();
    assert_eq!(bench.push(count, &[1; 40]), Some(CAPACITY as u64));
}

#[test]
fn a_body_over_an_eighth_never_finds_room() {
    let mut bench = Bench::new();
    assert_eq!(bench.push(1, &[0; CAPACITY / 8 + 1]), None);
    assert!(bench.push(1, &[0; CAPACITY / 8]).is_some());
}

#[test]
fn a_claim_that_is_dropped_was_never_there() {
    let mut bench = Bench::new();
    let room = bench.producer.claim(8).unwrap().unwrap();
    bench.producer.write_label(&room, label(1)).unwrap();
    drop(room);
    assert_eq!(bench.pop(), None);
    assert_eq!(bench.push(2, b"next"), Some(0));
    assert_eq!(bench.pop(), Some((2, b"next".to_vec())));
}

#[test]
fn an_empty_body_is_a_frame() {
    let mut bench = Bench::new();
    bench.push(1, b"");
    assert!(bench.producer.ring().has_frames().unwrap());
    assert_eq!(bench.pop(), Some((1, Vec::new())));
    assert!(!bench.producer.ring().has_frames().unwrap());
}

#[test]
fn a_revoked_frame_is_stepped_over_and_its_room_used_again() {
    let mut bench = Bench::new();
    for round in 0..50 {
        let position = bench.push(round, &[7; 60]).unwrap();
        let frame = bench.producer.revoke(position, round).unwrap().unwrap();
        assert_eq!(frame.body_bytes, 60);
        assert_eq!(bench.producer.revoke(position, round).unwrap(), None);
        assert_eq!(bench.pop(), None);
    }
}

#[test]
fn two_threads_pass_frames_of_all_lengths() {
    const COUNT: u64 = if cfg!(miri) { 200 } else { 100_000 };
    let mut bench = Bench::new();
    let bench = &mut bench;
    let (producer, consumer) = (&mut bench.producer, &mut bench.consumer);
    let body_of = |id: u64| vec![id as u8; (id % 64) as usize];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for id in 0..COUNT {
                while producer.push(label(id), &body_of(id)).unwrap().is_none() {
                    std::thread::yield_now();
                }
            }
        });
        for id in 0..COUNT {
            let frame = loop {
                match pop(consumer).unwrap() {
                    Some(frame) => break frame,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(frame, (id, body_of(id)));
        }
    });
}

#[test]
fn of_two_threads_exactly_one_gets_each_frame() {
    const COUNT: u64 = if cfg!(miri) { 200 } else { 20_000 };
    let mut bench = Bench::new();
    let bench = &mut bench;
    let (producer, consumer) = (&mut bench.producer, &mut bench.consumer);
    let (done, stop) = std::sync::mpsc::channel::<()>();
    let (revoked, received) = std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let mut received = Vec::new();
            loop {
                match pop(consumer).unwrap() {
                    Some((id, _)) => received.push(id),
                    None if stop.try_recv().is_err() => std::thread::yield_now(),
                    None => return received,
                }
            }
        });
        let mut revoked = Vec::new();
        for id in 0..COUNT {
            let position = loop {
                match producer.push(label(id), b"body").unwrap() {
                    Some(position) => break position,
                    None => std::thread::yield_now(),
                }
            };
            if producer.revoke(position, id).unwrap().is_some() {
                revoked.push(id);
            }
        }
        while producer.ring().has_frames().unwrap() {
            std::thread::yield_now();
        }
        done.send(()).unwrap();
        (revoked, receiver.join().unwrap())
    });
    let mut all = [revoked, received].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..COUNT));
}
