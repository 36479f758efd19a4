//! What can go wrong with the heap, and whose fault it is.

use std::fmt;
use std::io;

/// Why an operation on the heap failed. None of them leaves anything behind.
#[derive(Debug)]
pub enum HeapError {
    /// The world: no room for that many bytes (in the reserved range, the table, or the machine's memory).
    Full {
        /// Bytes asked for.
        wanted: u64,
        /// What was too small.
        limit: &'static str,
    },
    /// The other side: what was read from shared memory can't be (a bad reference, offset, class or length).
    Damaged(&'static str),
    /// The caller: the block isn't owned by whom it was said to be.
    NotOwned {
        /// Who owns it (0: nobody).
        owner: u64,
    },
    /// The caller: the process whose blocks were to be recovered is alive, and may be using them.
    OwnerAlive {
        /// Its identity.
        owner: u64,
    },
    /// The caller: the descriptor isn't that of a heap of this version.
    NotAHeap(&'static str),
    /// The world: a system call failed.
    System(io::Error),
}

impl fmt::Display for HeapError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { wanted, limit } => {
                write!(out, "no room for {wanted} bytes in the shared heap: {limit}")
            }
            Self::Damaged(what) => write!(out, "damaged shared memory: {what}"),
            Self::NotOwned { owner: 0 } => write!(out, "the block is free, nobody owns it"),
            Self::NotOwned { owner } => write!(out, "the block is owned by {owner:#x}, not as expected"),
            Self::OwnerAlive { owner } => write!(out, "the process {owner:#x} is alive: its blocks stay"),
            Self::NotAHeap(what) => write!(out, "the descriptor is not a corral heap: {what}"),
            Self::System(error) => write!(out, "shared heap: {error}"),
        }
    }
}

impl std::error::Error for HeapError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for HeapError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}
