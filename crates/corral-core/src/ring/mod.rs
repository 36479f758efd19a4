//! One producer, one consumer, frames in shared memory that can be revoked until they are taken.
//!
//! # Role in the flow
//!
//! A link has two: tasks forward, outcomes back. Bytes go in and out here; who sleeps and who is woken is
//! [`crate::doorbell`]'s, blocks and processes are [`crate::link`]'s.
//!
//! # Invariants
//!
//! See `README.md` beside this file for the protocol, who may write which word when, and why each ordering suffices.
//! INV-RING-1: a frame is visible whole or not at all: `tail` moves past it once, after its last byte.
//! INV-RING-2: bytes in `[head, tail)` belong to the consumer, but for the claim words; the rest belong to the producer.
//! INV-RING-3: a queued frame becomes taken or revoked by one compare-and-swap, once, and stays so.
//! INV-RING-4: each side trusts its own copy of its own position; whatever it reads is checked against that.
//!
//! # Failure
//!
//! A side that dies in any step leaves either the old state or the new one. Damage is an error, each time one looks.

pub mod layout;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use layout::{
    AUX_WORD, CLAIM_WORD, Geometry, HEADER_BYTES, Head, PADDING, State, claim, claim_parts, frame_bytes,
    max_body_bytes,
};

use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::Ordering;

/// What a frame says besides its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// What the frame is.
    pub kind: u8,
    /// [`layout::INLINE`] or [`layout::BLOCK`].
    pub flags: u8,
    /// Whose frame it is: below [`layout::MAX_ID`].
    pub id: u64,
    /// One more word for the users of the ring.
    pub aux: u64,
}

/// A frame that lies in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of frames before it since the ring began: its name while it is in the ring.
    pub position: u64,
    /// What it says.
    pub label: Label,
    /// Bytes of its body.
    pub body_bytes: usize,
}

impl Frame {
    fn end(&self) -> u64 {
        self.position.wrapping_add(frame_bytes(self.body_bytes) as u64)
    }
}

/// Room for one frame, not yet visible; dropping it is the abort.
#[derive(Debug)]
#[must_use = "a claim that isn't committed is never seen"]
pub struct Claim {
    position: u64,
    body_bytes: usize,
}

/// How the two sides name their memory; what only needs to look is here.
#[derive(Debug, Clone, Copy)]
pub struct Ring<M> {
    memory: M,
    geometry: Geometry,
}

impl<M: Memory> Ring<M> {
    /// A ring in `memory`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the geometry is impossible.
    pub fn new(memory: M, geometry: Geometry) -> Result<Self, Damaged> {
        Ok(Self { memory, geometry: geometry.checked()? })
    }

