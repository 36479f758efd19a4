//! An eventfd that is readable while the channel holds items: for those who wait for several things at once.
//!
//! # Invariants
//!
//! INV-CHANNEL-5: once polled, the event is signalled whenever the channel holds an item or is closed. It is changed under the
//! producers' tenure only: signalled before a commit, drained while no item is held and none can come. So a kill leaves it readable
//! for nothing at worst, until the next holder of the tenure, or the next consumer that finds nothing, sets it right.

use std::os::fd::{AsFd, BorrowedFd};

use super::{Channel, ChannelError, Waiting, layout};
use crate::heap::HeapError;
use crate::steps::step;
use crate::sync::Ordering;
use crate::sys::event::{drain_eventfd, signal_eventfd};
use crate::wait::Deadline;

impl Channel {
    /// The event, which from now on is kept exact by all who use the channel.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Unfit`] when it was made without one.
    pub fn poll_event(&self) -> Result<BorrowedFd<'_>, ChannelError> {
        let event = self.event.as_ref().ok_or(ChannelError::Unfit("this channel cannot be polled"))?;
        if !self.is_polled() {
            // Relaxed: under the tenure below everything is set right; who has missed it until then is seen by what he did.
            self.half(layout::POLLED_AT)?.store(1, Ordering::Relaxed);
            step!("event.polled");
            self.refresh_event()?;
        }
        Ok(event.as_fd())
    }

    /// Its descriptor, to pass it on.
    #[must_use]
    pub fn event(&self) -> Option<BorrowedFd<'_>> {
        self.event.as_ref().map(AsFd::as_fd)
    }

    #[inline]
    pub(super) fn is_polled(&self) -> bool {
        // Relaxed: see `poll_event`.
        self.half(layout::POLLED_AT).is_ok_and(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Under the producers' tenure, before a commit.
    #[inline]
    pub(super) fn signal_event(&self) -> Result<(), ChannelError> {
        if self.is_polled() { self.signal() } else { Ok(()) }
    }

    #[cold]
    fn signal(&self) -> Result<(), ChannelError> {
        let readable = self.half(layout::READABLE_AT)?;
        // Relaxed, here and below: changed under the tenure only.
        if readable.load(Ordering::Relaxed) == 0
            && let Some(event) = self.event()
        {
            signal_eventfd(event).map_err(HeapError::from)?;
            step!("event.signalled");
            readable.store(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Nothing may be held any more: drains the event if that is so.
    #[inline]
    pub(super) fn quiet_event(&self) -> Result<(), ChannelError> {
        if self.is_polled() && self.length() == 0 { self.refresh_event() } else { Ok(()) }
    }

    /// Makes the event what it should be.
    #[cold]
    pub(super) fn refresh_event(&self) -> Result<(), ChannelError> {
        if self.is_polled() {
            // Who is inside is so for a moment. Out of time: somebody was stopped there, and sets it right himself, or his successor does.
            let mut waiting = Waiting { deadline: Deadline::PASSED, interrupted: &mut || Ok(()) };
            self.entered::<_, ChannelError>(layout::PRODUCERS_AT, Some(&mut waiting), |_| self.set_event())?;
        }
        Ok(())
    }

    /// Under the producers' tenure.
    pub(super) fn set_event(&self) -> Result<(), ChannelError> {
        if !self.is_polled() {
            return Ok(());
        }
        if self.length() > 0 || self.is_closed() {
            // Whatever the word says: whoever wrote it may have been killed before he did what it says.
            self.half(layout::READABLE_AT)?.store(0, Ordering::Relaxed);
            return self.signal();
        }
        // The word first: killed after it, the event is signalled once too often, and not once too seldom.
        self.half(layout::READABLE_AT)?.store(0, Ordering::Relaxed);
        step!("event.unmarked");
        if let Some(event) = self.event() {
            drain_eventfd(event).map_err(HeapError::from)?;
        }
        step!("event.drained");
        Ok(())
    }
}
