//! Tests of the two ends: what one sends the other gets, the socket tells the truth, ends are noticed, and a cut at any step is survived.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::channel::{ChannelError, Item, Taken};
use crate::heap::Heap;
use crate::identity;
use crate::pipe::layout::Side;
use crate::region::{Memory, Region};
use crate::steps::abandon_after;
use crate::sync::Ordering;
use crate::sys::socket::{Input, wait_input};
use crate::wait::Deadline;

const CAPACITY_BYTES: u64 = 1 << 20;
/// Of a process that there is not: its pid is above every maximum.
const DEAD: u64 = ((1 << 22) - 1) << 42 | 1;

#[derive(Debug)]
enum Failure {
    Pipe,
    Signal,
}

impl From<PipeError> for Failure {
    fn from(_: PipeError) -> Self {
        Self::Pipe
    }
}

impl From<ChannelError> for Failure {
    fn from(_: ChannelError) -> Self {
        Self::Pipe
    }
}

fn heap() -> Arc<Heap> {
    Arc::new(Heap::create(1 << 30).unwrap())
}

fn pipe(duplex: bool) -> (End, End) {
    let heap = heap();
    let (reference, first, second) = create(&heap, duplex, CAPACITY_BYTES).unwrap();
    let end = |side, socket| End::attach(Arc::clone(&heap), reference, side, socket, 0).unwrap();
    (end(Side::First, first), end(Side::Second, second))
}

fn send(end: &End, bytes: &[u8]) {
    let sent: Result<bool, Failure> = end.send(Item::Bytes(bytes), Deadline::NEVER, &mut || Ok(()));
    assert!(sent.unwrap());
}

fn recv(end: &End) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match end.recv_in_turn(&mut bytes, Deadline::PASSED).unwrap()? {
        Taken::Bytes(_) => Some(bytes),
        Taken::Block(_) => panic!("nobody sent one"),
    }
}

fn mute(end: &End) {
    let muted: Result<bool, Failure> = end.mute(false, Deadline::NEVER, &mut || Ok(()));
    assert!(muted.unwrap());
}

fn wait(end: &End, deadline: Deadline) -> Waited {
    let waited: Result<Waited, Failure> = end.wait(deadline, &mut || Ok(()));
    waited.unwrap()
}

fn is_readable(end: &End) -> bool {
    wait_input(end.socket(), Some(Duration::ZERO)).unwrap() != Input::TimedOut
}

#[test]
fn messages_go_each_way() {
    let (first, second) = pipe(true);
    send(&first, b"there");
    send(&second, b"and back");
    assert_eq!(recv(&second).unwrap(), b"there");
    assert_eq!(recv(&first).unwrap(), b"and back");
    assert_eq!((recv(&first), recv(&second)), (None, None));
}

#[test]
fn a_one_way_pipe_refuses_the_other_way() {
    let (reader, writer) = pipe(false);
    assert!(reader.reads() && !reader.writes() && writer.writes() && !writer.reads());
    assert!(matches!(reader.try_send(Item::Bytes(b"")), Err(PipeError::OneWay)));
    assert!(matches!(writer.is_ready(), Err(PipeError::OneWay)));
}

#[test]
fn waiting_ends_with_a_message_the_time_or_the_end() {
    let (reader, writer) = pipe(false);
    assert_eq!(wait(&reader, Deadline::after(Duration::from_millis(1))), Waited::TimedOut);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            send(&writer, b"late");
        });
        assert_eq!(wait(&reader, Deadline::NEVER), Waited::Ready);
    });
    drop(writer);
    assert_eq!(wait(&reader, Deadline::NEVER), Waited::Ready);
    assert_eq!(recv(&reader).unwrap(), b"late");
    assert_eq!(wait(&reader, Deadline::NEVER), Waited::Ended);
}

#[test]
fn a_signal_ends_waiting() {
    let (reader, writer) = pipe(false);
    let waited = reader.wait(Deadline::NEVER, &mut || Err(Failure::Signal));
    assert!(matches!(waited, Err(Failure::Signal)));
    send(&writer, &[0; 1000]);
    while writer.try_send(Item::Bytes(&[0; 4096])).unwrap() {}
    let sent = writer.send(Item::Bytes(&[0; 4096]), Deadline::NEVER, &mut || Err(Failure::Signal));
    assert!(matches!(sent, Err(Failure::Signal)));
}

#[test]
fn a_stream_to_a_receiver_that_is_awake_costs_one_byte() {
    let (reader, writer) = pipe(false);
    (0..100).for_each(|_| send(&writer, b"x"));
    while recv(&reader).is_some() {}
    assert!(is_readable(&reader), "nobody went by the socket");
    mute(&reader);
    assert!(!is_readable(&reader));
}

#[test]
fn a_receiver_that_waits_long_hands_the_pages_of_large_messages_back() {
    let (reader, _writer) = pipe(false);
    let block = reader.heap().alloc(4 << 20).unwrap();
    reader.heap().free(block.reference).unwrap();
    assert!(reader.heap().stats().unwrap().bytes_resident > 4 << 20);
    let waited = wait(&reader, Deadline::after(Duration::from_millis(1500)));
    assert_eq!(waited, Waited::TimedOut);
    assert!(reader.heap().stats().unwrap().bytes_resident < 1 << 20);
}

#[test]
fn a_byte_that_is_not_ours_wakes_nobody_for_long() {
    let (reader, writer) = pipe(false);
    crate::sys::socket::send_byte(writer.socket()).unwrap();
    assert_eq!(wait(&reader, Deadline::after(Duration::from_millis(20))), Waited::TimedOut);
    assert!(!is_readable(&reader));
}

