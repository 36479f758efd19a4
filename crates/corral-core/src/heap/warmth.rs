//! Pages of large blocks: made sure of before they are touched, and mapped in one call instead of by faults.
//!
//! # Role in the flow
//!
//! Between the claim of a block and its use. A page that is touched first costs as much as copying seven of them (100 MB: 70 ms to make
//! and fill, 10 ms to fill again), and where memory is exhausted the touch is a SIGBUS; asked for by a call, it is an error. A receiver needs
//! none of it: the pages exist, and reading maps sixteen of them at a time.
//!
//! # Failure
//!
//! [`HeapError::Full`] when a large fresh block exceeds what the machine (or the control group) says is left, or when the kernel
//! couldn't get the pages. Not covered: blocks below [`POPULATE_BYTES`], whose first touch can still be SIGBUS, and the kernel's choice to
//! kill somebody for memory instead of refusing.

use std::time::Duration;

use super::layout::UNIT_BYTES;
use super::{Heap, HeapError};
use crate::identity;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::limits::available_memory;

/// From this size on a block's pages are made sure of.
pub const POPULATE_BYTES: usize = 64 << 10;
/// From this size on a fresh block is compared with the memory that is left.
const ADMISSION_BYTES: usize = 64 << 20;

const MAPPED_SLOTS: usize = 2048;
const UNITS_BITS: u32 = 44;

/// What this process has mapped already, as far as it remembers: entry number and size in units, by entry number modulo the slots.
#[derive(Debug)]
pub(super) struct MappedBlocks {
    process: AtomicU64,
    slots: Box<[AtomicU64]>,
}

impl MappedBlocks {
    pub(super) fn new() -> Self {
        let slots = (0..MAPPED_SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { process: AtomicU64::new(0), slots }
    }

    /// Is the block known to be mapped up to `length`?
    fn covers(&self, number: u64, length: usize) -> bool {
        // Relaxed, here and below: a wrong answer costs page faults, nothing else.
        self.forget_before_fork();
        let known = self.slot(number).map_or(0, |slot| slot.load(Ordering::Relaxed));
        known >> UNITS_BITS == number && known & ((1 << UNITS_BITS) - 1) >= units(length)
    }

    fn remember(&self, number: u64, length: usize) {
        self.forget_before_fork();
        if let Some(slot) = self.slot(number) {
            slot.store(number << UNITS_BITS | units(length), Ordering::Relaxed);
        }
    }

    /// A forked child begins anew: page tables of shared memory aren't inherited.
    fn forget_before_fork(&self) {
        let me = identity::current();
        if self.process.load(Ordering::Relaxed) != me && self.process.swap(me, Ordering::Relaxed) != me {
            self.slots.iter().for_each(|slot| slot.store(0, Ordering::Relaxed));
        }
    }

    fn slot(&self, number: u64) -> Option<&AtomicU64> {
        self.slots.get(usize::try_from(number).ok()? % MAPPED_SLOTS)
    }
}

fn units(length: usize) -> u64 {
    (length as u64).div_ceil(UNIT_BYTES)
}

impl Heap {
    /// Makes sure of the pages of a large block; `fresh` when none of them exists.
    pub(super) fn warm(&self, number: u64, length: usize, fresh: bool) -> Result<(), HeapError> {
        if length < POPULATE_BYTES || (!fresh && self.mapped.covers(number, length)) {
            return Ok(());
        }
        if fresh && length >= ADMISSION_BYTES {
            self.admit(length)?;
        }
        let (offset, _) = self.place_of(number)?;
        let exhausted = || self.mapping.populate(offset, length).is_err_and(|error| is_exhausted(&error));
        // What is idle goes first. An old kernel that can't populate leaves it to page faults.
        if exhausted() && (self.trim(Duration::ZERO)? == 0 || exhausted()) {
            return Err(HeapError::Full {
                wanted: length as u64,
                limit: "the machine's memory is exhausted",
            });
        }
        self.mapped.remember(number, length);
        Ok(())
    }

    /// Refuses a large fresh block that can't fit in memory, before the kernel would kill somebody for it.
    fn admit(&self, length: usize) -> Result<(), HeapError> {
        let fits = || available_memory().is_none_or(|available| available > length as u64);
        if fits() {
            return Ok(());
        }
        self.trim(Duration::ZERO)?;
        if fits() {
            return Ok(());
        }
        Err(HeapError::Full { wanted: length as u64, limit: "the machine has less memory left" })
    }
}

fn is_exhausted(error: &std::io::Error) -> bool {
    // A range that would have been SIGBUS is reported as a bad address.
    matches!(error.raw_os_error(), Some(crate::sys::memory::OUT_OF_MEMORY | crate::sys::memory::BAD_ADDRESS))
}
