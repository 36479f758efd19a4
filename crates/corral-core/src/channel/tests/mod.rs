//! Tests of the channel: as one process sees it, between threads, against a model, cut off at every step, and with damaged memory.

mod crashes;
mod damage;
mod model;

use std::time::Duration;

use super::*;

/// As large as the small heap lets it be.
fn channel() -> Channel {
    bounded(Bounds::default())
}

fn bounded(bounds: Bounds) -> Channel {
    Channel::create(Arc::new(Heap::create(1 << 30).unwrap()), bounds).unwrap()
}

/// The same channel as another process sees it.
fn attached(channel: &Channel) -> Channel {
    let heap = Heap::attach(channel.heap.as_fd().try_clone_to_owned().unwrap()).unwrap();
    Channel::attach(Arc::new(heap), channel.reference()).unwrap()
}

fn waiting<R>(
    deadline: Deadline,
    operation: impl FnOnce(&mut Waiting<'_, ChannelError>) -> Result<R, ChannelError>,
) -> Result<R, ChannelError> {
    operation(&mut Waiting { deadline, interrupted: &mut || Ok(()) })
}

fn send(channel: &Channel, bytes: &[u8]) {
    assert!(waiting(Deadline::NEVER, |waiting| channel.send(Item::Bytes(bytes), waiting)).unwrap());
}

fn send_block(channel: &Channel, parts: &[&[u8]]) {
    let block = pack(&channel.heap, parts).unwrap();
    assert!(waiting(Deadline::NEVER, |waiting| channel.send(Item::Block(block), waiting)).unwrap());
}

/// What is there now, as bytes; a block's are those of its first part, and it is freed.
fn recv(channel: &Channel) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let taken = waiting(Deadline::PASSED, |waiting| channel.recv(&mut bytes, waiting)).unwrap()?;
    Some(open(channel, taken, &bytes))
}

fn open(channel: &Channel, taken: Taken, bytes: &[u8]) -> Vec<u8> {
    let Taken::Block(block) = taken else { return bytes.to_vec() };
    let content = first_part(&block);
    channel.heap.free(block.reference).unwrap();
    content
}

fn first_part(block: &crate::heap::BlockRef) -> Vec<u8> {
    // SAFETY: INV-HEAP-4: the block lies in the mapping; the test owns it.
    let bytes = unsafe { std::slice::from_raw_parts(block.ptr.as_ptr(), block.len) };
    let part = crate::frame::parts::read(bytes).unwrap()[0];
    bytes[part.offset..part.end()].to_vec()
}

/// Blocks in use but for the channel's own and its one segment.
fn others_used(channel: &Channel) -> u64 {
    channel.heap.stats().unwrap().blocks_used - 2
}

#[test]
fn items_come_in_the_order_they_were_sent() {
    let here = channel();
    let there = attached(&here);
    for number in 0..10_000_u32 {
        send(&here, &number.to_le_bytes());
    }
    assert_eq!((here.length(), there.length()), (10_000, 10_000));
    for number in 0..10_000_u32 {
        assert_eq!(recv(&there).unwrap(), number.to_le_bytes());
    }
    assert_eq!((recv(&here), here.length()), (None, 0));
    assert_eq!(others_used(&here), 0, "segments that were left are free");
}

#[test]
fn items_of_every_length_arrive_whole() {
    let here = channel();
    for length in [0, 1, 7, 8, 9, 1000, 4095, layout::MAX_INLINE_BYTES] {
        send(&here, &vec![7; length]);
        assert_eq!(recv(&here).unwrap(), vec![7; length]);
    }
    let outcome = here.try_send(Item::Bytes(&[0; layout::MAX_INLINE_BYTES + 1]));
    assert!(matches!(outcome, Err(ChannelError::Unfit(_))));
    assert_eq!(here.length(), 0);
}