    /// Makes the ring empty, before anybody uses it: blocks of the heap come with old contents.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the memory is too small.
    pub fn reset(&self) -> Result<(), Damaged> {
        // Relaxed: nobody knows of the ring yet; how the other side learns of it orders this before.
        self.memory.word(self.geometry.head_at)?.store(0, Ordering::Relaxed);
        self.memory.word(self.geometry.tail_at)?.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// The longest body of a frame.
    #[must_use]
    pub fn max_body_bytes(&self) -> usize {
        max_body_bytes(self.geometry.capacity)
    }

    /// Is there anything committed that isn't released? Any thread of either side may ask.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the memory is too small.
    #[inline]
    pub fn has_frames(&self) -> Result<bool, Damaged> {
        // Acquire: pairs with the Release in `Producer::commit`, so that who then reads the frames sees them whole.
        let tail = self.memory.word(self.geometry.tail_at)?.load(Ordering::Acquire);
        // Relaxed: only compared; the consumer itself takes its private copy.
        Ok(tail != self.memory.word(self.geometry.head_at)?.load(Ordering::Relaxed))
    }

    /// Bytes the consumer has released, checked against the producer's own tail.
    fn released(&self, seen: u64, tail: u64) -> Result<u64, Damaged> {
        // Acquire: pairs with the Release in `Consumer::publish`: the consumer has read what it released.
        let head = self.memory.word(self.geometry.head_at)?.load(Ordering::Acquire);
        let moved = head.wrapping_sub(seen);
        if moved <= tail.wrapping_sub(seen) && head.is_multiple_of(8) {
            Ok(head)
        } else {
            Err(Damaged("the consumer's position is impossible"))
        }
    }

    /// Reads the frame at `position`, none of whose bytes lie at or beyond `limit`.
    fn frame_at(&self, position: u64, limit: u64) -> Result<Option<Frame>, Damaged> {
        let at = self.geometry.offset(position);
        // Relaxed, here and below: INV-RING-2; the Acquire with which the tail was read orders them after the producer's writes.
        let head = Head::of_word(self.memory.word(at)?.load(Ordering::Relaxed));
        if head.flags == PADDING {
            return Ok(None);
        }
        let size = frame_bytes(head.length);
        let available = limit.wrapping_sub(position);
        if head.length > self.max_body_bytes()
            || size > self.geometry.to_end(position)
            || size as u64 > available
        {
            return Err(Damaged("a frame's length is impossible"));
        }
        let (id, _) = claim_parts(self.memory.word(at + CLAIM_WORD)?.load(Ordering::Relaxed));
        let aux = self.memory.word(at + AUX_WORD)?.load(Ordering::Relaxed);
        let label = Label { kind: head.kind, flags: head.flags, id, aux };
        Ok(Some(Frame { position, label, body_bytes: head.length }))
    }

    /// Copies a frame's body, as far as `bytes` reach.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it isn't that long.
    #[inline]
    pub fn read_body(&self, frame: &Frame, bytes: &mut [u8]) -> Result<(), Damaged> {
        if bytes.len() > frame.body_bytes {
            return Err(Damaged("a frame is shorter than its kind"));
        }
        self.memory.read(self.geometry.offset(frame.position) + HEADER_BYTES, bytes)
    }
}

/// The side that writes. One per ring.
#[derive(Debug)]
pub struct Producer<M> {
    ring: Ring<M>,
    tail: u64,
    head_seen: u64,
}

impl<M: Memory> Producer<M> {
    /// The producer of a ring that is empty ([`Ring::reset`]).
    pub fn new(ring: Ring<M>) -> Self {
        Self { ring, tail: 0, head_seen: 0 }
    }

    /// The ring, to look at.
    pub fn ring(&self) -> &Ring<M> {
        &self.ring
    }

    /// Room for a body of `body_bytes`, or None while there isn't.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the consumer's position can't be. A body over [`Ring::max_body_bytes`] never finds room.
    #[inline]
    pub fn claim(&mut self, body_bytes: usize) -> Result<Option<Claim>, Damaged> {
        let geometry = self.ring.geometry;
        if body_bytes > self.ring.max_body_bytes() {
            return Ok(None);
        }
        let size = frame_bytes(body_bytes);
        let to_end = geometry.to_end(self.tail);
        let padding = if size > to_end { to_end } else { 0 };
        if !self.has_room(padding + size)? {
            return Ok(None);
        }
        step!("ring.claimed");
        if padding > 0 {
            let head = Head { length: 0, kind: 0, flags: PADDING };
            let word = self.ring.memory.word(geometry.offset(self.tail))?;
            // Relaxed: INV-RING-2; the commit of the frame behind it publishes the padding as well.
            word.store(head.word(), Ordering::Relaxed);
            step!("ring.padded");
        }
        let position = self.tail.wrapping_add(padding as u64);
        Ok(Some(Claim { position, body_bytes }))
    }

    #[inline]
    fn has_room(&mut self, wanted: usize) -> Result<bool, Damaged> {
        let capacity = self.ring.geometry.capacity as u64;
        let fits = |head: u64, tail: u64| tail.wrapping_sub(head) + wanted as u64 <= capacity;
        if fits(self.head_seen, self.tail) {
            return Ok(true);
        }
        self.head_seen = self.ring.released(self.head_seen, self.tail)?;
        Ok(fits(self.head_seen, self.tail))
    }