#[test]
fn sending_to_nobody_fails_from_the_close_on() {
    let (reader, writer) = pipe(false);
    send(&writer, b"for nobody");
    let copy = reader.socket().try_clone_to_owned().unwrap();
    let other = End::attach(Arc::clone(reader.heap()), reader.reference(), Side::First, copy, 0).unwrap();
    drop(reader);
    send(&writer, b"the other copy can still read");
    drop(other);
    assert!(matches!(writer.try_send(Item::Bytes(b"x")), Err(PipeError::Broken)));
}

#[test]
fn who_has_read_the_end_sends_no_more() {
    for look in [
        |end: &End| assert!(end.is_ready().unwrap()),
        |end: &End| {
            assert_eq!(wait(end, Deadline::NEVER), Waited::Ended);
        },
    ] {
        let (first, second) = pipe(true);
        send(&first, b"looked just now");
        // As if it had been killed: the socket alone is closed, and nobody counts.
        crate::sys::socket::shut_down(second.socket()).unwrap();
        look(&first);
        assert!(matches!(first.try_send(Item::Bytes(b"x")), Err(PipeError::Broken)));
    }
}

#[test]
fn what_is_no_pipe_is_refused() {
    let heap = heap();
    let (_, socket, _other) = create(&heap, true, 0).unwrap();
    let block = heap.alloc(layout::BYTES).unwrap();
    for reference in [0, block.reference, 99] {
        let socket = socket.try_clone().unwrap();
        assert!(End::attach(Arc::clone(&heap), reference, Side::First, socket, 0).is_err(), "{reference}");
    }
}

/// What this thread had taken of the pipe is a dead process's from now on.
fn die(end: &End) {
    let start = end.heap().slice(end.reference()).unwrap();
    // SAFETY: INV-REGION-1: the block lies in the mapping that `end` keeps.
    let pipe = unsafe { Region::new(start.0, start.1) }.unwrap();
    for side in [Side::First, Side::Second] {
        let reference = pipe.word(side.outgoing_at()).unwrap().load(Ordering::Relaxed);
        let Ok((start, length)) = end.heap().slice(reference) else { continue };
        // SAFETY: INV-REGION-1: as above.
        let channel = unsafe { Region::new(start, length) }.unwrap();
        for offset in (0..length).step_by(8) {
            let word = channel.word(offset).unwrap();
            let _ = word.compare_exchange(identity::current(), DEAD, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// After a death the next message is announced, and a receiver that mutes leaves the socket as it should be.
fn survivors_go_on(reader: &End, writer: &End, may_have_come: bool) -> usize {
    let mut earlier = 0;
    send(writer, b"next");
    assert!(is_readable(reader), "a message without a byte, with a living sender");
    loop {
        match recv(reader).unwrap().as_slice() {
            b"next" => break,
            other => assert_eq!(other, b"cut"),
        }
        earlier += 1;
    }
    assert!(earlier == 0 || may_have_come);
    mute(reader);
    assert!(!is_readable(reader), "a byte without a message");
    send(writer, b"last");
    assert!(is_readable(reader));
    assert_eq!(recv(reader).unwrap(), b"last");
    earlier
}

#[test]
fn a_sender_cut_off_at_any_step_leaves_the_pipe_working() {
    let mut cuts = Vec::new();
    for count in 0.. {
        let (reader, writer) = pipe(false);
        let outcome = abandon_after(count, || writer.try_send(Item::Bytes(b"cut")).unwrap());
        die(&writer);
        let came = survivors_go_on(&reader, &writer, true);
        match outcome {
            Ok(sent) => {
                assert!(sent && came == 1);
                break;
            }
            Err(cut) => cuts.push(cut.0),
        }
    }
    for step in ["channel.entered", "bell.ringing", "bell.unsure", "bell.sent"] {
        assert!(cuts.contains(&step), "{step} of {cuts:?}");
    }
}

#[test]
fn a_receiver_cut_off_while_it_mutes_leaves_the_pipe_working() {
    let mut cuts = Vec::new();
    for count in 0.. {
        let (reader, writer) = pipe(false);
        send(&writer, b"before");
        assert_eq!(recv(&reader).unwrap(), b"before");
        let outcome = abandon_after(count, || mute(&reader));
        die(&reader);
        survivors_go_on(&reader, &writer, false);
        match outcome {
            Ok(()) => break,
            Err(cut) => cuts.push(cut.0),
        }
    }
    for step in ["channel.entered", "bell.muting", "bell.untaken", "bell.taken"] {
        assert!(cuts.contains(&step), "{step} of {cuts:?}");
    }
}

#[test]
fn a_message_whose_sender_died_before_it_rang_is_found_by_who_looks() {
    let (reader, writer) = pipe(false);
    let cut = (0..).find(|&count| {
        let outcome = abandon_after(count, || writer.try_send(Item::Bytes(b"cut")).unwrap());
        outcome.is_err_and(|cut| cut.0 == "bell.ringing") || {
            die(&writer);
            while recv(&reader).is_some() {}
            mute(&reader);
            false
        }
    });
    assert!(cut.is_some());
    assert!(!is_readable(&reader));
    die(&writer);
    assert_eq!(wait(&reader, Deadline::NEVER), Waited::Ready);
    assert_eq!(recv(&reader).unwrap(), b"cut");
}
