//! Items from any number of producers to any number of consumers, in order, in a heap of their own.
//!
//! # Role in the flow
//!
//! Queues are one channel, a pipe is two. An item is bytes: short ones lie in the channel's segments, long ones in a block each, that is
//! filled before the channel is entered and handed over whole. Segments are linked and as many as needed; a consumer frees the
//! one it leaves.
//!
//! # Invariants
//!
//! INV-CHANNEL-1: each side has a tenure; who holds it changes that side's words, and nobody else does (but for the bells).
//! INV-CHANNEL-2: an operation commits by one store, of the side's count and flip. Everything before it is seen by nobody:
//! frames lie behind the last committed one, and the side's next cursor in the place that the flip doesn't name.
//! INV-CHANNEL-3: blocks in a channel are owned by its two constants (`layout`), which no process has. Whoever makes a block the
//! channel's, or his own, first writes down which in an intent; so his successor finds what he left between.
//! INV-CHANNEL-4: an item's block carries the item's number, and a segment its serial, so that a successor never mistakes a block
//! that was freed and has come back for the one in an old intent.
//!
//! # Failure
//!
//! A process is killed: its tenure is inherited, and the successor finishes or undoes what the intents say (`repair`). What had been
//! committed stays; what the dead consumer had taken is gone with it. Its blocks go back to the heap. Damage is an error, and stays one.
//!
//! See: decision record 0010.

mod consumer;
mod done;
mod event;
mod holders;
pub mod item;
pub mod layout;
mod producer;
mod repair;
mod side;
mod tidy;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

pub use consumer::{Sink, Taken};
pub use item::{Item, pack};
use layout::{Committed, Place};
use side::Side;

use crate::doorbell::many;
use crate::exclusive::Exclusive;
use crate::heap::{Heap, HeapError};
use crate::identity;
use crate::park::{Interrupted, Patience};
use crate::region::{Damaged, Memory, Region};
use crate::steps::step;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::tenure::{Got, Tenure};
use crate::wait::{Deadline, Spin};

/// Nobody is longer inside than some microseconds; unless he was stopped, or died, which a successor finds out within this.
const GRACE: Duration = Duration::from_millis(250);

