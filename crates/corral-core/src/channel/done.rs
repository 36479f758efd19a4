//! Which of the items sent have been done with: what the receivers tell, and who waits for all.
//!
//! # Invariants
//!
//! INV-CHANNEL-6: done never exceeds sent. What is unfinished is their difference, so sending counts as unfinished by its very commit.

use super::{Channel, ChannelError, Waiting, layout};
use crate::doorbell::many;
use crate::steps::step;
use crate::sync::Ordering;

impl Channel {
    /// Says that an item received earlier has been dealt with; false: that was said of all already.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Damaged`].
    pub fn item_done(&self) -> Result<bool, ChannelError> {
        let word = self.word(layout::DONE_AT)?;
        let counted = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |done| {
            (done < self.sent()).then_some(done.wrapping_add(1))
        });
        let Ok(before) = counted else { return Ok(false) };
        step!("done.counted");
        // A kill between counts it twice: as done, and as abandoned. The other way round it would be waited for in vain.
        self.let_go(self.me())?;
        let done = before.wrapping_add(1);
        if done >= self.sent() {
            // Kept, since more may be sent before a waiter has looked. Release: pairs with the Acquire in `wait_done`.
            self.word(layout::LAST_ZERO_AT)?.fetch_max(done, Ordering::Release);
            step!("done.zero");
            many::ring(self.half(layout::DONE_BELL_AT)?, u32::MAX);
        }
        Ok(true)
    }

    /// How many items were sent and not yet done with.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        // Acquire: done is read before sent, which it never exceeds.
        let done = self.word(layout::DONE_AT).map_or(0, |word| word.load(Ordering::Acquire));
        self.sent().saturating_sub(done)
    }

    /// Waits until everything sent before has been done with, or nothing was unfinished at some moment since; false: not in time.
    /// What was received by processes that have died is not waited for.
    ///
    /// # Errors
    ///
    /// What `waiting` says.
    pub fn wait_done<E: From<ChannelError>>(&self, waiting: &mut Waiting<'_, E>) -> Result<bool, E> {
        let sent = self.sent();
        let last_zero = self.word(layout::LAST_ZERO_AT).map_err(ChannelError::from)?;
        let ready = || self.unfinished() == 0 || last_zero.load(Ordering::Acquire) >= sent;
        if ready() {
            return Ok(true);
        }
        let overdue = || ready() || self.abandoned().is_ok_and(|lost| lost > 0 && lost >= self.unfinished());
        self.wait_unless_overdue(layout::DONE_BELL_AT, waiting, ready, overdue)
    }
}
