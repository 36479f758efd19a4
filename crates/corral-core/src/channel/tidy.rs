//! What is done after a burst: memory that held it goes back to the system.
//!
//! A queue that has been long keeps its freed blocks, warm, for the next items; nobody else would ever give them back.

use std::time::Duration;

use super::Channel;
use crate::sync::Ordering;
use crate::sys::clock::monotonic_ns;

/// Free blocks may hold so much.
const MOST_FREE_BYTES: u64 = 32 << 20;
/// What was freed more recently is kept.
const IDLE: Duration = Duration::from_millis(200);
const PERIOD_NS: u64 = 300_000_000;

impl Channel {
    /// Blocks were left since the last time.
    pub(super) fn has_left_blocks(&self) {
        // Relaxed, here and below: hints for this process alone.
        self.left_blocks.store(true, Ordering::Relaxed);
    }

    /// Should [`Self::tidy`] be called, without anything being held up by it?
    #[inline]
    #[must_use]
    pub fn is_untidy(&self) -> bool {
        self.left_blocks.load(Ordering::Relaxed) && self.length() == 0
    }

    /// Gives pages back that have been free for a while, if there are many: may take some time.
    pub fn tidy(&self) {
        let now = monotonic_ns();
        if now < self.tidy_after_ns.load(Ordering::Relaxed) {
            return;
        }
        self.tidy_after_ns.store(now.saturating_add(PERIOD_NS), Ordering::Relaxed);
        // Damage is for those to say who read and write.
        if let Ok(stats) = self.heap.stats() {
            if stats.bytes_free <= MOST_FREE_BYTES {
                self.left_blocks.store(false, Ordering::Relaxed);
            } else if stats.bytes_resident > MOST_FREE_BYTES {
                drop(self.heap.trim(IDLE));
            }
        }
    }
}