#[test]
fn blocks_are_handed_over_and_nothing_of_them_stays() {
    let here = channel();
    let there = attached(&here);
    send(&here, b"before");
    send_block(&here, &[&[1; 100_000], b"buffer"]);
    send_block(&here, &[&[2; 3]]);
    send(&here, b"after");
    assert_eq!(recv(&there).unwrap(), b"before");
    assert_eq!(recv(&there).unwrap(), [1; 100_000]);
    assert_eq!(recv(&there).unwrap(), [2; 3]);
    assert_eq!(recv(&there).unwrap(), b"after");
    assert_eq!(others_used(&here), 0);
}

#[test]
fn a_bound_of_items_holds_and_room_comes_with_each_that_is_received() {
    let here = bounded(Bounds { items: 2, bytes: 0 });
    assert!(here.try_send(Item::Bytes(b"1")).unwrap());
    assert!(!here.is_full());
    assert!(here.try_send(Item::Bytes(b"2")).unwrap());
    assert!(here.is_full());
    assert!(!here.try_send(Item::Bytes(b"3")).unwrap());
    let later = Deadline::after(Duration::from_millis(1));
    assert!(!waiting(later, |waiting| here.send(Item::Bytes(b"3"), waiting)).unwrap());
    assert_eq!(recv(&here).unwrap(), b"1");
    assert!(here.try_send(Item::Bytes(b"3")).unwrap());
    assert_eq!((recv(&here).unwrap(), recv(&here).unwrap()), (b"2".to_vec(), b"3".to_vec()));
}

#[test]
fn a_bound_of_bytes_holds_but_one_item_always_has_room() {
    let here = bounded(Bounds { items: 0, bytes: 100 });
    assert!(here.try_send(Item::Bytes(&[0; 1000])).unwrap());
    assert!(here.is_full());
    assert!(!here.try_send(Item::Bytes(b"")).unwrap() || here.length() == 2);
    while recv(&here).is_some() {}
    for _ in 0..2 {
        assert!(here.try_send(Item::Bytes(&[0; 50])).unwrap());
    }
    assert!(!here.try_send(Item::Bytes(&[0; 1])).unwrap());
}

#[test]
fn many_are_sent_and_received_at_once_also_across_segments() {
    let here = bounded(Bounds { items: 5000, bytes: 0 });
    let contents: Vec<Vec<u8>> = (0..6000_u32).map(|number| number.to_le_bytes().repeat(9)).collect();
    let items: Vec<Item<'_>> = contents.iter().map(|bytes| Item::Bytes(bytes)).collect();
    let mut sent = 0;
    waiting(Deadline::PASSED, |waiting| here.send_many(&items, &mut sent, waiting)).unwrap();
    assert_eq!(sent, 5000);
    let (mut bytes, mut count) = (Vec::new(), 0);
    while count < 5000 {
        let mut found = |taken| assert_eq!(taken, Taken::Bytes(36));
        count += waiting(Deadline::PASSED, |waiting| here.recv_many(700, &mut bytes, &mut found, waiting))
            .unwrap();
    }
    assert_eq!(bytes, contents[..5000].concat());
    assert_eq!(others_used(&here), 0);
}

#[test]
fn once_closed_it_can_be_emptied_and_no_more() {
    let here = channel();
    let there = attached(&here);
    send(&here, b"last");
    there.close().unwrap();
    assert!(here.is_closed());
    assert!(matches!(here.try_send(Item::Bytes(b"late")), Err(ChannelError::Closed)));
    assert_eq!(recv(&here).unwrap(), b"last");
    let mut bytes = Vec::new();
    let outcome = waiting(Deadline::NEVER, |waiting| here.recv(&mut bytes, waiting));
    assert!(matches!(outcome, Err(ChannelError::Closed)));
}

#[test]
fn sleepers_are_woken_by_an_item_by_room_and_by_the_end() {
    let here = bounded(Bounds { items: 1, bytes: 0 });
    let there = attached(&here);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut bytes, mut count) = (Vec::new(), 0);
            while waiting(Deadline::NEVER, |waiting| there.recv(&mut bytes, waiting)).is_ok() {
                count += 1;
            }
            (bytes, count)
        });
        for number in 0..200_u8 {
            send(&here, &[number]);
        }
        here.close().unwrap();
        assert_eq!(receiver.join().unwrap(), ((0..200).collect(), 200));
    });
}

