//! Crash enumeration: each operation abandoned after every step, then what a survivor finds.
//!
//! The killed process is one whose pid is 0, which counts as dead. Each operation is cut off at each step twice: once the survivor
//! inherits the side and recovers the dead one's blocks then, once its blocks are recovered before, and have come back as others.

use std::os::fd::AsFd as _;

use super::*;
use crate::channel::item::pack_as;
use crate::steps;
use crate::sys::event::{create_eventfd, wait_readable};

const KILLED: u64 = 3;
const LONG: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovered {
    WithTheSide,
    Before,
}

/// Runs `operation` as the process that is killed, at every step it has, and has a survivor check; the steps' names.
fn enumerate_crashes(
    make: impl Fn() -> Channel,
    operation: impl Fn(&Channel) -> Result<(), ChannelError>,
    check: impl Fn(&Channel, bool),
) -> Vec<&'static str> {
    let mut names = Vec::new();
    loop {
        let mut cut_off = Ok(());
        for recovered in [Recovered::WithTheSide, Recovered::Before] {
            let channel = make();
            channel.acts_as.store(KILLED, Ordering::Relaxed);
            cut_off = steps::abandon_after(names.len(), || operation(&channel).unwrap());
            channel.acts_as.store(0, Ordering::Relaxed);
            let survivor = attached(&channel);
            if recovered == Recovered::Before {
                survivor.recover(KILLED).unwrap();
            }
            check(&survivor, cut_off.is_ok());
            check_it_works(&survivor);
        }
        match cut_off {
            Ok(()) => return names,
            Err(steps::Abandoned(name)) => names.push(name),
        }
    }
}

/// Both sides go on, and nothing is left over.
fn check_it_works(survivor: &Channel) {
    for number in 0..3 {
        send(survivor, &[number]);
        send_block(survivor, &[&[number; LONG]]);
    }
    for number in 0..3 {
        assert_eq!(recv(survivor).unwrap(), [number]);
        assert_eq!(recv(survivor).unwrap(), [number; LONG]);
    }
    assert_eq!((recv(survivor), survivor.length()), (None, 0));
    survivor.recover(KILLED).unwrap();
    assert_eq!(others_used(survivor), 0, "a block was lost");
}

fn drain(channel: &Channel) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| recv(channel)).collect()
}

/// An item that fills a good part of a segment.
fn filler(number: u8) -> Vec<u8> {
    vec![number; layout::MAX_INLINE_BYTES]
}

fn with_fillers(count: u8) -> Channel {
    let channel = channel();
    (0..count).for_each(|number| send(&channel, &filler(number)));
    channel
}

/// Sends `contents`, the long ones as blocks, all at once, as the process that is killed.
fn send_all(channel: &Channel, contents: &[Vec<u8>]) -> Result<(), ChannelError> {
    let items: Vec<Item<'_>> = contents
        .iter()
        .map(|content| match content.len() {
            LONG => Item::Block(pack_as(KILLED, &channel.heap, &[content]).unwrap()),
            _ => Item::Bytes(content),
        })
        .collect();
    let mut sent = 0;
    waiting(Deadline::NEVER, |waiting| channel.send_many(&items, &mut sent, waiting))?;
    assert_eq!(sent, items.len());
    Ok(())
}

/// Receives as the process that is killed: `count` items.
fn take(channel: &Channel, count: u64) -> Result<(), ChannelError> {
    let (mut bytes, mut taken) = (Vec::new(), 0);
    while taken < count {
        let mut found = |_| {};
        taken += waiting(Deadline::NEVER, |waiting| {
            channel.recv_many(count - taken, &mut bytes, &mut found, waiting)
        })?;
    }
    Ok(())
}

