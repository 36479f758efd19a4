//! Sending: under the producers' tenure frames are written behind the last committed one, then committed.

use super::layout::{self, Place};
use super::side::Side;
use super::{Channel, ChannelError, Item, Waiting, item};
use crate::doorbell::many;
use crate::heap::Pages;
use crate::region::{Memory, Region};
use crate::steps::step;
use crate::sync::Ordering;

/// What an attempt has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// So many items were sent.
    Sent(usize),
    NoRoom,
}

impl Channel {
    /// Sends an item if that can be done at once; false: no room, or another producer is inside.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Closed`], [`ChannelError::Unfit`] for bytes too long, or the heap's; nothing was sent then.
    #[inline]
    pub fn try_send(&self, item: Item<'_>) -> Result<bool, ChannelError> {
        let sent: Option<Attempt> =
            self.entered(layout::PRODUCERS_AT, None::<&mut Waiting<'_, ChannelError>>, |me| {
                self.send_now(me, &[item])
            })?;
        if sent != Some(Attempt::Sent(1)) {
            return Ok(false);
        }
        self.announce(1)?;
        Ok(true)
    }

    /// Sends an item, waiting for room; false: none in time.
    ///
    /// # Errors
    ///
    /// As [`Self::try_send`], and what `waiting` says.
    pub fn send<E: From<ChannelError>>(
        &self,
        item: Item<'_>,
        waiting: &mut Waiting<'_, E>,
    ) -> Result<bool, E> {
        let mut sent = 0;
        self.send_many(&[item], &mut sent, waiting)?;
        Ok(sent == 1)
    }

    /// Sends items in order, with nobody's between as far as there is room, waiting for room; `sent` counts those that were.
    ///
    /// # Errors
    ///
    /// As [`Self::try_send`], for the first that was not sent, and what `waiting` says.
    pub fn send_many<E: From<ChannelError>>(
        &self,
        items: &[Item<'_>],
        sent: &mut usize,
        waiting: &mut Waiting<'_, E>,
    ) -> Result<(), E> {
        while let Some(rest) = items.get(*sent..).filter(|rest| !rest.is_empty()) {
            let attempt =
                self.entered(layout::PRODUCERS_AT, Some(&mut *waiting), |me| self.send_now(me, rest));
            match attempt? {
                Some(Attempt::Sent(count)) => {
                    *sent += count;
                    self.announce(count)?;
                }
                Some(Attempt::NoRoom) => {
                    let bytes = rest.first().map_or(0, Item::bytes);
                    let ready = || self.has_room(bytes) || self.is_closed();
                    if !self.wait_until(layout::ROOM_BELL_AT, waiting, ready)? {
                        break;
                    }
                }
                None => break,
            }
        }
        Ok(())
    }

    /// As [`Self::try_send`]; `committed` is called after the commit, still in the producers' turn.
    ///
    /// # Errors
    ///
    /// As [`Self::try_send`].
    #[inline]
    pub fn try_send_with(&self, item: Item<'_>, committed: impl FnOnce()) -> Result<bool, ChannelError> {
        let sent: Option<Attempt> =
            self.entered(layout::PRODUCERS_AT, None::<&mut Waiting<'_, ChannelError>>, |me| {
                self.send_now(me, &[item]).inspect(|attempt| {
                    if *attempt != Attempt::NoRoom {
                        committed();
                    }
                })
            })?;
        Ok(sent == Some(Attempt::Sent(1)))
    }

    /// As [`Self::send`]; `committed` is called after the commit, still in the producers' turn.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn send_with<E: From<ChannelError>>(
        &self,
        item: Item<'_>,
        waiting: &mut Waiting<'_, E>,
        mut committed: impl FnMut(),
    ) -> Result<bool, E> {
        loop {
            let attempt = self.entered(layout::PRODUCERS_AT, Some(&mut *waiting), |me| {
                self.send_now(me, &[item]).inspect(|attempt| {
                    if *attempt != Attempt::NoRoom {
                        committed();
                    }
                })
            });
            match attempt? {
                Some(Attempt::Sent(_)) => return Ok(true),
                Some(Attempt::NoRoom) => {
                    let ready = || self.has_room(item.bytes()) || self.is_closed();
                    if !self.wait_until(layout::ROOM_BELL_AT, waiting, ready)? {
                        return Ok(false);
                    }
                }
                None => return Ok(false),
            }
        }
    }

    /// As [`Self::in_turn`], if the turn can be had at once.
    ///
    /// # Errors
    ///
    /// What `body` says, and damage.
    pub fn try_in_turn<R>(
        &self,
        body: impl FnOnce() -> Result<R, ChannelError>,
    ) -> Result<Option<R>, ChannelError> {
        self.entered(layout::PRODUCERS_AT, None::<&mut Waiting<'_, ChannelError>>, |_| body())
    }

    /// Runs `body` in the producers' turn: nobody sends meanwhile. None: the turn didn't come in time.
    ///
    /// # Errors
    ///
    /// What `body` and `waiting` say, and damage.
    pub fn in_turn<R, E: From<ChannelError>>(
        &self,
        waiting: &mut Waiting<'_, E>,
        body: impl FnOnce() -> Result<R, ChannelError>,
    ) -> Result<Option<R>, E> {
        self.entered(layout::PRODUCERS_AT, Some(waiting), |_| body())
    }

    /// Tells sleeping consumers of so many items.
    #[inline]
    fn announce(&self, items: usize) -> Result<(), ChannelError> {
        many::ring(self.half(layout::ITEMS_BELL_AT)?, u32::try_from(items).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Sends as many of the items as there is room for, in one or more commits.
    fn send_now(&self, me: u64, items: &[Item<'_>]) -> Result<Attempt, ChannelError> {
        if self.is_closed() {
            return Err(ChannelError::Closed);
        }
        let mut batch = Batch::begin(self, me)?;
        let mut done = 0;
        for item in items {
            let pushed = batch.push(item);
            if !matches!(pushed, Ok(true)) {
                // What came before it is sent all the same.
                batch.commit()?;
                if done == 0 {
                    return pushed.map(|_| Attempt::NoRoom);
                }
                return Ok(Attempt::Sent(done));
            }
            done += 1;
        }
        batch.commit()?;
        Ok(Attempt::Sent(done))
    }

    fn has_room(&self, bytes: u64) -> bool {
        let held = self.length();
        (self.bounds.items == 0 || held < self.bounds.items)
            && (self.bounds.bytes == 0
                || held == 0
                || self.bytes_held().saturating_add(bytes) <= self.bounds.bytes)
    }

    /// Makes a segment, still `me`'s.
    pub(super) fn new_segment(&self, me: u64, serial: u64, size: usize) -> Result<u64, ChannelError> {
        let reference = self.heap.alloc_as(me, size, Pages::All)?.reference;
        step!("segment.allocated");
        let segment = self.block(reference)?;
        // Relaxed: it is seen by way of a commit only.
        segment.word(layout::SEGMENT_MAGIC_AT)?.store(layout::SEGMENT_MAGIC, Ordering::Relaxed);
        segment.word(layout::SERIAL_AT)?.store(serial, Ordering::Relaxed);
        Ok(reference)
    }
}

/// Frames written and not yet committed, by the holder of the producers' tenure.
struct Batch<'a> {
    channel: &'a Channel,
    me: u64,
    side: Side,
    segment: Region,
    /// Items since the last commit.
    items: u64,
    /// The bounds that are left.
    room: Room,
    grown: bool,
}

/// What bounds leave, as far as known: consumers only make it more.
struct Room {
    items: u64,
    bytes: u64,
    /// Nothing is held: a single item of any length has room.
    empty: bool,
}

impl<'a> Batch<'a> {
    #[inline]
    fn begin(channel: &'a Channel, me: u64) -> Result<Self, ChannelError> {
        let side = Side::read(channel, layout::PRODUCERS_AT)?;
        let segment = channel.block(side.place.segment)?;
        let room = Room::of(channel, &side)?;
        Ok(Self { channel, me, side, segment, items: 0, room, grown: false })
    }

    /// Writes the frame of an item; false: no room.
    #[inline]
    fn push(&mut self, item: &Item<'_>) -> Result<bool, ChannelError> {
        let bytes = item.bytes();
        if !self.room.admits(bytes) {
            return Ok(false);
        }
        match item {
            Item::Bytes(content) => {
                if content.len() > layout::MAX_INLINE_BYTES {
                    return Err(ChannelError::Unfit("these bytes are too many for a segment"));
                }
                self.write(layout::BYTES_KIND, content)?;
                self.count(bytes);
            }
            Item::Block(block) => self.push_block(block.reference, bytes)?,
        }
        Ok(true)
    }

    fn count(&mut self, bytes: u64) {
        self.items += 1;
        self.side.bytes = self.side.bytes.wrapping_add(bytes);
        self.room.took(bytes);
    }

    /// Hands a block over: alone in its commit, so that one intent is enough.
    fn push_block(&mut self, reference: u64, bytes: u64) -> Result<(), ChannelError> {
        self.commit()?;
        let (channel, me) = (self.channel, self.me);
        item::number(&channel.heap, reference, self.side.committed.count)?;
        let mut content = [0_u8; layout::BLOCK_FRAME_BYTES];
        let (first, second) = content.split_at_mut(8);
        first.copy_from_slice(&reference.to_le_bytes());
        second.copy_from_slice(&bytes.to_le_bytes());
        self.write(layout::BLOCK_KIND, &content)?;
        // Relaxed, here and below: intents are read by a successor, after the tenure's acquire.
        channel.word(layout::ITEM_TARGET_AT)?.store(self.side.target(1), Ordering::Relaxed);
        channel.word(layout::ITEM_AT)?.store(reference, Ordering::Release);
        step!("block.intended");
        channel.heap.adopt_as(layout::items_owner(channel.reference), reference, me)?;
        step!("block.given");
        self.count(bytes);
        self.commit()?;
        channel.word(layout::ITEM_AT)?.store(0, Ordering::Relaxed);
        step!("block.settled");
        Ok(())
    }

    /// Writes a frame, in a new segment if this one is full.
    #[inline]
    fn write(&mut self, kind: u32, content: &[u8]) -> Result<(), ChannelError> {
        let need = layout::frame_bytes(content.len());
        let end = self.side.place.offset.saturating_add(need);
        if end.saturating_add(layout::JUMP_BYTES) > self.segment.length() {
            self.grow()?;
        }
        self.put_frame(self.side.place.offset, kind, content)?;
        self.side.place.offset += need;
        Ok(())
    }

    #[inline]
    fn put_frame(&self, offset: usize, kind: u32, content: &[u8]) -> Result<(), ChannelError> {
        let length = u64::try_from(content.len()).map_err(|_| ChannelError::Unfit("a frame's length"))?;
        // Relaxed: seen by way of the commit only.
        self.segment.word(offset)?.store(u64::from(kind) << 32 | length, Ordering::Relaxed);
        self.segment.write(offset + layout::FRAME_HEAD_BYTES, content)?;
        Ok(())
    }

    /// Goes on in a new segment. A commit grows by one at most, so that one intent is enough.
    #[cold]
    fn grow(&mut self) -> Result<(), ChannelError> {
        self.commit()?;
        let channel = self.channel;
        // Relaxed: written by a predecessor under the tenure.
        let serial = self.segment.word(layout::SERIAL_AT)?.load(Ordering::Relaxed).wrapping_add(1);
        let backlog = channel.length();
        let size = if backlog >= layout::LARGE_BACKLOG {
            layout::LARGE_SEGMENT_BYTES
        } else {
            layout::SEGMENT_BYTES
        };
        let reference = channel.new_segment(self.me, serial, size)?;
        channel.word(layout::GROWTH_AT)?.store(reference, Ordering::Release);
        step!("grow.intended");
        channel.heap.adopt_as(layout::segments_owner(channel.reference), reference, self.me)?;
        step!("grow.given");
        self.put_frame(self.side.place.offset, layout::JUMP_KIND, &reference.to_le_bytes())?;
        self.side.place = Place { segment: reference, offset: layout::FRAMES_AT };
        self.segment = channel.block(reference)?;
        self.grown = true;
        Ok(())
    }

    /// Makes what was written visible.
    #[inline]
    fn commit(&mut self) -> Result<(), ChannelError> {
        if self.items == 0 {
            return Ok(());
        }
        // Before the commit: a kill between leaves the event readable for nothing, and not silent for an item.
        self.channel.signal_event()?;
        self.side.commit(self.channel, layout::PRODUCERS_AT, self.items)?;
        self.items = 0;
        if self.grown {
            self.channel.word(layout::GROWTH_AT)?.store(0, Ordering::Relaxed);
            step!("grow.settled");
            self.grown = false;
        }
        Ok(())
    }
}

impl Room {
    #[inline]
    fn of(channel: &Channel, side: &Side) -> Result<Self, ChannelError> {
        let bounds = channel.bounds;
        if bounds.items == 0 && bounds.bytes == 0 {
            return Ok(Self { items: u64::MAX, bytes: u64::MAX, empty: false });
        }
        let consumers = Side::read(channel, layout::CONSUMERS_AT)?;
        let held = side.committed.count.saturating_sub(consumers.committed.count);
        let bytes = side.bytes.saturating_sub(consumers.bytes);
        let left = |bound: u64, used| if bound == 0 { u64::MAX } else { bound.saturating_sub(used) };
        Ok(Self { items: left(bounds.items, held), bytes: left(bounds.bytes, bytes), empty: held == 0 })
    }

    #[inline]
    fn admits(&self, bytes: u64) -> bool {
        self.items > 0 && (bytes <= self.bytes || self.empty)
    }

    #[inline]
    fn took(&mut self, bytes: u64) {
        self.items -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.empty = false;
    }
}
