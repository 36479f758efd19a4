//! Where a side stands, and the one store that moves it on.

use super::layout::{COMMITTED, CURSOR_BYTES, CURSORS, Committed, Place};
use super::{Channel, ChannelError};
use crate::region::Damaged;
use crate::steps::step;
use crate::sync::Ordering;

/// Where a side stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) committed: Committed,
    pub(super) place: Place,
    /// Of all items so far.
    pub(super) bytes: u64,
}

impl Side {
    /// Where the side at `at` stands. Exact for whoever holds its tenure.
    #[inline]
    pub(super) fn read(channel: &Channel, at: usize) -> Result<Self, Damaged> {
        let committed = channel.committed(at)?;
        let cursor = at + CURSORS + committed.flip * CURSOR_BYTES;
        // Relaxed: ordered by the tenure, and by the acquire of the committed word.
        let place = Place::unpack(channel.word(cursor)?.load(Ordering::Relaxed));
        let bytes = channel.word(cursor + 8)?.load(Ordering::Relaxed);
        Ok(Self { committed, place, bytes })
    }

    /// The committed word after `items` more.
    #[inline]
    pub(super) fn target(&self, items: u64) -> u64 {
        self.committed.after(items).word()
    }

    /// Moves the side on by `items`, to this place (INV-CHANNEL-2).
    #[inline]
    pub(super) fn commit(&mut self, channel: &Channel, at: usize, items: u64) -> Result<(), ChannelError> {
        let next = self.committed.after(items);
        let cursor = at + CURSORS + next.flip * CURSOR_BYTES;
        // Relaxed: nobody looks at this cursor before the commit.
        channel.word(cursor)?.store(self.place.pack()?, Ordering::Relaxed);
        step!("commit.placed");
        channel.word(cursor + 8)?.store(self.bytes, Ordering::Relaxed);
        step!("commit.counted");
        // Release: pairs with the acquire in `Channel::committed`: frames before their count; the reading of frames before the room.
        channel.word(at + COMMITTED)?.store(next.word(), Ordering::Release);
        step!("commit.done");
        self.committed = next;
        Ok(())
    }
}
