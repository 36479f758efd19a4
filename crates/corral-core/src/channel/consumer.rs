//! Receiving: under the consumers' tenure the next frames are copied, then committed as received.

use super::layout::{self, Place};
use super::side::Side;
use super::{Channel, ChannelError, Waiting};
use crate::doorbell::many;
use crate::heap::BlockRef;
use crate::region::{Damaged, Memory, Region};
use crate::steps::step;
use crate::sync::Ordering;

/// An item that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes, appended to what the caller gave.
    Bytes(usize),
    /// A block, by now this process's own.
    Block(BlockRef),
}

/// Where the bytes of items go.
pub trait Sink {
    /// Takes `length` bytes, which `fill` writes. It must not run anybody else's code: a tenure is held meanwhile.
    ///
    /// # Errors
    ///
    /// What `fill` says, or [`ChannelError::Unfit`] when there is no memory for them; the item then stays.
    fn take(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Damaged>,
    ) -> Result<(), ChannelError>;
}

impl Sink for Vec<u8> {
    fn take(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Damaged>,
    ) -> Result<(), ChannelError> {
        let start = self.len();
        self.try_reserve(length).map_err(|_| ChannelError::Unfit("no memory for what has come"))?;
        self.resize(start + length, 0);
        let Some(room) = self.get_mut(start..) else { return Ok(()) };
        Ok(fill(room)?)
    }
}

impl Channel {
    /// Receives an item if that can be done at once; None: there is none, or another consumer is inside.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Damaged`], or what `sink` says.
    #[inline]
    pub fn try_recv(&self, sink: &mut impl Sink) -> Result<Option<Taken>, ChannelError> {
        if self.length() == 0 {
            return Ok(None);
        }
        let mut taken = None;
        self.entered(layout::CONSUMERS_AT, None::<&mut Waiting<'_, ChannelError>>, |me| {
            self.recv_now(me, 1, sink, &mut |item| taken = Some(item))
        })?;
        self.received(u64::from(taken.is_some()))?;
        Ok(taken)
    }

    /// Receives an item, waiting for one; None: none in time.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Closed`] when there is none and none can come, as [`Self::try_recv`], and what `waiting` says.
    pub fn recv<E: From<ChannelError>>(
        &self,
        sink: &mut impl Sink,
        waiting: &mut Waiting<'_, E>,
    ) -> Result<Option<Taken>, E> {
        let mut taken = None;
        self.recv_many(1, sink, &mut |item| taken = Some(item), waiting)?;
        Ok(taken)
    }

    /// Receives what is there, at most `limit` items, waiting for the first; how many (0: none in time).
    ///
    /// # Errors
    ///
    /// As [`Self::recv`], if nothing was received before.
    pub fn recv_many<E: From<ChannelError>>(
        &self,
        limit: u64,
        sink: &mut impl Sink,
        found: &mut dyn FnMut(Taken),
        waiting: &mut Waiting<'_, E>,
    ) -> Result<u64, E> {
        loop {
            if self.length() == 0 {
                // Looked at before the length is again, so that what was sent before the end is found.
                let closed = self.is_closed();
                if self.length() == 0 {
                    if closed {
                        return Err(ChannelError::Closed.into());
                    }
                    self.quiet_event()?;
                    let ready = || self.length() != 0 || self.is_closed();
                    if !self.wait_until(layout::ITEMS_BELL_AT, waiting, ready)? {
                        return Ok(0);
                    }
                    continue;
                }
            }
            let entered = self.entered(layout::CONSUMERS_AT, Some(&mut *waiting), |me| {
                self.recv_now(me, limit, sink, &mut *found)
            })?;
            match entered {
                Some(0) => {}
                Some(count) => {
                    self.received(count)?;
                    return Ok(count);
                }
                None => return Ok(0),
            }
        }
    }

    /// Tells who wants to know of so many items less: producers that wait for room, pollers.
    #[inline]
    fn received(&self, items: u64) -> Result<(), ChannelError> {
        if items > 0 {
            self.quiet_event()?;
        }
        if items > 0 && (self.bounds.items != 0 || self.bounds.bytes != 0) {
            // One item less may be room for many, if bytes are what is bounded.
            let count =
                if self.bounds.bytes == 0 { u32::try_from(items).unwrap_or(u32::MAX) } else { u32::MAX };
            many::ring(self.half(layout::ROOM_BELL_AT)?, count);
        }
        Ok(())
    }

    /// Takes at most `limit` items; an error after the first comes the next time.
    fn recv_now(
        &self,
        me: u64,
        limit: u64,
        sink: &mut impl Sink,
        found: &mut dyn FnMut(Taken),
    ) -> Result<u64, ChannelError> {
        let mut reader = Reader::begin(self, me)?;
        let available = self.committed(layout::PRODUCERS_AT)?.count;
        let available = available.saturating_sub(reader.side.committed.count).min(limit);
        let mut done = 0;
        while done < available {
            match reader.next(sink, found) {
                Ok(()) => done += 1,
                Err(error) => {
                    reader.commit()?;
                    return if done == 0 { Err(error) } else { Ok(done) };
                }
            }
        }
        reader.commit()?;
        Ok(done)
    }
}