/// Why an operation on a channel failed.
#[derive(Debug)]
pub enum ChannelError {
    /// Nothing can be sent any more, or received when all has been.
    Closed,
    /// What was read from shared memory can't be.
    Damaged(&'static str),
    /// The caller: an argument that can't be.
    Unfit(&'static str),
    /// The heap's.
    Heap(HeapError),
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => out.write_str("the channel is closed"),
            Self::Damaged(what) => write!(out, "damaged shared memory: {what}"),
            Self::Unfit(what) => out.write_str(what),
            Self::Heap(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<Damaged> for ChannelError {
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}

impl From<HeapError> for ChannelError {
    fn from(error: HeapError) -> Self {
        match error {
            HeapError::Damaged(what) => Self::Damaged(what),
            other => Self::Heap(other),
        }
    }
}

/// How long an operation may wait, and what is asked when a signal may have arrived.
pub struct Waiting<'a, E> {
    /// When to give up.
    pub deadline: Deadline,
    /// Its error ends the wait.
    pub interrupted: &'a mut dyn FnMut() -> Result<(), E>,
}

impl<E> std::fmt::Debug for Waiting<'_, E> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Waiting").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// Bounds of a channel; 0 is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Items that were sent and not yet received.
    pub items: u64,
    /// Bytes of them. A single item may be longer, if it is alone.
    pub bytes: u64,
}

/// A channel, as one of the processes sees it. Any thread may use it.
#[derive(Debug)]
pub struct Channel {
    heap: Arc<Heap>,
    reference: u64,
    region: Region,
    bounds: Bounds,
    spin_ns: AtomicU64,
    /// Readable while there are items, once it is polled.
    event: Option<OwnedFd>,
    /// What waiting has taught, for items and for room; a second thread at once does without.
    spins: [Exclusive<Spin>; 2],
    /// Is it known who holds what was received?
    counted: bool,
    /// This process's slot among the holders, if it was right once.
    slot: AtomicU64,
    left_blocks: AtomicBool,
    tidy_after_ns: AtomicU64,
    /// In place of this process's identity.
    #[cfg(test)]
    acts_as: AtomicU64,
}

impl Channel {
    /// Makes a channel; others attach to [`Self::reference`].
    ///
    /// # Errors
    ///
    /// The heap's.
    pub fn create(heap: Arc<Heap>, bounds: Bounds) -> Result<Self, ChannelError> {
        let me = identity::current();
        let block = heap.alloc(layout::BYTES)?;
        let channel = Self::over(heap, block.reference, bounds)?;
        for offset in (layout::MAX_ITEMS_AT..layout::BYTES).step_by(8) {
            // Relaxed, here and below: others learn of the channel by a launch or a fork, which orders all this before.
            channel.region.word(offset)?.store(0, Ordering::Relaxed);
        }
        channel.word(layout::MAX_ITEMS_AT)?.store(bounds.items, Ordering::Relaxed);
        channel.word(layout::CAPACITY_AT)?.store(bounds.bytes, Ordering::Relaxed);
        let segment = channel.new_segment(me, 0, layout::FIRST_SEGMENT_BYTES)?;
        channel.heap.adopt_as(layout::segments_owner(channel.reference), segment, me)?;
        let start = Place { segment, offset: layout::FRAMES_AT }.pack()?;
        for side in [layout::PRODUCERS_AT, layout::CONSUMERS_AT] {
            channel.word(side + layout::CURSORS)?.store(start, Ordering::Relaxed);
        }
        channel.heap.adopt_as(layout::OBJECT, channel.reference, me)?;
        channel.word(layout::MAGIC_AT)?.store(layout::MAGIC, Ordering::Relaxed);
        Ok(channel)
    }

    /// The channel in block `reference`.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Damaged`] when there is none.
    pub fn attach(heap: Arc<Heap>, reference: u64) -> Result<Self, ChannelError> {
        let mut channel = Self::over(heap, reference, Bounds::default())?;
        // Relaxed: written before the launch that brought us here.
        if channel.word(layout::MAGIC_AT)?.load(Ordering::Relaxed) != layout::MAGIC {
            return Err(ChannelError::Damaged("the block is no channel"));
        }
        channel.counted = channel.word(layout::COUNTED_AT)?.load(Ordering::Relaxed) != 0;
        channel.bounds = Bounds {
            items: channel.word(layout::MAX_ITEMS_AT)?.load(Ordering::Relaxed),
            bytes: channel.word(layout::CAPACITY_AT)?.load(Ordering::Relaxed),
        };
        Ok(channel)
    }

    fn over(heap: Arc<Heap>, reference: u64, bounds: Bounds) -> Result<Self, ChannelError> {
        let region = block_region(&heap, reference)?;
        if region.length() < layout::BYTES {
            return Err(ChannelError::Damaged("a channel is larger than its block"));
        }
        let spins = [Exclusive::new(Spin::default()), Exclusive::new(Spin::default())];
        Ok(Self {
            heap,
            reference,
            region,
            bounds,
            spin_ns: AtomicU64::new(0),
            event: None,
            spins,
            counted: false,
            slot: AtomicU64::new(0),
            left_blocks: AtomicBool::new(false),
            tidy_after_ns: AtomicU64::new(0),
            #[cfg(test)]
            acts_as: AtomicU64::new(0),
        })
    }

    /// The channel with an eventfd by which it can be polled: if one has it, all who use the channel must.
    #[must_use]
    pub fn with_event(self, event: OwnedFd) -> Self {
        Self { event: Some(event), ..self }
    }

    /// What names the channel in every process that has its heap.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.reference
    }

    /// The heap its blocks are of.
    #[must_use]
    pub fn heap(&self) -> &Arc<Heap> {
        &self.heap
    }

    /// The bounds it was made with.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// For how long to spin before sleeping, at most.
    pub fn set_spin_ns(&self, spin_ns: u64) {
        // Relaxed: a number.
        self.spin_ns.store(spin_ns, Ordering::Relaxed);
    }

    /// See [`Self::set_spin_ns`].
    #[must_use]
    pub fn spin_ns(&self) -> u64 {
        self.spin_ns.load(Ordering::Relaxed)
    }

    /// How many items were sent and not yet received.
    #[inline]
    #[must_use]
    pub fn length(&self) -> u64 {
        let count = |side| self.committed(side).map_or(0, |committed| committed.count);
        // The consumers' first: an item is sent before it is received. Acquire: or the loads could change places.
        let received = count(layout::CONSUMERS_AT);
        count(layout::PRODUCERS_AT).saturating_sub(received)
    }

    /// How many items were ever sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.committed(layout::PRODUCERS_AT).map_or(0, |committed| committed.count)
    }

