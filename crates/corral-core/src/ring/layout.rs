//! Where everything in a ring lies: offsets and bit fields only, no algorithm.
//!
//! A frame starts at a multiple of 8 and never crosses the ring's end:
//!
//! ```text
//!   0               4       5       6       8
//!   +---------------+-------+-------+-------+
//!   | body length   | kind  | flags |   0   |   HEAD_WORD
//!   +---------------+-------+-------+-------+
//!   | claim: id << 2 | state                |   CLAIM_WORD
//!   +---------------------------------------+
//!   | aux                                   |   AUX_WORD
//!   +---------------------------------------+
//!   | body, filled up to a multiple of 8 ...
//! ```
//!
//! A padding frame is its head word alone, with the flag PADDING: it stands for everything up to the ring's end.

use crate::region::Damaged;

/// Bytes before a frame's body.
pub const HEADER_BYTES: usize = 24;
/// Offset of the claim word in a frame.
pub const CLAIM_WORD: usize = 8;
/// Offset of the word that belongs to the users of the ring.
pub const AUX_WORD: usize = 16;

/// The body is the message itself.
pub const INLINE: u8 = 1;
/// The body names a block of the heap ([`BLOCK_BODY_BYTES`] long: reference, owner).
pub const BLOCK: u8 = 2;
/// No message: go on at the ring's start.
pub const PADDING: u8 = 4;

/// Bytes of the body of a frame that carries a block.
pub const BLOCK_BODY_BYTES: usize = 16;

/// Ids are below this: the claim word keeps two bits for the state.
pub const MAX_ID: u64 = 1 << 62;

/// The smallest and the largest ring; both are powers of two, as every capacity is.
pub const MIN_CAPACITY: usize = 256;
/// Positions are compared by distance, and lengths fit in 32 bits: far beyond any use.
pub const MAX_CAPACITY: usize = 1 << 30;

/// Whose a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody's: there is no frame.
    Free = 0,
    /// The consumer may take it, the producer may revoke it.
    Queued = 1,
    /// The consumer has it, for good.
    Taken = 2,
    /// The producer has it back, for good; the consumer steps over it.
    Revoked = 3,
}

/// The claim word of frame `id` in `state`.
#[must_use]
pub const fn claim(id: u64, state: State) -> u64 {
    (id << 2) | state as u64
}

/// The id and the state in a claim word.
#[must_use]
pub const fn claim_parts(word: u64) -> (u64, State) {
    let state = match word & 3 {
        1 => State::Queued,
        2 => State::Taken,
        3 => State::Revoked,
        _ => State::Free,
    };
    (word >> 2, state)
}

/// A frame's first word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the body.
    pub length: usize,
    /// What the frame is, for the users of the ring.
    pub kind: u8,
    /// One of [`INLINE`], [`BLOCK`], [`PADDING`].
    pub flags: u8,
}

impl Head {
    /// The word that stands in the frame.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.length as u64 & 0xffff_ffff | (self.kind as u64) << 32 | (self.flags as u64) << 40
    }

    /// Takes a word apart; any word is some head.
    #[must_use]
    pub const fn of_word(word: u64) -> Self {
        Self { length: (word & 0xffff_ffff) as usize, kind: (word >> 32) as u8, flags: (word >> 40) as u8 }
    }
}

/// Bytes a frame takes up in the ring.
#[must_use]
pub const fn frame_bytes(body_bytes: usize) -> usize {
    HEADER_BYTES + body_bytes.next_multiple_of(8)
}

/// The longest body a ring takes: an eighth, so that any frame finds room once the ring has drained, wherever its end is.
#[must_use]
pub const fn max_body_bytes(capacity: usize) -> usize {
    capacity / 8
}

/// Where a ring's words and bytes lie in its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Offset of the word of released bytes (the consumer's).
    pub head_at: usize,
    /// Offset of the word of committed bytes (the producer's).
    pub tail_at: usize,
    /// Offset of the frames.
    pub data_at: usize,
    /// Bytes for frames: a power of two.
    pub capacity: usize,
}

impl Geometry {
    /// Is the capacity one a ring can have? (What it was read from may be damaged.)
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it is not a power of two within the bounds.
    pub fn checked(self) -> Result<Self, Damaged> {
        let fits = (MIN_CAPACITY..=MAX_CAPACITY).contains(&self.capacity);
        if fits && self.capacity.is_power_of_two() {
            Ok(self)
        } else {
            Err(Damaged("a ring's capacity is impossible"))
        }
    }

    /// Where in the region the byte at `position` lies.
    #[must_use]
    pub const fn offset(self, position: u64) -> usize {
        self.data_at + self.inner(position)
    }

    /// Bytes from `position` to the ring's end.
    #[must_use]
    pub const fn to_end(self, position: u64) -> usize {
        self.capacity - self.inner(position)
    }

    const fn inner(self, position: u64) -> usize {
        (position & (self.capacity as u64 - 1)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_word_holds_its_three_fields() {
        let head = Head { length: 0xffff_fffe, kind: 255, flags: PADDING };
        assert_eq!(Head::of_word(head.word()), head);
    }

    #[test]
    fn a_claim_word_holds_the_largest_id() {
        let word = claim(MAX_ID - 1, State::Revoked);
        assert_eq!(claim_parts(word), (MAX_ID - 1, State::Revoked));
    }

    #[test]
    fn the_longest_body_fits_even_when_the_rings_end_wastes_almost_a_frame() {
        for shift in 8..=30 {
            let capacity = 1_usize << shift;
            let largest = frame_bytes(max_body_bytes(capacity));
            assert!(2 * largest - 8 <= capacity, "capacity {capacity}");
        }
    }
}