/// Cuts a producer off: what was there comes, then a beginning of what was being sent.
fn killed_producer(before: u8, contents: &[Vec<u8>]) -> Vec<&'static str> {
    enumerate_crashes(
        || with_fillers(before),
        |channel| send_all(channel, contents),
        |survivor, finished| {
            let got = drain(survivor);
            let expected: Vec<Vec<u8>> = (0..before).map(filler).chain(contents.iter().cloned()).collect();
            let least = if finished { expected.len() } else { usize::from(before) };
            assert!(got.len() >= least, "lost: {} of {}", got.len(), expected.len());
            assert!(got == expected[..got.len()], "not a beginning of what was sent");
        },
    )
}

/// Cuts a consumer off after others were sent: what it has not taken comes, in order. Meanwhile others send.
fn killed_consumer(contents: &[Vec<u8>], count: u64) -> Vec<&'static str> {
    let others = [vec![200; LONG], vec![201; 10], vec![202; LONG]];
    enumerate_crashes(
        || {
            let channel = channel();
            send_each(&channel, contents);
            channel
        },
        |channel| take(channel, count),
        |survivor, finished| {
            // The dead one's blocks may come back as these before anybody has inherited its side.
            send_each(survivor, &others);
            let got = drain(survivor);
            let expected: Vec<Vec<u8>> = contents.iter().chain(&others).cloned().collect();
            let gone = expected.len() - got.len();
            assert!(got == expected[gone..], "not an end of what was sent");
            assert!(gone <= usize::try_from(count).unwrap(), "lost more than was in its hands");
            assert!(!finished || gone == usize::try_from(count).unwrap(), "came twice");
        },
    )
}

fn send_each(channel: &Channel, contents: &[Vec<u8>]) {
    for content in contents {
        if content.len() == LONG { send_block(channel, &[content]) } else { send(channel, content) }
    }
}

