//! The parent's doorbell: an eventcount in the heap, an eventfd to sleep on.
//!
//! # Role in the flow
//!
//! A parent has one, and gives its workers the block's reference and the descriptor; they ring it after each reply. The
//! parent's [`WaitSet`](crate::waitset::WaitSet) enrols and sleeps.
//!
//! # Invariants
//!
//! INV-BELL-3: the eventfd is watched edge-triggered and never read: each ring is an edge of its own for every
//! sleeper, and no sleeper can swallow another's. Its counter never fills (that would take 2^64 rings).
//!
//! # Failure
//!
//! The block is given back to the heap only when nobody can ring any more; see [`crate::link`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::doorbell::shared;
use crate::heap::{Heap, HeapError};
use crate::region::{Damaged, Memory, Region};
use crate::sync::{AtomicBool, AtomicU32, Ordering};
use crate::sys::event::{create_eventfd, signal_eventfd};

const MAGIC: u64 = u64::from_le_bytes(*b"corralB\x01");
const MAGIC_AT: usize = 0;
const WORD_AT: usize = 128;
const BYTES: usize = 256;

/// A doorbell, as its parent or as one of those who ring it.
#[derive(Debug)]
pub struct Bell {
    heap: Arc<Heap>,
    reference: u64,
    region: Region,
    event: OwnedFd,
    /// Not ours to take down, or never to be.
    hangs_on: AtomicBool,
}

impl Bell {
    /// Hangs up a new bell.
    ///
    /// # Errors
    ///
    /// The heap's, and the system's when it is out of descriptors.
    pub fn create(heap: Arc<Heap>) -> Result<Self, HeapError> {
        let event = create_eventfd()?;
        let reference = heap.alloc(BYTES)?.reference;
        let bell = Self::over(heap, reference, event)?;
        bell.word()?.store(0, Ordering::Relaxed);
        // Relaxed: others learn the reference through a link's block and the launch of a process.
        bell.region.word(MAGIC_AT)?.store(MAGIC, Ordering::Relaxed);
        Ok(bell)
    }

    /// The bell in block `reference`, to ring it.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when there is none.
    pub fn attach(heap: Arc<Heap>, reference: u64, event: OwnedFd) -> Result<Self, HeapError> {
        let bell = Self::over(heap, reference, event)?;
        bell.leave_hanging();
        // Relaxed: see `create`.
        if bell.region.word(MAGIC_AT)?.load(Ordering::Relaxed) != MAGIC {
            return Err(HeapError::Damaged("the block is no bell"));
        }
        Ok(bell)
    }

    fn over(heap: Arc<Heap>, reference: u64, event: OwnedFd) -> Result<Self, HeapError> {
        let (start, length) = heap.slice(reference)?;
        // SAFETY: INV-REGION-1: the block lies in the mapping, which the heap beside the region keeps.
        let region = unsafe { Region::new(start, length) };
        let region = region.ok_or(HeapError::Damaged("a block is not aligned"))?;
        let bell = Self { heap, reference, region, event, hangs_on: AtomicBool::new(false) };
        bell.word()?;
        Ok(bell)
    }

    /// What names its block in every process of the tree.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.reference
    }

    /// The eventfd.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// The eventcount's word.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when the block is too small for one.
    #[inline]
    pub fn word(&self) -> Result<&AtomicU32, Damaged> {
        self.region.half(WORD_AT)
    }

    /// After a frame was committed: wakes the parent if it sleeps.
    ///
    /// # Errors
    ///
    /// The system's: none is expected.
    #[inline]
    pub fn ring(&self) -> io::Result<()> {
        let Ok(word) = self.word() else { return Ok(()) };
        if let Some(sleepers) = shared::pending(word) {
            signal_eventfd(self.as_fd())?;
            sleepers.answered(word);
        }
        Ok(())
    }

    /// The block is not given back: it is another's, or somebody may ring for as long as this process lives.
    pub(crate) fn leave_hanging(&self) {
        // Relaxed: read when the last reference is dropped, which comes after.
        self.hangs_on.store(true, Ordering::Relaxed);
    }

    /// Gives the block back; only its owner's call has an effect.
    fn take_down(&self) {
        if let Ok(word) = self.region.word(MAGIC_AT)
            && self.heap.owner_of(self.reference).is_ok_and(|owner| owner == crate::identity::current())
        {
            // Relaxed: a guard against late attachment, not a synchronisation.
            word.store(0, Ordering::Relaxed);
            // Not owned, or damaged: nothing to give back.
            drop(self.heap.free(self.reference));
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        if !self.hangs_on.load(Ordering::Relaxed) {
            self.take_down();
        }
    }
}
