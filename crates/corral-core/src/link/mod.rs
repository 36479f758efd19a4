//! A parent's connection with one worker: a ring there, a ring back, and how large bodies travel beside them.
//!
//! # Role in the flow
//!
//! The engine sends tasks ahead on [`ParentLink`], may take them back, and collects replies when the wait set says so; the
//! worker's loop receives and replies on [`WorkerLink`]. Both hold one block of the heap, the parent's.
//!
//! # Invariants
//!
//! INV-LINK-1: a block in a frame stays the sender's until the receiver adopts it, and a worker adopts before it
//! releases the frame. So what lies before the released position has been adopted, or was revoked.
//! INV-LINK-2: the parent gives the link's block back only when no worker can write to it any more.
//!
//! # Failure
//!
//! The worker dies: the parent collects what was committed, asks which frames were taken, settles
//! ([`ParentLink::settle`]), and has the heap recover what the dead worker owned, in this order. The parent dies: the worker goes too.

mod body;
pub mod layout;
mod parent;
mod slate;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

pub use body::{Arrived, Body, InRing, MAX_INLINE_BYTES, pack};
pub use parent::ParentLink;
pub use slate::Progress;
pub use worker::{Waited, WorkerLink};

use crate::heap::{Heap, HeapError};
use crate::identity;
use crate::region::{Damaged, Memory, Region};
use crate::ring::layout::{Geometry, MAX_CAPACITY, MAX_ID, MIN_CAPACITY};
use crate::sync::{AtomicU32, Ordering};

/// What travels with every body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// What the frame is.
    pub kind: u8,
    /// Whose frame it is, below 2^62.
    pub id: u64,
    /// One more word.
    pub aux: u64,
}

impl Tag {
    fn checked(self) -> Result<Self, LinkError> {
        if self.id < MAX_ID { Ok(self) } else { Err(LinkError::Unfit("an id is at most 2**62 - 1")) }
    }
}

/// Why an operation on a link failed.
#[derive(Debug)]
pub enum LinkError {
    /// The other side: what was read from shared memory can't be.
    Damaged(&'static str),
    /// The caller: an argument that can't be.
    Unfit(&'static str),
    /// The caller: two threads use one end at once.
    Busy,
    /// The heap's.
    Heap(HeapError),
}

impl std::fmt::Display for LinkError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(what) => write!(out, "damaged shared memory: {what}"),
            Self::Unfit(what) => out.write_str(what),
            Self::Busy => out.write_str("this end of the link is in use by another thread"),
            Self::Heap(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<Damaged> for LinkError {
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}

impl From<HeapError> for LinkError {
    fn from(error: HeapError) -> Self {
        Self::Heap(error)
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        Self::Heap(HeapError::System(error))
    }
}

/// A link's block, as either side sees it.
#[derive(Debug)]
struct Shared {
    heap: Arc<Heap>,
    reference: u64,
    region: Region,
    capacity: usize,
}

impl Shared {
    /// Lays out a new block; `magic` comes last, in [`Shared::open`].
    fn create(heap: Arc<Heap>, capacity: usize, bell: u64) -> Result<Self, LinkError> {
        if !(MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity) || !capacity.is_power_of_two() {
            return Err(LinkError::Unfit("a ring's capacity is a power of two from 256 bytes to 1 GiB"));
        }
        let reference = heap.alloc_sparse(layout::block_bytes(capacity))?.reference;
        let shared = Self::over(heap, reference, capacity)?;
        for (offset, value) in [
            (layout::CAPACITY_AT, capacity as u64),
            (layout::BELL_AT, bell),
            (layout::WORKER_AT, 0),
            (layout::ASKED_AT, 0),
            (layout::ENTRIES_AT, 0),
            (layout::FRAMES_WORD_AT, 0),
            (layout::ROOM_WORD_AT, 0),
        ] {
            // Relaxed: nobody knows of the block yet; the launch of the worker orders all this before its first look.
            shared.region.word(offset)?.store(value, Ordering::Relaxed);
        }
        Ok(shared)
    }

    fn open(&self) -> Result<(), LinkError> {
        // Relaxed: as in `create`.
        self.region.word(layout::MAGIC_AT)?.store(layout::MAGIC, Ordering::Relaxed);
        Ok(())
    }

    /// Finds the link in block `reference`.
    fn attach(heap: Arc<Heap>, reference: u64) -> Result<Self, LinkError> {
        let mut shared = Self::over(heap, reference, 0)?;
        // Relaxed: what the parent wrote before it launched us.
        if shared.region.word(layout::MAGIC_AT)?.load(Ordering::Relaxed) != layout::MAGIC {
            return Err(LinkError::Damaged("the block is no link"));
        }
        let capacity = shared.region.word(layout::CAPACITY_AT)?.load(Ordering::Relaxed);
        shared.capacity = usize::try_from(capacity).unwrap_or(usize::MAX);
        let capacity = layout::forward(shared.capacity).checked()?.capacity;
        if shared.region.length() < layout::block_bytes(capacity) {
            return Err(LinkError::Damaged("a link is larger than its block"));
        }
        Ok(shared)
    }

    /// Writes this process into the block as the link's worker: a link has one in its life.
    fn sign_in(&self) -> Result<(), LinkError> {
        let me = identity::current();
        let word = self.region.word(layout::WORKER_AT)?;
        // Relaxed: the parent reads it when it lets go of the link, long after.
        match word.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
            Err(other) if other != me => Err(LinkError::Damaged("the link has another worker")),
            _ => Ok(()),
        }
    }

    fn over(heap: Arc<Heap>, reference: u64, capacity: usize) -> Result<Self, LinkError> {
        let (start, length) = heap.slice(reference)?;
        // SAFETY: INV-REGION-1: the block lies in the mapping, which the heap beside the region keeps.
        let region = unsafe { Region::new(start, length) };
        let region = region.ok_or(LinkError::Damaged("a block is not aligned"))?;
        Ok(Self { heap, reference, region, capacity })
    }

    fn forward(&self) -> Geometry {
        layout::forward(self.capacity)
    }

    fn back(&self) -> Geometry {
        layout::back(self.capacity)
    }

    fn half(&self, offset: usize) -> Result<&AtomicU32, Damaged> {
        self.region.half(offset)
    }
}