#[test]
fn an_interruption_ends_a_wait_and_takes_nothing() {
    let here = channel();
    let mut bytes = Vec::new();
    let mut interrupted = || Err(ChannelError::Unfit("a signal"));
    let mut waiting = Waiting { deadline: Deadline::NEVER, interrupted: &mut interrupted };
    assert!(matches!(here.recv(&mut bytes, &mut waiting), Err(ChannelError::Unfit("a signal"))));
    send(&here, b"one");
    assert_eq!(recv(&here).unwrap(), b"one");
}

#[test]
fn after_a_burst_its_memory_goes_back() {
    let here = channel();
    let content = vec![7; 1 << 20];
    (0..64).for_each(|_| send_block(&here, &[&content]));
    assert!(here.heap.stats().unwrap().bytes_resident > 64 << 20);
    while recv(&here).is_some() {}
    assert!(here.is_untidy());
    let mut bytes = Vec::new();
    // Asleep, with nothing to do.
    let later = Deadline::after(Duration::from_millis(900));
    assert!(waiting(later, |waiting| here.recv(&mut bytes, waiting)).unwrap().is_none());
    assert!(here.heap.stats().unwrap().bytes_resident < 32 << 20);
}

#[test]
fn what_is_no_channel_is_refused() {
    let here = channel();
    let block = here.heap.alloc(layout::BYTES).unwrap();
    for reference in [0, block.reference, 99] {
        let outcome = Channel::attach(Arc::clone(&here.heap), reference);
        assert!(matches!(outcome, Err(ChannelError::Damaged(_))), "{reference}");
    }
}

#[test]
fn between_many_threads_each_item_comes_once_and_each_producers_in_order() {
    const EACH: u32 = 3000;
    let here = bounded(Bounds { items: 500, bytes: 0 });
    let producers = [channel_pair(&here), channel_pair(&here)];
    let consumers = [channel_pair(&here), channel_pair(&here)];
    let mut received: Vec<Vec<(u8, u32)>> = std::thread::scope(|scope| {
        let sending: Vec<_> = (0_u8..)
            .zip(&producers)
            .map(|(name, side)| scope.spawn(move || produce(side, name, EACH)))
            .collect();
        let receiving: Vec<_> = consumers.iter().map(|side| scope.spawn(|| consume(side))).collect();
        sending.into_iter().for_each(|thread| thread.join().unwrap());
        here.close().unwrap();
        receiving.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for one in &received {
        for name in 0..2 {
            let numbers: Vec<u32> = one.iter().filter(|item| item.0 == name).map(|item| item.1).collect();
            assert!(numbers.is_sorted());
        }
    }
    let mut all = received.concat();
    all.sort_unstable();
    received.clear();
    let expected: Vec<(u8, u32)> =
        (0..2).flat_map(|name| (0..EACH).map(move |number| (name, number))).collect();
    assert_eq!(all, expected);
    assert_eq!(others_used(&here), 0);
}

fn channel_pair(here: &Channel) -> Channel {
    let side = attached(here);
    side.set_spin_ns(20_000);
    side
}

fn produce(side: &Channel, name: u8, count: u32) {
    for number in 0..count {
        let mut content = vec![name];
        content.extend_from_slice(&number.to_le_bytes());
        if number % 7 == 0 { send_block(side, &[&content]) } else { send(side, &content) }
    }
}

fn consume(side: &Channel) -> Vec<(u8, u32)> {
    let mut items = Vec::new();
    loop {
        let mut bytes = Vec::new();
        match waiting(Deadline::NEVER, |waiting| side.recv(&mut bytes, waiting)) {
            Ok(taken) => {
                let content = open(side, taken.unwrap(), &bytes);
                items.push((content[0], u32::from_le_bytes(content[1..5].try_into().unwrap())));
            }
            Err(ChannelError::Closed) => return items,
            Err(other) => panic!("{other}"),
        }
    }
}