fn assert_passed(names: &[&str], expected: &[&str]) {
    for name in expected {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
}

#[test]
fn killed_while_it_sends_bytes() {
    let names = killed_producer(1, &[vec![9; 3]]);
    assert_passed(
        &names,
        &["channel.entered", "commit.placed", "commit.counted", "commit.done", "tenure.released"],
    );
}

#[test]
fn killed_while_it_sends_a_block() {
    let names = killed_producer(1, &[vec![9; LONG]]);
    assert_passed(
        &names,
        &["pack.allocated", "block.intended", "block.given", "commit.done", "block.settled"],
    );
}

#[test]
fn killed_while_it_grows() {
    // The first segment has room for three.
    let names = killed_producer(3, &[filler(9)]);
    assert_passed(
        &names,
        &["segment.allocated", "grow.intended", "grow.given", "commit.done", "grow.settled"],
    );
    let names = killed_producer(3, &[vec![8; 4024], vec![9; LONG], vec![10; LONG]]);
    assert_passed(&names, &["grow.given", "block.given", "grow.settled", "block.settled"]);
}

#[test]
fn killed_while_it_sends_many() {
    let contents: Vec<Vec<u8>> =
        (0..24).map(|number| if number % 5 == 3 { vec![number; LONG] } else { filler(number) }).collect();
    killed_producer(0, &contents);
}

#[test]
fn killed_while_it_receives_bytes() {
    let names = killed_consumer(&[vec![1; 3], vec![2; 3]], 1);
    assert_passed(
        &names,
        &["channel.entered", "commit.placed", "commit.counted", "commit.done", "tenure.released"],
    );
}

#[test]
fn killed_while_it_receives_a_block() {
    let names = killed_consumer(&[vec![1; LONG], vec![2; LONG], vec![3; 3]], 1);
    assert_passed(&names, &["adopt.intended", "commit.done", "adopt.claimed", "adopt.settled"]);
    killed_consumer(&[vec![1; LONG], vec![2; LONG], vec![3; 3]], 3);
}

#[test]
fn killed_while_it_leaves_a_segment() {
    let mut contents: Vec<Vec<u8>> = (0..5).map(filler).collect();
    contents.push(vec![6; 3]);
    let names = killed_consumer(&contents, 4);
    assert_passed(
        &names,
        &["retire.intended", "commit.done", "free.released", "retire.freed", "retire.settled"],
    );
    contents.insert(3, vec![7; LONG]);
    let names = killed_consumer(&contents, 5);
    assert_passed(&names, &["retire.intended", "adopt.intended", "retire.freed", "adopt.settled"]);
}

#[test]
fn killed_while_it_receives_many() {
    let contents: Vec<Vec<u8>> =
        (0..24).map(|number| if number % 5 == 3 { vec![number; LONG] } else { filler(number) }).collect();
    killed_consumer(&contents, 24);
}

#[test]
fn killed_while_it_repairs() {
    // The first is killed where most is left to do, the second while it repairs that, at every step.
    for (first, contents) in [("grow.given", filler(9)), ("block.given", vec![9; LONG])] {
        let names = enumerate_crashes(
            || {
                let send = |channel: &Channel| send_all(channel, std::slice::from_ref(&contents));
                abandoned_at(first, || with_fillers(3), send)
            },
            |channel| {
                channel.acts_as.store(KILLED + 1, Ordering::Relaxed);
                send_all(channel, &[b"next".to_vec()])
            },
            |survivor, finished| {
                let got = drain(survivor);
                let expected: Vec<Vec<u8>> = (0..3).map(filler).chain([b"next".to_vec()]).collect();
                assert!(got == expected[..got.len()] && got.len() >= if finished { 4 } else { 3 });
                survivor.recover(KILLED + 1).unwrap();
            },
        );
        assert_passed(&names, &["tenure.dead", "repair.freed", "repair.done"]);
    }
}

#[test]
fn killed_while_it_repairs_what_a_consumer_left() {
    let contents: Vec<Vec<u8>> = vec![filler(0), filler(1), filler(2), vec![3; LONG], filler(4)];
    let names = enumerate_crashes(
        || {
            let make = || {
                let channel = channel();
                send_each(&channel, &contents);
                take(&channel, 3).unwrap();
                channel
            };
            abandoned_at("commit.done", make, |channel| take(channel, 1))
        },
        |channel| {
            channel.acts_as.store(KILLED + 1, Ordering::Relaxed);
            take(channel, 1)
        },
        |survivor, finished| {
            let got = drain(survivor);
            assert!(got.is_empty() || (!finished && got == [filler(4)]));
            survivor.recover(KILLED + 1).unwrap();
        },
    );
    assert_passed(&names, &["tenure.dead", "repair.freed", "repair.done"]);
}

/// A channel on which the operation was abandoned where it first passes the step `name`.
fn abandoned_at(
    name: &str,
    make: impl Fn() -> Channel,
    operation: impl Fn(&Channel) -> Result<(), ChannelError>,
) -> Channel {
    for count in 0.. {
        let channel = make();
        channel.acts_as.store(KILLED, Ordering::Relaxed);
        match steps::abandon_after(count, || operation(&channel).unwrap()) {
            Err(steps::Abandoned(at)) if at == name => return channel,
            Err(_) => {}
            Ok(()) => break,
        }
    }
    panic!("no step {name}")
}

#[test]
fn killed_while_it_says_that_an_item_is_done() {
    let names = enumerate_crashes(
        || {
            let channel = channel();
            send(&channel, b"one");
            assert_eq!(recv(&channel).unwrap(), b"one");
            channel
        },
        |channel| channel.item_done().map(|done| assert!(done)),
        |survivor, finished| {
            let waited =
                waiting(Deadline::after(Duration::from_millis(1)), |waiting| survivor.wait_done(waiting));
            assert!(waited.unwrap() || !finished);
            assert_eq!(survivor.unfinished(), 0, "its first step counts");
        },
    );
    assert_passed(&names, &["done.counted", "done.zero"]);
}

#[test]
fn killed_while_the_event_is_changed() {
    let events = std::cell::RefCell::new(Vec::new());
    let polled = |items: u8| {
        let channel = channel().with_event(create_eventfd().unwrap());
        channel.poll_event().unwrap();
        (0..items).for_each(|number| send(&channel, &[number]));
        events.borrow_mut().push(channel.event().unwrap().try_clone_to_owned().unwrap());
        channel
    };
    let check = |survivor: &Channel, finished: bool| {
        let event = events.borrow_mut().pop().unwrap();
        let readable = || wait_readable(event.as_fd(), Some(Duration::ZERO)).unwrap();
        let exact = readable() == (survivor.length() > 0);
        assert!(exact || (!finished && readable()), "readable for nothing is the worst");
        let seen = attached(survivor).with_event(event.try_clone().unwrap());
        send(&seen, b"more");
        assert!(readable());
        drain(&seen);
        assert!(!readable());
    };
    let names = enumerate_crashes(|| polled(0), |channel| send_all(channel, &[vec![1]]), check);
    assert_passed(&names, &["event.signalled", "commit.done"]);
    let names = enumerate_crashes(|| polled(1), |channel| take(channel, 1), check);
    assert_passed(&names, &["event.unmarked", "event.drained"]);
}

fn counted(contents: &[Vec<u8>]) -> Channel {
    let mut channel = channel();
    channel.count_holders().unwrap();
    send_each(&channel, contents);
    channel
}

/// What the dead one holds is known exactly, and not waited for; what others hold is.
fn check_holders(survivor: &Channel, sent: u64, done_by_the_dead: u64) {
    let gone = sent - survivor.length();
    assert_eq!(survivor.abandoned().unwrap(), gone - done_by_the_dead);
    let soon = || Deadline::after(Duration::from_millis(6));
    let done = |survivor: &Channel| waiting(soon(), |waiting| survivor.wait_done(waiting)).unwrap();
    while recv(survivor).is_some() {
        assert!(!done(survivor), "an item of a living process is waited for");
        assert!(survivor.item_done().unwrap());
    }
    assert!(done(survivor), "nobody waits for the dead");
}

#[test]
fn killed_while_its_hands_are_full() {
    let contents = [filler(0), vec![1; LONG], filler(2), filler(3), vec![4]];
    let names = enumerate_crashes(
        || counted(&contents),
        |channel| take(channel, 4),
        |survivor, finished| {
            assert!(!finished || survivor.length() == 1);
            check_holders(survivor, 5, 0);
        },
    );
    assert_passed(&names, &["hold.claimed", "hold.intended", "hold.counted", "hold.settled"]);
}

#[test]
fn killed_while_it_says_that_what_it_holds_is_done() {
    enumerate_crashes(
        || {
            let channel = counted(&[vec![0], vec![1], vec![2]]);
            channel.acts_as.store(KILLED, Ordering::Relaxed);
            take(&channel, 2).unwrap();
            channel
        },
        |channel| channel.item_done().map(drop),
        |survivor, finished| {
            let (done, abandoned) = (3 - survivor.unfinished(), survivor.abandoned().unwrap());
            // One may count twice, and none is forgotten.
            assert!(done + abandoned == 2 || (!finished && done + abandoned == 3), "{done} and {abandoned}");
            drain(survivor);
            survivor.item_done().unwrap();
            assert!(
                waiting(Deadline::after(Duration::from_millis(6)), |waiting| survivor.wait_done(waiting))
                    .unwrap()
            );
        },
    );
}

#[test]
fn what_one_took_another_may_be_done_with_and_who_signs_off_abandons_nothing() {
    let here = counted(&[vec![0], vec![1], vec![2]]);
    let survivor = attached(&here);
    here.acts_as.store(KILLED, Ordering::Relaxed);
    take(&here, 2).unwrap();
    assert_eq!(survivor.abandoned().unwrap(), 2);
    assert!(survivor.item_done().unwrap(), "of another's");
    assert_eq!(survivor.abandoned().unwrap(), 1);
    here.sign_off().unwrap();
    assert_eq!((survivor.abandoned().unwrap(), survivor.unfinished()), (0, 2));
    here.acts_as.store(KILLED + 1, Ordering::Relaxed);
    take(&here, 1).unwrap();
    assert!(survivor.item_done().unwrap(), "of the one that has left");
    assert_eq!((survivor.abandoned().unwrap(), survivor.unfinished()), (1, 1));
}
