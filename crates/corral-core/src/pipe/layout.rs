//! Where a pipe's words lie in its block: offsets only, no algorithm.
//!
//! ```text
//!     0  magic | 8  channel from end 0 to end 1 | 16  channel from end 1 to end 0 (0: one way only)
//!    64  end 0: bell u32 | exact u32 | closes u32
//!   128  end 1: the same
//! ```
//!
//! The words of an end stand on a cache line of their own: the peer looks at them at each message, and they change seldom.

/// What the first word of a pipe's block holds.
pub const MAGIC: u64 = u64::from_le_bytes(*b"corralP\x01");
/// Offset of the magic word.
pub const MAGIC_AT: usize = 0;
/// Bytes of the block.
pub const BYTES: usize = 192;

const CHANNELS_AT: usize = 8;
const ENDS_AT: usize = 64;
const END_BYTES: usize = 64;

/// One of the two ends of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that reads, of a one-way pipe.
    First = 0,
    /// The one that writes.
    Second = 1,
}

impl Side {
    /// The end of this number, if there is one.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::First),
            1 => Some(Self::Second),
            _ => None,
        }
    }

    /// The other end.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    /// Offset of the reference of the channel that this end writes.
    #[must_use]
    pub const fn outgoing_at(self) -> usize {
        CHANNELS_AT + 8 * self as usize
    }

    /// Offset of this end's bell: is there a byte in its socket?
    #[must_use]
    pub const fn bell_at(self) -> usize {
        ENDS_AT + END_BYTES * self as usize
    }

    /// Offset of the word that says whether somebody outside goes by this end's socket.
    #[must_use]
    pub const fn exact_at(self) -> usize {
        self.bell_at() + 4
    }

    /// Offset of the count of how often this end was closed, in whatever process.
    #[must_use]
    pub const fn closes_at(self) -> usize {
        self.bell_at() + 8
    }
}
