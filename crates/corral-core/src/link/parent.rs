//! The parent's side of a link: sends ahead, takes back, collects. Never waits.

use std::collections::VecDeque;
use std::sync::Arc;

use super::body::{Arrived, Body, block_body, max_inline_bytes, open, push};
use super::{LinkError, Shared, Tag, layout};
use crate::bell::Bell;
use crate::doorbell::single;
use crate::exclusive::Exclusive;
use crate::heap::{BlockRef, Heap};
use crate::identity;
use crate::region::{Damaged, Memory, Region};
use crate::ring::layout::{BLOCK, State};
use crate::ring::{Consumer, Producer, Ring};
use crate::sync::Ordering;

/// The parent's side.
#[derive(Debug)]
pub struct ParentLink {
    pub(super) shared: Shared,
    bell: Arc<Bell>,
    outgoing: Exclusive<Outgoing>,
    incoming: Exclusive<Consumer<Region>>,
    /// To look at from any thread.
    replies: Ring<Region>,
    max_inline_bytes: usize,
}

#[derive(Debug)]
struct Outgoing {
    producer: Producer<Region>,
    /// Blocks in frames that may not have been adopted: still this process's, but no object's.
    in_flight: VecDeque<InFlight>,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    position: u64,
    id: u64,
    reference: u64,
}

impl Outgoing {
    /// Forgets the blocks that have been adopted (INV-LINK-1).
    fn prune(&mut self) -> Result<(), Damaged> {
        if self.in_flight.is_empty() {
            return Ok(());
        }
        let released = self.producer.released()?;
        while self.in_flight.front().is_some_and(|block| block.position < released) {
            self.in_flight.pop_front();
        }
        Ok(())
    }

    fn forget(&mut self, position: u64) {
        self.in_flight.retain(|block| block.position != position);
    }
}

impl ParentLink {
    /// Makes a link; the worker attaches to [`Self::reference`].
    ///
    /// # Errors
    ///
    /// [`LinkError::Unfit`] for an impossible capacity, and the heap's.
    pub fn create(heap: Arc<Heap>, bell: Arc<Bell>, capacity: usize) -> Result<Self, LinkError> {
        let shared = Shared::create(heap, capacity, bell.reference())?;
        let forward = Ring::new(shared.region, shared.forward())?;
        let replies = Ring::new(shared.region, shared.back())?;
        forward.reset()?;
        replies.reset()?;
        shared.open()?;
        let outgoing = Outgoing { producer: Producer::new(forward), in_flight: VecDeque::new() };
        Ok(Self {
            max_inline_bytes: max_inline_bytes(&replies),
            shared,
            bell,
            outgoing: Exclusive::new(outgoing),
            incoming: Exclusive::new(Consumer::new(replies)),
            replies,
        })
    }

