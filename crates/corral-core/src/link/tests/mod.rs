//! Tests of the link: both sides in this process, blocks that change hands, and damaged memory.

mod damage;
mod slate;

use super::*;
use crate::bell::Bell;
use crate::heap::BlockRef;
use crate::wait::Deadline;

const CAPACITY: usize = 1024;

struct Pair {
    heap: Arc<Heap>,
    parent: ParentLink,
    worker: WorkerLink,
}

fn pair() -> Pair {
    let heap = Arc::new(Heap::create(0).unwrap());
    let bell = Arc::new(Bell::create(Arc::clone(&heap)).unwrap());
    let parent = ParentLink::create(Arc::clone(&heap), Arc::clone(&bell), CAPACITY).unwrap();
    let event = bell.as_fd().try_clone_to_owned().unwrap();
    let worker = WorkerLink::attach(Arc::clone(&heap), parent.reference(), event).unwrap();
    Pair { heap, parent, worker }
}

fn tag(id: u64) -> Tag {
    Tag { kind: 1, id, aux: 3 }
}

/// A body that has been copied out.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Bytes(Vec<u8>),
    Block(u64),
}

fn got(body: Arrived<'_>) -> Got {
    match body {
        Arrived::Bytes(bytes) => {
            let mut copy = vec![0; bytes.length()];
            bytes.copy_to(&mut copy).unwrap();
            Got::Bytes(copy)
        }
        Arrived::Block(BlockRef { reference, .. }) => Got::Block(reference),
    }
}

impl Pair {
    fn send(&self, id: u64, body: Body<'_>) -> u64 {
        self.parent.send(tag(id), body).unwrap().unwrap()
    }

    fn receive(&self) -> Option<(Tag, Got)> {
        self.worker.try_receive(|tag, body| (tag, got(body))).unwrap()
    }

    fn collect(&self) -> Vec<(Tag, Got)> {
        let mut frames = Vec::new();
        let result = self.parent.collect(100, |tag, body| -> Result<(), LinkError> {
            frames.push((tag, got(body)));
            Ok(())
        });
        assert_eq!(result.unwrap(), frames.len());
        frames
    }

    fn block(&self) -> u64 {
        pack(&self.heap, &[b"payload", b"buffer"]).unwrap().reference
    }

    fn owner(&self, reference: u64) -> u64 {
        self.heap.owner_of(reference).unwrap()
    }
}

#[test]
fn frames_go_both_ways() {
    let pair = pair();
    pair.send(5, Body::Bytes(b"there"));
    assert_eq!(pair.receive(), Some((tag(5), Got::Bytes(b"there".to_vec()))));
    assert!(pair.worker.try_reply(tag(5), Body::Bytes(b"back")).unwrap());
    assert!(pair.parent.has_replies());
    assert_eq!(pair.collect(), [(tag(5), Got::Bytes(b"back".to_vec()))]);
    assert!(!pair.parent.has_replies());
}

#[test]
fn a_block_goes_there_and_back() {
    let pair = pair();
    let block = pair.block();
    pair.send(1, Body::Block(block));
    assert_eq!(pair.receive(), Some((tag(1), Got::Block(block))));
    assert!(pair.worker.try_reply(tag(1), Body::Block(block)).unwrap());
    assert_eq!(pair.collect(), [(tag(1), Got::Block(block))]);
}

#[test]
fn blocks_in_frames_nobody_took_are_freed_with_the_link() {
    let Pair { heap, parent, worker } = pair();
    let blocks = [0, 1].map(|_| pack(&heap, &[b"x"]).unwrap().reference);
    let positions = blocks.map(|block| parent.send(tag(1), Body::Block(block)).unwrap().unwrap());
    let revoked = parent.revoke(positions[0], 1, got).unwrap();
    assert_eq!(revoked, Some(Got::Block(blocks[0])));
    drop(worker);
    drop(parent);
    assert_eq!(heap.owner_of(blocks[0]).unwrap(), identity(), "it was given back to us");
    assert_eq!(heap.owner_of(blocks[1]).unwrap(), 0);
}

fn identity() -> u64 {
    crate::identity::current()
}

#[test]
fn a_block_that_was_received_is_not_the_links_to_free() {
    let Pair { heap, parent, worker } = pair();
    let block = pack(&heap, &[b"x"]).unwrap().reference;
    parent.send(tag(1), Body::Block(block)).unwrap().unwrap();
    worker.try_receive(|_, body| got(body)).unwrap().unwrap();
    assert_eq!(parent.settle().unwrap(), 0);
    drop(worker);
    drop(parent);
    assert_eq!(heap.owner_of(block).unwrap(), identity());
}

#[test]
fn settling_frees_what_the_dead_had_taken_but_not_adopted() {
    let pair = pair();
    let block = pair.block();
    let position = pair.send(1, Body::Block(block));
    let cut_off = crate::steps::abandon_after(1, || pair.receive());
    assert_eq!(cut_off.unwrap_err().0, "ring.taken");
    assert!(pair.parent.is_taken(position, 1).unwrap());
    assert_eq!(pair.owner(block), identity());
    assert_eq!(pair.parent.settle().unwrap(), 1);
    assert_eq!(pair.owner(block), 0);
}

#[test]
fn a_receive_cut_off_anywhere_leaves_the_block_to_the_parent_or_adopted() {
    for count in 0.. {
        let pair = pair();
        let block = pair.block();
        let position = pair.send(1, Body::Block(block));
        let Err(cut_off) = crate::steps::abandon_after(count, || pair.receive()) else { break };
        if pair.parent.is_taken(position, 1).unwrap() {
            // Here both sides are one process: as if recovered, or settled.
            pair.parent.settle().unwrap();
        } else {
            let body = pair.parent.revoke(position, 1, got).unwrap();
            assert_eq!(body, Some(Got::Block(block)), "{}", cut_off.0);
        }
    }
}