    /// Is there no room for another item? (Of a bound in bytes: for another byte.)
    #[must_use]
    pub fn is_full(&self) -> bool {
        (self.bounds.items != 0 && self.length() >= self.bounds.items)
            || (self.bounds.bytes != 0 && self.bytes_held() >= self.bounds.bytes)
    }

    /// Ends sending, for every process; what was sent can still be received.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Damaged`].
    pub fn close(&self) -> Result<(), ChannelError> {
        // Release: what came before it here is seen by whoever finds it closed.
        self.half(layout::CLOSED_AT)?.store(1, Ordering::Release);
        step!("close.closed");
        many::ring(self.half(layout::ITEMS_BELL_AT)?, u32::MAX);
        many::ring(self.half(layout::ROOM_BELL_AT)?, u32::MAX);
        self.refresh_event()
    }

    /// Was it closed?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.half(layout::CLOSED_AT).is_ok_and(|word| word.load(Ordering::Acquire) != 0)
    }

    /// Frees what the dead process of this identity owned in the heap; how many blocks.
    ///
    /// # Errors
    ///
    /// [`HeapError::OwnerAlive`] when it isn't dead.
    pub fn recover(&self, identity: u64) -> Result<u64, ChannelError> {
        Ok(self.heap.recover(identity)?)
    }

    #[cfg(not(test))]
    #[inline]
    #[allow(clippy::unused_self, reason = "tests act as others")]
    fn me(&self) -> u64 {
        identity::current()
    }

    #[cfg(test)]
    fn me(&self) -> u64 {
        let other = self.acts_as.load(Ordering::Relaxed);
        if other == 0 { identity::current() } else { other }
    }

    #[inline]
    fn word(&self, offset: usize) -> Result<&AtomicU64, Damaged> {
        self.region.word(offset)
    }

    #[inline]
    fn half(&self, offset: usize) -> Result<&AtomicU32, Damaged> {
        self.region.half(offset)
    }

    #[inline]
    fn committed(&self, side: usize) -> Result<Committed, Damaged> {
        // Acquire: pairs with the commit's Release: the frames that it counts, or the room, are seen.
        Ok(Committed::of(self.word(side + layout::COMMITTED)?.load(Ordering::Acquire)))
    }

    /// Bytes in the channel, about: read without a tenure.
    fn bytes_held(&self) -> u64 {
        let bytes = |side| Side::read(self, side).map_or(0, |side| side.bytes);
        bytes(layout::PRODUCERS_AT).saturating_sub(bytes(layout::CONSUMERS_AT))
    }

    /// A block that lies in this heap, as a region.
    fn block(&self, reference: u64) -> Result<Region, ChannelError> {
        block_region(&self.heap, reference)
    }

    /// Waits until `ready`, on a bell. False: the time is up.
    fn wait_until<E: From<ChannelError>>(
        &self,
        bell: usize,
        waiting: &mut Waiting<'_, E>,
        ready: impl Fn() -> bool,
    ) -> Result<bool, E> {
        self.wait_unless_overdue(bell, waiting, &ready, || {
            if self.is_untidy() {
                self.tidy();
            }
            ready()
        })
    }

    /// As [`Self::wait_until`]; `overdue` is asked after each sleep that nobody ended.
    fn wait_unless_overdue<E: From<ChannelError>>(
        &self,
        bell: usize,
        waiting: &mut Waiting<'_, E>,
        ready: impl Fn() -> bool,
        overdue: impl Fn() -> bool,
    ) -> Result<bool, E> {
        let word = self.half(bell).map_err(ChannelError::from)?;
        let known = self.spins.get(usize::from(bell == layout::ROOM_BELL_AT));
        // Another thread is just reading or writing it (or was, when this process was forked): learn from scratch.
        let mut spin = known.and_then(Exclusive::enter).map(|inside| *inside).unwrap_or_default();
        let patience = Patience {
            deadline: waiting.deadline,
            spin_ns: self.spin_ns(),
            spin: &mut spin,
            interrupted: Interrupted(waiting.interrupted),
        };
        let found = patience.wait(word, || ready().then_some(()), || overdue().then_some(()))?;
        if let Some(mut inside) = known.and_then(Exclusive::enter) {
            *inside = spin;
        }
        Ok(found.is_some())
    }

    /// Runs `body` with the tenure of a side, having repaired what a dead predecessor left. None: not got in time.
    fn entered<R, E: From<ChannelError>>(
        &self,
        side: usize,
        waiting: Option<&mut Waiting<'_, E>>,
        body: impl FnOnce(u64) -> Result<R, ChannelError>,
    ) -> Result<Option<R>, E> {
        let me = self.me();
        let tenure = Tenure::over(&self.region, side + layout::TENURE).map_err(ChannelError::from)?;
        let got = match waiting {
            None => tenure.take(me).then_some(Got::Free),
            Some(_) if tenure.take(me) => Some(Got::Free),
            Some(waiting) => {
                let spin = (&mut Spin::default(), self.spin_ns());
                // Who may not wait for items, or room, still waits for others to be done with theirs.
                let deadline = waiting.deadline.max(Deadline::after(GRACE));
                tenure.acquire(me, deadline, spin, waiting.interrupted)?
            }
        };
        let Some(got) = got else { return Ok(None) };
        self.run_in(side, tenure, got, || body(me)).map(Some).map_err(E::from)
    }

    fn run_in<R>(
        &self,
        side: usize,
        tenure: Tenure<'_>,
        got: Got,
        body: impl FnOnce() -> Result<R, ChannelError>,
    ) -> Result<R, ChannelError> {
        step!("channel.entered");
        let Got::Inherited(dead) = got else {
            let result = body();
            tenure.release();
            return result;
        };
        // Its work is not lost with what is damaged: that is an error of everybody's.
        let result = self.repair(side).and_then(|()| body());
        tenure.release();
        // After the release, since it looks at every block. Alive after all, or damaged: nothing to be done about it here.
        drop(self.heap.recover(dead));
        result
    }
}

fn block_region(heap: &Heap, reference: u64) -> Result<Region, ChannelError> {
    region_at(heap.slice(reference)?)
}

/// All of a block, also of one that is half freed.
fn whole_region(heap: &Heap, reference: u64) -> Result<Region, ChannelError> {
    region_at(heap.whole(reference)?)
}

fn region_at((start, length): (NonNull<u8>, usize)) -> Result<Region, ChannelError> {
    // SAFETY: INV-REGION-1: the block lies in the mapping; a `Channel` keeps the heap beside its region, and others live no longer than it.
    let region = unsafe { Region::new(start, length) };
    region.ok_or(ChannelError::Damaged("a block is not aligned"))
}
