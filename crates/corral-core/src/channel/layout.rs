//! Where things lie in a channel's blocks: offsets and packing only, no algorithm.
//!
//! ```text
//! the channel's block (4096 bytes; its owner is OBJECT for ever)
//!    0  MAGIC  MAX_ITEMS  CAPACITY_BYTES  CLOSED  POLLED  COUNTED        written once, or seldom
//!  128  the producers' side: tenure, committed, two cursors, GROWTH, ITEM, ITEM_TARGET, READABLE
//!  384  the consumers' side: tenure, committed, two cursors, RETIRING, ADOPTED, ADOPTED_NUMBER, HOLD_*
//!  640  ITEMS_BELL       768  ROOM_BELL       896  DONE  LAST_ZERO  DONE_BELL  STRAY  ADRIFT
//! 1024  HOLDERS slots: WHO  TAKEN  DONE  -
//!
//! a side's committed word:   count of items << 1 | flip;     a side's cursor `flip` is the one that counts
//! a cursor:                  segment reference << 32 | offset,   bytes of all items so far
//!
//! a segment (a block): MAGIC, SERIAL, then frames
//! a frame:             u32 length | u32 kind, then `length` bytes, then up to the next multiple of 8
//! ```

use crate::region::Damaged;

/// The first word of a channel's block.
pub const MAGIC: u64 = u64::from_le_bytes(*b"corralC\x01");
/// The first word of a segment.
pub const SEGMENT_MAGIC: u64 = u64::from_le_bytes(*b"corralS\x01");
/// The owner of what is its channel's and no process's: never alive, never recovered.
pub const OBJECT: u64 = 1;

/// Bytes of a channel's block.
pub const BYTES: usize = 4096;
pub(super) const MAGIC_AT: usize = 0;
pub(super) const MAX_ITEMS_AT: usize = 8;
pub(super) const CAPACITY_AT: usize = 16;
pub(super) const CLOSED_AT: usize = 24;
pub(super) const POLLED_AT: usize = 28;
pub(super) const COUNTED_AT: usize = 32;

pub(super) const PRODUCERS_AT: usize = 128;
pub(super) const CONSUMERS_AT: usize = 384;
pub(super) const ITEMS_BELL_AT: usize = 640;
pub(super) const ROOM_BELL_AT: usize = 768;
pub(super) const DONE_AT: usize = 896;
pub(super) const LAST_ZERO_AT: usize = 904;
pub(super) const DONE_BELL_AT: usize = 912;
/// Items done with by processes that have no slot.
pub(super) const STRAY_AT: usize = 920;
/// Items taken by processes that have signed off since.
pub(super) const ADRIFT_AT: usize = 928;
pub(super) const HOLDERS_AT: usize = 1024;
pub(super) const HOLDER_BYTES: usize = 32;
/// Processes that can be counted as receivers at a time.
pub const HOLDERS: usize = (BYTES - HOLDERS_AT) / HOLDER_BYTES;

// Within a side.
pub(super) const TENURE: usize = 0;
pub(super) const COMMITTED: usize = 16;
pub(super) const CURSORS: usize = 24;
pub(super) const CURSOR_BYTES: usize = 16;

// Intents of whoever holds the producers' tenure: what a successor has to look after.
pub(super) const GROWTH_AT: usize = PRODUCERS_AT + 64;
pub(super) const ITEM_AT: usize = PRODUCERS_AT + 72;
pub(super) const ITEM_TARGET_AT: usize = PRODUCERS_AT + 80;
/// Was the event signalled, and not drained since?
pub(super) const READABLE_AT: usize = PRODUCERS_AT + 88;

// Intents of whoever holds the consumers' tenure.
pub(super) const RETIRING_AT: usize = CONSUMERS_AT + 64;
pub(super) const ADOPTED_AT: usize = CONSUMERS_AT + 72;
pub(super) const ADOPTED_NUMBER_AT: usize = CONSUMERS_AT + 80;
pub(super) const HOLD_SLOT_AT: usize = CONSUMERS_AT + 88;
pub(super) const HOLD_BEFORE_AT: usize = CONSUMERS_AT + 96;
pub(super) const HOLD_TARGET_AT: usize = CONSUMERS_AT + 104;

// Within a segment.
pub(super) const SEGMENT_MAGIC_AT: usize = 0;
pub(super) const SERIAL_AT: usize = 8;
pub(super) const FRAMES_AT: usize = 16;

pub(super) const FRAME_HEAD_BYTES: usize = 8;
/// A frame whose bytes are the item.
pub(super) const BYTES_KIND: u32 = 1;
/// A frame that names the item's block: reference, bytes.
pub(super) const BLOCK_KIND: u32 = 2;
/// The last frame of a segment: the reference of the next.
pub(super) const JUMP_KIND: u32 = 3;
pub(super) const BLOCK_FRAME_BYTES: usize = 16;
pub(super) const JUMP_BYTES: usize = FRAME_HEAD_BYTES + 8;

/// No item is copied through a segment beyond this: a longer one is a block's.
pub const MAX_INLINE_BYTES: usize = 4 << 10;

/// The first segment is small: most channels never hold much.
pub(super) const FIRST_SEGMENT_BYTES: usize = 16 << 10;
/// The next ones: populated by one call, and still in the processor's cache when they come round again.
pub(super) const SEGMENT_BYTES: usize = 64 << 10;
/// With a backlog that is beyond any cache anyway: fewer blocks.
pub(super) const LARGE_SEGMENT_BYTES: usize = 1 << 20;
pub(super) const LARGE_BACKLOG: u64 = 16 << 10;

/// Who owns the segments of a channel: a word that no process has (its pid would be 0), and no other channel of the heap.
pub(super) fn segments_owner(channel: u64) -> u64 {
    channel << 2 | 1
}

/// Who owns a channel's sent and not yet received blocks.
pub(super) fn items_owner(channel: u64) -> u64 {
    channel << 2 | 2
}

/// Bytes of a frame in its segment.
pub(super) fn frame_bytes(length: usize) -> usize {
    FRAME_HEAD_BYTES + length.next_multiple_of(8)
}

/// A place in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: usize,
}

impl Place {
    pub(super) fn pack(self) -> Result<u64, Damaged> {
        let offset = u32::try_from(self.offset).map_err(|_| Damaged("a place in a segment"))?;
        let segment = u32::try_from(self.segment).map_err(|_| Damaged("a segment's reference"))?;
        Ok(u64::from(segment) << 32 | u64::from(offset))
    }

    pub(super) fn unpack(word: u64) -> Self {
        // The low half, which fits.
        Self { segment: word >> 32, offset: usize::try_from(word & 0xffff_ffff).unwrap_or(usize::MAX) }
    }
}

/// A committed word in its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) count: u64,
    pub(super) flip: usize,
}

impl Committed {
    pub(super) fn of(word: u64) -> Self {
        Self { count: word >> 1, flip: usize::from(word & 1 == 1) }
    }

    pub(super) fn after(self, items: u64) -> Self {
        Self { count: self.count.wrapping_add(items) & (u64::MAX >> 1), flip: 1 - self.flip }
    }

    pub(super) fn word(self) -> u64 {
        self.count << 1 | u64::from(self.flip == 1)
    }
}