    /// Writes the head of a claimed frame.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the memory is too small.
    #[inline]
    pub fn write_label(&mut self, room: &Claim, label: Label) -> Result<(), Damaged> {
        let at = self.ring.geometry.offset(room.position);
        let memory = &self.ring.memory;
        let head = Head { length: room.body_bytes, kind: label.kind, flags: label.flags };
        // Relaxed: INV-RING-2: not visible before the Release in `commit`.
        memory.word(at)?.store(head.word(), Ordering::Relaxed);
        step!("ring.head");
        memory.word(at + CLAIM_WORD)?.store(claim(label.id, State::Queued), Ordering::Relaxed);
        step!("ring.labelled");
        memory.word(at + AUX_WORD)?.store(label.aux, Ordering::Relaxed);
        Ok(())
    }

    /// Writes the body of a claimed frame.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it isn't as long as claimed.
    #[inline]
    pub fn write_body(&mut self, room: &Claim, body: &[u8]) -> Result<(), Damaged> {
        if body.len() != room.body_bytes {
            return Err(Damaged("a body has another length than its frame"));
        }
        step!("ring.body");
        self.ring.memory.write(self.ring.geometry.offset(room.position) + HEADER_BYTES, body)
    }

    /// Makes a frame visible; its position.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the memory is too small.
    #[inline]
    pub fn commit(&mut self, room: Claim) -> Result<u64, Damaged> {
        let end = room.position.wrapping_add(frame_bytes(room.body_bytes) as u64);
        step!("ring.written");
        // Release: pairs with the Acquire in `Consumer::peek` and `Ring::has_frames`: who sees the tail sees the frame.
        self.ring.memory.word(self.ring.geometry.tail_at)?.store(end, Ordering::Release);
        self.tail = end;
        step!("ring.committed");
        Ok(room.position)
    }

    /// Claims, writes and commits an inline frame; its position, or None while there is no room.
    ///
    /// # Errors
    ///
    /// [`Damaged`] as each of the three.
    #[inline]
    pub fn push(&mut self, label: Label, body: &[u8]) -> Result<Option<u64>, Damaged> {
        let Some(room) = self.claim(body.len())? else { return Ok(None) };
        self.write_label(&room, label)?;
        self.write_body(&room, body)?;
        self.commit(room).map(Some)
    }

    /// Where the consumer is by now: everything before has been taken or stepped over.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the consumer's position can't be.
    pub fn released(&mut self) -> Result<u64, Damaged> {
        self.head_seen = self.ring.released(self.head_seen, self.tail)?;
        Ok(self.head_seen)
    }

    /// The state of the frame `id` that was sent at `position`: Free when it has left the ring.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when no such frame can be there (or the position is not one that `commit` gave).
    pub fn state(&mut self, position: u64, id: u64) -> Result<State, Damaged> {
        let Some((_, state)) = self.sent(position, id)? else { return Ok(State::Free) };
        Ok(state)
    }

    /// Takes a queued frame back: the frame, or None when the consumer was first (or it was revoked before).
    ///
    /// # Errors
    ///
    /// [`Damaged`] as [`Self::state`].
    pub fn revoke(&mut self, position: u64, id: u64) -> Result<Option<Frame>, Damaged> {
        let Some((frame, State::Queued)) = self.sent(position, id)? else { return Ok(None) };
        step!("ring.revoking");
        let word = self.ring.memory.word(self.ring.geometry.offset(position) + CLAIM_WORD)?;
        // Relaxed: INV-RING-3 needs the one winner only; the body is this side's own writing, and the winner reads nothing of the other's.
        let swapped = word.compare_exchange(
            claim(id, State::Queued),
            claim(id, State::Revoked),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        step!("ring.revoked");
        Ok(swapped.is_ok().then_some(frame))
    }

    /// The frame at `position` and its state, or None when the consumer has released it.
    fn sent(&mut self, position: u64, id: u64) -> Result<Option<(Frame, State)>, Damaged> {
        let head = self.released()?;
        let queued = self.tail.wrapping_sub(head);
        let ahead = position.wrapping_sub(head);
        if ahead >= queued {
            let behind = head.wrapping_sub(position);
            return if behind <= head && behind > 0 {
                Ok(None)
            } else {
                Err(Damaged("no frame was sent at this position"))
            };
        }
        if !position.is_multiple_of(8) {
            return Err(Damaged("no frame was sent at this position"));
        }
        let frame = self.ring.frame_at(position, self.tail)?;
        let frame = frame.ok_or(Damaged("no frame was sent at this position"))?;
        // Relaxed: a frame in `[head, tail)` isn't written over by anybody but this side.
        let word = self.ring.memory.word(self.ring.geometry.offset(position) + CLAIM_WORD)?;
        let (found, state) = claim_parts(word.load(Ordering::Relaxed));
        if found == id { Ok(Some((frame, state))) } else { Err(Damaged("a frame has another id")) }
    }
}

/// The side that reads. One per ring.
#[derive(Debug)]
pub struct Consumer<M> {
    ring: Ring<M>,
    head: u64,
    tail_seen: u64,
}

impl<M: Memory> Consumer<M> {
    /// The consumer of a ring of which nothing has been released yet.
    pub fn new(ring: Ring<M>) -> Self {
        Self { ring, head: 0, tail_seen: 0 }
    }