#[test]
fn the_links_block_is_kept_while_its_worker_may_write_to_it() {
    let Pair { heap, parent, worker } = pair();
    let (link, bell) = (parent.reference(), parent.bell().reference());
    drop(parent);
    assert_eq!(heap.owner_of(link).unwrap(), identity());
    assert_eq!(heap.owner_of(bell).unwrap(), identity());
    drop(worker);
}

#[test]
fn who_only_rings_a_bell_does_not_take_it_down() {
    let Pair { heap, parent, worker } = pair();
    drop(worker);
    assert_eq!(heap.owner_of(parent.bell().reference()).unwrap(), identity());
}

#[test]
fn the_links_block_is_given_back_when_no_worker_can_write_to_it() {
    let Pair { heap, parent, worker } = pair();
    let (link, bell) = (parent.reference(), parent.bell().reference());
    drop(worker);
    drop(parent);
    assert_eq!(heap.owner_of(link).unwrap(), 0);
    assert_eq!(heap.owner_of(bell).unwrap(), 0);
}

#[test]
fn nobody_attaches_to_what_is_no_link() {
    let heap = Arc::new(Heap::create(0).unwrap());
    let bell = Arc::new(Bell::create(Arc::clone(&heap)).unwrap());
    let stranger = heap.alloc(100_000).unwrap().reference;
    for reference in [0, stranger, bell.reference(), 999, u64::MAX] {
        let event = bell.as_fd().try_clone_to_owned().unwrap();
        let attached = WorkerLink::attach(Arc::clone(&heap), reference, event);
        assert!(
            matches!(attached, Err(LinkError::Damaged(_) | LinkError::Heap(HeapError::Damaged(_)))),
            "{reference}"
        );
    }
}

#[test]
fn a_reply_that_could_not_be_taken_comes_again() {
    let pair = pair();
    for id in 0..2 {
        assert!(pair.worker.try_reply(tag(id), Body::Bytes(b"body")).unwrap());
    }
    let mut count = 0;
    let collected = pair.parent.collect(10, |_, _| {
        count += 1;
        if count == 1 { Ok(()) } else { Err(LinkError::Unfit("the sink is full")) }
    });
    assert_eq!(collected.unwrap(), 1);
    assert_eq!(pair.collect(), [(tag(1), Got::Bytes(b"body".to_vec()))]);
}

#[test]
fn a_link_has_one_worker_in_its_life() {
    let pair = pair();
    // As if that worker were another process.
    let word = pair.parent.shared.region.word(layout::WORKER_AT).unwrap();
    word.store(identity() ^ 1, Ordering::Relaxed);
    let event = pair.parent.bell().as_fd().try_clone_to_owned().unwrap();
    let second = WorkerLink::attach(Arc::clone(&pair.heap), pair.parent.reference(), event);
    assert!(matches!(second, Err(LinkError::Damaged(_))), "{second:?}");
    word.store(0, Ordering::Relaxed);
}

#[test]
fn a_capacity_is_a_power_of_two_within_bounds() {
    let heap = Arc::new(Heap::create(0).unwrap());
    let bell = Arc::new(Bell::create(Arc::clone(&heap)).unwrap());
    for capacity in [0, 128, 1000, usize::MAX] {
        let link = ParentLink::create(Arc::clone(&heap), Arc::clone(&bell), capacity);
        assert!(matches!(link, Err(LinkError::Unfit(_))), "{capacity}");
    }
}

#[test]
fn a_second_thread_at_one_end_is_told_so() {
    let pair = pair();
    pair.send(1, Body::Bytes(b""));
    let inner = pair.worker.try_receive(|_, _| pair.worker.try_receive(|_, _| ()).unwrap_err());
    assert!(matches!(inner.unwrap().unwrap(), LinkError::Busy));
}

#[test]
fn a_worker_that_waits_for_room_is_woken_by_a_collection() {
    let pair = pair();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..1000 {
                while !pair.worker.try_reply(tag(id), Body::Bytes(&[1; 100])).unwrap() {
                    pair.worker.wait_room(100).unwrap();
                }
            }
        });
        let mut next = 0;
        while next < 1000 {
            for (frame, _) in pair.collect() {
                assert_eq!(frame.id, next);
                next += 1;
            }
        }
    });
}

#[test]
fn a_worker_that_waits_for_frames_is_woken_by_a_send() {
    let pair = pair();
    for spin_ns in [0, 100_000] {
        pair.worker.set_spin_ns(spin_ns);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for id in 0..2000 {
                    while pair.parent.send(tag(id), Body::Bytes(b"")).unwrap().is_none() {
                        std::thread::yield_now();
                    }
                }
            });
            for id in 0..2000 {
                let (frame, _) = loop {
                    if let Some(frame) = pair.receive() {
                        break frame;
                    }
                    pair.worker.wait_frames(Deadline::NEVER, true).unwrap();
                };
                assert_eq!(frame.id, id);
            }
        });
    }
}

#[test]
fn waiting_for_frames_ends_with_the_deadline() {
    let pair = pair();
    assert_eq!(pair.worker.wait_frames(Deadline::PASSED, true).unwrap(), Waited::TimedOut);
    let soon = Deadline::after(std::time::Duration::from_millis(1));
    assert_eq!(pair.worker.wait_frames(soon, false).unwrap(), Waited::TimedOut);
    assert!(soon.has_passed());
}
