//! What a worker is at, and what its parent wants stopped: a few words beside the rings.
//!
//! # Role in the flow
//!
//! A worker that was given work with a time limit, or work of many parts, writes down each part before it begins it
//! ([`WorkerLink::begin`]). The parent looks whether a part has lasted too long, and after a death which parts may have run
//! ([`ParentLink::progress`]). To have something stopped it writes its word ([`ParentLink::ask`]) and sends a signal; the
//! worker's handler compares the word with what it is at ([`WorkerLink::asked`]), so that a signal that comes late hits nothing.
//!
//! # Invariants
//!
//! INV-SLATE-1: an entry is written into the one of two places that nobody reads, and counts once the counter says so. So
//! a death at any instant leaves the entry before it or the new one whole.

use super::{LinkError, ParentLink, Shared, WorkerLink, layout};
use crate::region::{Damaged, Memory};
use crate::steps::step;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::sys::clock::monotonic_ns;

/// How often a reader begins anew while the worker writes entry after entry.
const ATTEMPTS: usize = 100;

/// What a worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The entry's number: each is another.
    pub number: u64,
    /// The task's id.
    pub id: u64,
    /// Of the task's parts, those before this one may have begun, and no others.
    pub end: u64,
    /// When this was written, on the machine's monotonic clock.
    pub since_ns: u64,
}

impl Shared {
    fn slate(&self, number: u64, field: usize) -> Result<&AtomicU64, Damaged> {
        let place = if number & 1 == 0 { layout::EVEN_ENTRY_AT } else { layout::ODD_ENTRY_AT };
        self.region.word(place + field)
    }
}

impl WorkerLink {
    /// Writes down that the parts of task `id` before `end` may begin from now on; returns the entry's number.
    ///
    /// For the thread that runs the tasks.
    ///
    /// # Errors
    ///
    /// [`LinkError::Damaged`] when the block is too small.
    pub fn begin(&self, id: u64, end: u64) -> Result<u64, LinkError> {
        let counter = self.shared.region.word(layout::ENTRIES_AT)?;
        // Relaxed: this process alone writes it.
        let number = counter.load(Ordering::Relaxed).wrapping_add(1);
        // Pairs with the fence of `progress`: who reads a word of this entry in the old one's place sees the counter after it.
        fence(Ordering::Release);
        for (field, value) in [(0, id), (8, end), (16, monotonic_ns())] {
            step!("slate: before a word");
            self.shared.slate(number, field)?.store(value, Ordering::Relaxed);
        }
        step!("slate: before the count");
        // Release: pairs with the Acquire of `progress`: the entry is whole.
        counter.store(number, Ordering::Release);
        Ok(number)
    }

    /// What the parent wants stopped: its last [`ParentLink::ask`], 0 for nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::begin`].
    pub fn asked(&self) -> Result<u64, LinkError> {
        // Acquire: the signal that makes us look was sent after the store; the system orders the two.
        Ok(self.shared.region.word(layout::ASKED_AT)?.load(Ordering::Acquire))
    }
}

impl WorkerLink {
    /// Writes down what the worker is doing with the task it has taken; a word of the two sides' own meaning. Taking a frame makes it
    /// 1, and so says that the frame is being decoded.
    ///
    /// # Errors
    ///
    /// As [`Self::begin`].
    #[inline]
    pub fn enter(&self, phase: u64) -> Result<(), LinkError> {
        // Relaxed: read after this process's death, which the system orders.
        self.shared.region.word(layout::PHASE_AT)?.store(phase, Ordering::Relaxed);
        Ok(())
    }
}

impl ParentLink {
    /// What the worker was doing last: its last [`WorkerLink::enter`].
    ///
    /// # Errors
    ///
    /// [`LinkError::Damaged`] when the block is too small.
    pub fn phase(&self) -> Result<u64, LinkError> {
        // Relaxed: see `WorkerLink::enter`.
        Ok(self.shared.region.word(layout::PHASE_AT)?.load(Ordering::Relaxed))
    }

    /// What the worker is at; None before its first entry, or while it writes faster than one can read.
    ///
    /// # Errors
    ///
    /// [`LinkError::Damaged`] when the block is too small.
    pub fn progress(&self) -> Result<Option<Progress>, LinkError> {
        let counter = self.shared.region.word(layout::ENTRIES_AT)?;
        for _ in 0..ATTEMPTS {
            // Acquire: pairs with the Release of `begin`.
            let number = counter.load(Ordering::Acquire);
            if number == 0 {
                return Ok(None);
            }
            // Relaxed: the fence below tells whether they belong together.
            let [id, end, since_ns] = [0, 8, 16]
                .map(|field| self.shared.slate(number, field).map(|word| word.load(Ordering::Relaxed)));
            // Pairs with the fence of `begin`.
            fence(Ordering::Acquire);
            if counter.load(Ordering::Relaxed) == number {
                return Ok(Some(Progress { number, id: id?, end: end?, since_ns: since_ns? }));
            }
        }
        Ok(None)
    }

    /// Writes down what shall be stopped; a signal has the worker look.
    ///
    /// # Errors
    ///
    /// As [`Self::progress`].
    pub fn ask(&self, what: u64) -> Result<(), LinkError> {
        // Release: see `WorkerLink::asked`.
        self.shared.region.word(layout::ASKED_AT)?.store(what, Ordering::Release);
        Ok(())
    }
}