    /// What names the link in every process of the tree.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.shared.reference
    }

    /// The heap its blocks are of.
    #[must_use]
    pub fn heap(&self) -> &Arc<Heap> {
        &self.shared.heap
    }

    /// The bell that its worker rings.
    #[must_use]
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// The longest body that travels as bytes; a longer one is a block's.
    #[must_use]
    pub fn max_inline_bytes(&self) -> usize {
        self.max_inline_bytes
    }

    /// Sends a frame; its position, or None while there is no room. A block is the frame's from then on.
    ///
    /// # Errors
    ///
    /// [`LinkError`] of any kind; nothing was sent then.
    #[inline]
    pub fn send(&self, tag: Tag, body: Body<'_>) -> Result<Option<u64>, LinkError> {
        let mut outgoing = self.outgoing.enter().ok_or(LinkError::Busy)?;
        let sent = push(&mut outgoing.producer, tag, body)?;
        let Some(position) = sent else { return Ok(None) };
        if let Body::Block(reference) = body {
            outgoing.prune()?;
            outgoing.in_flight.push_back(InFlight { position, id: tag.id, reference });
        }
        single::ring(self.shared.half(layout::FRAMES_WORD_AT)?);
        Ok(Some(position))
    }

    /// Takes a queued frame back and gives its body to `sink`; None when the worker has it.
    ///
    /// # Errors
    ///
    /// [`LinkError::Damaged`] when there can't be such a frame.
    pub fn revoke<R>(
        &self,
        position: u64,
        id: u64,
        sink: impl FnOnce(Arrived<'_>) -> R,
    ) -> Result<Option<R>, LinkError> {
        let mut outgoing = self.outgoing.enter().ok_or(LinkError::Busy)?;
        let Some(frame) = outgoing.producer.revoke(position, id)? else { return Ok(None) };
        if frame.label.flags == BLOCK {
            let block = self.take_back(outgoing.producer.ring(), &frame)?;
            outgoing.forget(position);
            return Ok(Some(sink(Arrived::Block(block))));
        }
        let body = open(&self.shared.heap, outgoing.producer.ring(), frame)?;
        Ok(Some(sink(body)))
    }

    /// The block of a frame that was revoked: it never left this process.
    fn take_back(&self, ring: &Ring<Region>, frame: &crate::ring::Frame) -> Result<BlockRef, LinkError> {
        let (reference, _) = block_body(ring, frame)?;
        let heap = &self.shared.heap;
        if heap.owner_of(reference)? != identity::current() {
            return Err(LinkError::Damaged("a revoked block belongs to somebody else"));
        }
        let (ptr, len) = heap.slice(reference)?;
        Ok(BlockRef { reference, ptr, len })
    }

    /// Has the worker taken the frame (and perhaps released it)? A frame that was revoked and stepped over counts as taken.
    ///
    /// # Errors
    ///
    /// [`LinkError::Damaged`] when there can't be such a frame.
    pub fn is_taken(&self, position: u64, id: u64) -> Result<bool, LinkError> {
        let mut outgoing = self.outgoing.enter().ok_or(LinkError::Busy)?;
        let state = outgoing.producer.state(position, id)?;
        Ok(matches!(state, State::Taken | State::Free))
    }

    /// Are there replies? Any thread may ask; damage counts as something to collect.
    #[inline]
    #[must_use]
    pub fn has_replies(&self) -> bool {
        self.replies.has_frames().unwrap_or(true)
    }

    /// Collects at most `limit` replies; what could be read before an error is kept, and the error comes the next time.
    ///
    /// # Errors
    ///
    /// [`LinkError`] for the first frame, or what `sink` says.
    #[inline]
    pub fn collect<E: From<LinkError>>(
        &self,
        limit: usize,
        mut sink: impl FnMut(Tag, Arrived<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut incoming = self.incoming.enter().ok_or(LinkError::Busy)?;
        let mut count = 0;
        while count < limit {
            match self.collect_one(&mut incoming, &mut sink) {
                Ok(true) => count += 1,
                Ok(false) => break,
                Err(error) if count == 0 => return Err(error),
                Err(_) => break,
            }
        }
        if count > 0 {
            self.give_room(&mut incoming)?;
        }
        Ok(count)
    }

    #[inline]
    fn collect_one<E: From<LinkError>>(
        &self,
        incoming: &mut Consumer<Region>,
        sink: &mut impl FnMut(Tag, Arrived<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(frame) = incoming.peek().map_err(LinkError::from)? else { return Ok(false) };
        let label = frame.label;
        let body = open(&self.shared.heap, incoming.ring(), frame)?;
        // A frame that the sink could not take stays the next one, so that none is lost without an error.
        sink(Tag { kind: label.kind, id: label.id, aux: label.aux }, body)?;
        incoming.advance(&frame);
        Ok(true)
    }

    fn give_room(&self, incoming: &mut Consumer<Region>) -> Result<(), LinkError> {
        incoming.publish()?;
        single::ring(self.shared.half(layout::ROOM_WORD_AT)?);
        Ok(())
    }

    /// The worker is dead: frees the blocks in frames it had not adopted; how many. Before [`Heap::recover`], and after
    /// everything that should be sent elsewhere has been revoked.
    ///
    /// # Errors
    ///
    /// [`LinkError::Busy`], or the heap's.
    pub fn settle(&self) -> Result<usize, LinkError> {
        let mut outgoing = self.outgoing.enter().ok_or(LinkError::Busy)?;
        outgoing.prune()?;
        let mut freed = 0;
        while let Some(block) = outgoing.in_flight.pop_front() {
            // Not ours: adopted, in the moment before it released the frame.
            freed += usize::from(self.shared.heap.free(block.reference).is_ok());
        }
        Ok(freed)
    }

    /// Could a worker still write to the block?
    fn has_live_worker(&self) -> bool {
        // Acquire: pairs with the Release with which the worker lets go.
        let worker = self.shared.region.word(layout::WORKER_AT);
        worker.is_ok_and(|word| identity::is_alive(word.load(Ordering::Acquire)))
    }

    /// Frees the blocks in frames that nobody has taken: their receiver never will.
    fn drop_queued(&mut self) {
        let outgoing = self.outgoing.get_mut();
        if outgoing.prune().is_err() {
            return;
        }
        while let Some(block) = outgoing.in_flight.pop_front() {
            if outgoing.producer.revoke(block.position, block.id).is_ok_and(|frame| frame.is_some()) {
                // Not ours: we are a forked child.
                drop(self.shared.heap.free(block.reference));
            }
        }
    }
}

impl Drop for ParentLink {
    fn drop(&mut self) {
        let owner = self.shared.heap.owner_of(self.shared.reference);
        if !owner.is_ok_and(|owner| owner == identity::current()) {
            return;
        }
        self.drop_queued();
        if self.has_live_worker() {
            // INV-LINK-2: better blocks that nobody uses until we end than some that two use.
            self.bell.leave_hanging();
            return;
        }
        if let Ok(word) = self.shared.region.word(layout::MAGIC_AT) {
            // Relaxed: a guard against late attachment, not a synchronisation.
            word.store(0, Ordering::Relaxed);
        }
        drop(self.shared.heap.free(self.shared.reference));
    }
}
