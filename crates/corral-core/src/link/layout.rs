//! Where everything in a link's block lies: offsets only, no algorithm.
//!
//! Words that different processes write lie 128 bytes apart: processors fetch cache lines in pairs.
//!
//! ```text
//!    0  magic | capacity | reference of the bell | identity of the worker (0: none has come yet) | asked (parent)
//!  128  forward ring: released (worker)        256  committed (parent)     384  worker asleep?
//!  512  back ring:    released (parent)        640  committed (worker)     768  worker waits for room?
//!  896  entries (worker) | even entry: id, end, since | odd entry | phase
//! 1024  frames forward, `capacity` bytes | frames back, `capacity` bytes
//! ```

use crate::ring::layout::Geometry;

/// The first word of every link.
pub const MAGIC: u64 = u64::from_le_bytes(*b"corralL\x01");

/// Offset of [`MAGIC`].
pub const MAGIC_AT: usize = 0;
/// Offset of the capacity of each ring, in bytes.
pub const CAPACITY_AT: usize = 8;
/// Offset of the reference of the parent's bell.
pub const BELL_AT: usize = 16;
/// Offset of the worker's identity.
pub const WORKER_AT: usize = 24;
/// Offset of what the parent wants stopped.
pub const ASKED_AT: usize = 32;
/// Offset of the word on which the worker waits for frames.
pub const FRAMES_WORD_AT: usize = 384;
/// Offset of the word on which the worker waits for room.
pub const ROOM_WORD_AT: usize = 768;
/// Offset of the number of the worker's last entry.
pub const ENTRIES_AT: usize = 896;
/// Offset of the entry with an even number: three words.
pub const EVEN_ENTRY_AT: usize = 904;
/// Offset of the entry with an odd number.
pub const ODD_ENTRY_AT: usize = 928;
/// Offset of the phase that the worker is in.
pub const PHASE_AT: usize = 952;

const DATA_AT: usize = 1024;

/// Parent to worker.
#[must_use]
pub const fn forward(capacity: usize) -> Geometry {
    Geometry { head_at: 128, tail_at: 256, data_at: DATA_AT, capacity }
}

/// Worker to parent.
#[must_use]
pub const fn back(capacity: usize) -> Geometry {
    Geometry { head_at: 512, tail_at: 640, data_at: DATA_AT + capacity, capacity }
}

/// Bytes of a link's block.
#[must_use]
pub const fn block_bytes(capacity: usize) -> usize {
    DATA_AT + 2 * capacity
}