/// Frames read and not yet committed, by the holder of the consumers' tenure.
struct Reader<'a> {
    channel: &'a Channel,
    me: u64,
    side: Side,
    segment: Region,
    /// Items since the last commit.
    items: u64,
    /// The segment left since the last commit, 0 if none.
    left: u64,
}

/// A frame's head, checked.
struct Frame {
    kind: u32,
    at: usize,
    length: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn begin(channel: &'a Channel, me: u64) -> Result<Self, ChannelError> {
        let side = Side::read(channel, layout::CONSUMERS_AT)?;
        let segment = channel.block(side.place.segment)?;
        Ok(Self { channel, me, side, segment, items: 0, left: 0 })
    }

    /// Takes the next item.
    #[inline]
    fn next(&mut self, sink: &mut impl Sink, found: &mut dyn FnMut(Taken)) -> Result<(), ChannelError> {
        let mut frame = self.frame()?;
        if frame.kind == layout::JUMP_KIND {
            self.follow(&frame)?;
            frame = self.frame()?;
        }
        match frame.kind {
            layout::BYTES_KIND => {
                let segment = self.segment;
                sink.take(frame.length, |room| segment.read(frame.at, room))?;
                self.count(&frame, frame.length as u64);
                found(Taken::Bytes(frame.length));
            }
            layout::BLOCK_KIND => found(Taken::Block(self.take_block(&frame)?)),
            _ => return Err(ChannelError::Damaged("a frame of no known kind")),
        }
        Ok(())
    }

    #[inline]
    fn frame(&self) -> Result<Frame, ChannelError> {
        let offset = self.side.place.offset;
        // Relaxed, here and below: ordered by the acquire of the producers' count.
        let head = self.segment.word(offset)?.load(Ordering::Relaxed);
        let kind = u32::try_from(head >> 32).unwrap_or(0);
        let length = usize::try_from(head & 0xffff_ffff).unwrap_or(usize::MAX);
        let at = offset + layout::FRAME_HEAD_BYTES;
        if length > self.segment.length().saturating_sub(at) {
            return Err(ChannelError::Damaged("a frame is longer than its segment"));
        }
        Ok(Frame { kind, at, length })
    }

    #[inline]
    fn count(&mut self, frame: &Frame, bytes: u64) {
        self.side.place.offset += layout::frame_bytes(frame.length);
        self.side.bytes = self.side.bytes.wrapping_add(bytes);
        self.items += 1;
    }

    /// Goes on in the next segment. A commit leaves one at most, so that one intent is enough.
    #[cold]
    fn follow(&mut self, frame: &Frame) -> Result<(), ChannelError> {
        self.commit()?;
        let next = self.segment.word(frame.at)?.load(Ordering::Relaxed);
        let segment = self.channel.block(next)?;
        if segment.length() < layout::FRAMES_AT
            || segment.word(layout::SEGMENT_MAGIC_AT)?.load(Ordering::Relaxed) != layout::SEGMENT_MAGIC
        {
            return Err(ChannelError::Damaged("what follows a segment is none"));
        }
        self.left = self.side.place.segment;
        // Relaxed, here and below: intents are read by a successor, after the tenure's acquire.
        self.channel.word(layout::RETIRING_AT)?.store(self.left, Ordering::Release);
        step!("retire.intended");
        self.side.place = Place { segment: next, offset: layout::FRAMES_AT };
        self.segment = segment;
        Ok(())
    }

    /// Takes a block over: alone in its commit, so that one intent is enough.
    fn take_block(&mut self, frame: &Frame) -> Result<BlockRef, ChannelError> {
        let channel = self.channel;
        if frame.length != layout::BLOCK_FRAME_BYTES {
            return Err(ChannelError::Damaged("a block's frame"));
        }
        let reference = self.segment.word(frame.at)?.load(Ordering::Relaxed);
        let bytes = self.segment.word(frame.at + 8)?.load(Ordering::Relaxed);
        // In a new segment already: its predecessor is left by the commit of this item.
        if self.items > 0 {
            self.commit()?;
        }
        let number = self.side.committed.count;
        channel.word(layout::ADOPTED_NUMBER_AT)?.store(number, Ordering::Relaxed);
        channel.word(layout::ADOPTED_AT)?.store(reference, Ordering::Release);
        step!("adopt.intended");
        self.count(frame, bytes);
        self.commit()?;
        channel.has_left_blocks();
        let adopted = channel.heap.adopt_as(self.me, reference, layout::items_owner(channel.reference));
        channel.word(layout::ADOPTED_AT)?.store(0, Ordering::Relaxed);
        step!("adopt.settled");
        Ok(adopted?)
    }

    /// Gives what was read up, and the segment that was left.
    #[inline]
    fn commit(&mut self) -> Result<(), ChannelError> {
        if self.items == 0 {
            return Ok(());
        }
        let held = self.channel.hold(self.me, self.items, self.side.target(self.items))?;
        self.side.commit(self.channel, layout::CONSUMERS_AT, self.items)?;
        if held {
            self.channel.settle_hold()?;
        }
        self.items = 0;
        if self.left != 0 {
            let owner = layout::segments_owner(self.channel.reference);
            self.channel.heap.free_as(owner, self.left)?;
            self.channel.has_left_blocks();
            step!("retire.freed");
            self.channel.word(layout::RETIRING_AT)?.store(0, Ordering::Relaxed);
            step!("retire.settled");
            self.left = 0;
        }
        Ok(())
    }
}