    /// The ring, to look at.
    pub fn ring(&self) -> &Ring<M> {
        &self.ring
    }

    /// The next frame, or None while the ring is empty; it stays the next one until [`Self::advance`].
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the producer's position or the frame can't be.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Frame>, Damaged> {
        while self.has_more()? {
            if let Some(frame) = self.ring.frame_at(self.head, self.tail_seen)? {
                return Ok(Some(frame));
            }
            let skipped = self.ring.geometry.to_end(self.head) as u64;
            if skipped > self.tail_seen.wrapping_sub(self.head) {
                return Err(Damaged("padding reaches beyond what was committed"));
            }
            self.head = self.head.wrapping_add(skipped);
        }
        Ok(None)
    }

    #[inline]
    fn has_more(&mut self) -> Result<bool, Damaged> {
        if self.head != self.tail_seen {
            return Ok(true);
        }
        // Acquire: pairs with the Release in `Producer::commit`: what lies before the tail is whole.
        let tail = self.ring.memory.word(self.ring.geometry.tail_at)?.load(Ordering::Acquire);
        if tail.wrapping_sub(self.head) > self.ring.geometry.capacity as u64 || !tail.is_multiple_of(8) {
            return Err(Damaged("the producer's position is impossible"));
        }
        self.tail_seen = tail;
        Ok(self.head != tail)
    }

    /// Takes a frame for good; false when the producer has revoked it: advance, and look at the next.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the claim word is neither.
    #[inline]
    pub fn take(&mut self, frame: &Frame) -> Result<bool, Damaged> {
        let at = self.ring.geometry.offset(frame.position);
        step!("ring.taking");
        // Relaxed: INV-RING-3 needs the one winner only; the frame's bytes were ordered by the Acquire of the tail.
        let swapped = self.ring.memory.word(at + CLAIM_WORD)?.compare_exchange(
            claim(frame.label.id, State::Queued),
            claim(frame.label.id, State::Taken),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        step!("ring.taken");
        match swapped.map_err(claim_parts) {
            Ok(_) => Ok(true),
            Err((id, State::Revoked)) if id == frame.label.id => Ok(false),
            Err(_) => Err(Damaged("a frame's claim is impossible")),
        }
    }

    /// Goes past a frame that was peeked at, without telling the producer yet.
    #[inline]
    pub fn advance(&mut self, frame: &Frame) {
        self.head = frame.end();
    }

    /// Gives the producer the room of everything advanced over. What was read from there must have been copied.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the memory is too small.
    #[inline]
    pub fn publish(&mut self) -> Result<(), Damaged> {
        step!("ring.releasing");
        // Release: pairs with the Acquire in `Ring::released`: our reads come before the producer's next writes.
        self.ring.memory.word(self.ring.geometry.head_at)?.store(self.head, Ordering::Release);
        step!("ring.released");
        Ok(())
    }

    /// The next frame that wasn't revoked, taken; its bytes stay until [`Self::advance`] and [`Self::publish`].
    ///
    /// # Errors
    ///
    /// [`Damaged`] as [`Self::peek`] and [`Self::take`].
    #[inline]
    pub fn next_taken(&mut self) -> Result<Option<Frame>, Damaged> {
        while let Some(frame) = self.peek()? {
            if self.take(&frame)? {
                return Ok(Some(frame));
            }
            self.advance(&frame);
            self.publish()?;
        }
        Ok(None)
    }
}
