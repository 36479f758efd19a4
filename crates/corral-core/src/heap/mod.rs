//! The shared heap of a process tree: blocks with owners in one nameless file, mapped once by every process.
//!
//! # Role in the flow
//!
//! A sender allocates a block, fills it, and passes its reference through a ring; the receiver adopts it, reads it in
//! place, and frees it. Rings, links and queues are themselves blocks.
//!
//! # Invariants
//!
//! Listed in `SAFETY.md` with what checks each.
//!
//! - INV-HEAP-1: an entry's class is written once, from 0, and only when every entry before it has one. So a block's place
//!   (the sum of the capacities before it) never changes, whoever computes it.
//! - INV-HEAP-2: an entry's owner word alone says who may touch the block; it changes by compare-and-swap only.
//! - INV-HEAP-3: the file is at least as long as the end of every block that was handed out, and never gets shorter.
//! - INV-HEAP-4: an address is handed out only for a block that lies, whole, in the mapping and behind the table.
//! - INV-HEAP-5: hints (free counts, slots, lengths) may be lost or wrong after a kill: they cost time, or leave a free block
//!   unused until the next [`Heap::recover`], but never give a block away twice.
//!
//! # Failure
//!
//! A process killed at any instruction leaves each entry virgin, free, or owned by a dead identity, which
//! [`Heap::recover`] frees. There is no lock, so nobody waits for the dead.

mod error;
mod hints;
pub mod layout;
mod table;
mod upkeep;
mod warmth;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use crate::steps::step;
pub use error::HeapError;
use layout::{DATA_OFFSET, Entry, Header, MAGIC, VERSION, class_capacity, class_of_size};
pub use upkeep::Stats;
use warmth::MappedBlocks;
pub use warmth::POPULATE_BYTES;

use crate::identity;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory::{
    Mapping, create_shared_file, file_extent, is_sealed_against_shrinking, read_at, set_file_length,
};

/// Address space reserved by default: costs nothing until it is used.
pub const DEFAULT_RESERVE_BYTES: u64 = 64 << 30;
/// The file grows by multiples of this, to save calls; it stays sparse.
const GROWTH_BYTES: u64 = 16 << 20;

/// A block that this process owns, and its memory. Plain data: dropping it frees nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    /// What names the block in every process of the tree; never 0.
    pub reference: u64,
    /// Its first byte in this process, aligned to 4096.
    pub ptr: NonNull<u8>,
    /// Its size in bytes, as asked for.
    pub len: usize,
}

// SAFETY: INV-MAP-1: an address and numbers; whoever dereferences the address answers for it, in whatever thread.
unsafe impl Send for BlockRef {}
// SAFETY: as above.
unsafe impl Sync for BlockRef {}

/// When the pages of a block come into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// All at once, for a block that is about to be filled.
    All,
    /// One by one.
    AsTouched,
}

/// A mapped heap. Shared by all threads of a process; a forked child may go on using its parent's.
#[derive(Debug)]
pub struct Heap {
    mapping: Mapping,
    file: OwnedFd,
    /// The file is known to be at least this long (INV-HEAP-3 makes old knowledge good).
    known_length: AtomicU64,
    /// Where the next search for free entries begins; spreads the searches.
    cursor: AtomicU64,
    /// Blocks appended by this process.
    appended: AtomicU64,
    /// Large blocks whose pages this process has mapped.
    mapped: MappedBlocks,
}

impl Heap {
    /// Creates a heap that can grow to `reserve_bytes` (halved until the address space allows it).
    ///
    /// # Errors
    ///
    /// The system's, when not even a small heap can be had.
    pub fn create(reserve_bytes: u64) -> Result<Self, HeapError> {
        let smallest = DATA_OFFSET + GROWTH_BYTES;
        let file = create_shared_file(smallest)?;
        let mut reserve = reserve_bytes.max(smallest).next_multiple_of(64 << 10);
        let mapping = loop {
            let length = usize::try_from(reserve).unwrap_or(usize::MAX);
            match Mapping::shared(file.as_fd(), length) {
                Ok(mapping) => break mapping,
                Err(_) if reserve / 2 >= smallest => {
                    reserve = (reserve / 2).next_multiple_of(64 << 10);
                }
                Err(error) => return Err(error.into()),
            }
        };
        let heap = Self::over(mapping, file, smallest);
        let header = heap.header()?;
        header.version.store(VERSION, Ordering::Relaxed);
        header.reserve_bytes.store(reserve, Ordering::Relaxed);
        // Release: pairs with the system calls by which others come to map the file (they follow the descriptor's passing).
        header.magic.store(MAGIC, Ordering::Release);
        Ok(heap)
    }

    /// Maps the heap behind a descriptor (which the heap then owns).
    ///
    /// # Errors
    ///
    /// [`HeapError::NotAHeap`] for any other file, the system's when it can't be mapped.
    pub fn attach(file: OwnedFd) -> Result<Self, HeapError> {
        let length = file_extent(file.as_fd())?.length;
        if length < DATA_OFFSET {
            return Err(HeapError::NotAHeap("too short"));
        }
        if !is_sealed_against_shrinking(file.as_fd()) {
            return Err(HeapError::NotAHeap("not sealed against shrinking"));
        }
        let reserve = read_geometry(file.as_fd())?;
        let bytes = usize::try_from(reserve).map_err(|_| HeapError::NotAHeap("too large"))?;
        let mapping = Mapping::shared(file.as_fd(), bytes)?;
        Ok(Self::over(mapping, file, length))
    }

    fn over(mapping: Mapping, file: OwnedFd, known_length: u64) -> Self {
        // Computed now, by one thread, so that no fork falls into its first computation.
        let _ = identity::current();
        Self {
            mapping,
            file,
            known_length: AtomicU64::new(known_length),
            cursor: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            mapped: MappedBlocks::new(),
        }
    }

    /// The descriptor that children inherit to [`Heap::attach`].
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Allocates a block of `size` bytes for this process, with all its pages. Its contents are whatever the last user left, or zero.
    ///
    /// # Errors
    ///
    /// [`HeapError::Full`] when there is no room, in the reserved range or in the machine's memory.
    pub fn alloc(&self, size: usize) -> Result<BlockRef, HeapError> {
        self.alloc_as(identity::current(), size, Pages::All)
    }

    /// As [`Heap::alloc`], but pages come into being as they are touched: for a block that may never be filled.
    ///
    /// # Errors
    ///
    /// [`HeapError::Full`] when the reserved range is used up. When memory is, touching the block is SIGBUS.
    pub fn alloc_sparse(&self, size: usize) -> Result<BlockRef, HeapError> {
        self.alloc_as(identity::current(), size, Pages::AsTouched)
    }

    /// As [`Heap::alloc`], for the process of identity `me`.
    pub(crate) fn alloc_as(&self, me: u64, size: usize, pages: Pages) -> Result<BlockRef, HeapError> {
        let wanted = size as u64;
        let class =
            class_of_size(wanted).ok_or(HeapError::Full { wanted, limit: "no block can be that large" })?;
        let number = self.claim_entry(class, me, wanted)?;
        step!("alloc.claimed");
        let entry = self.entry(number)?;
        // Relaxed: ours since the claim; readers learn the reference through a ring, whose commit orders this store before it.
        let fresh = entry.note.swap(wanted, Ordering::Relaxed) == 0;
        step!("alloc.sized");
        let memory = self.memory_of(number, size).and_then(|ptr| match pages {
            Pages::All => self.warm(number, size, fresh).map(|()| ptr),
            Pages::AsTouched => Ok(ptr),
        });
        match memory {
            Ok(ptr) => Ok(BlockRef { reference: number + 1, ptr, len: size }),
            Err(error) => {
                self.release_cold(number, entry, me)?;
                Err(error)
            }
        }
    }

    /// Takes over the block from the process of identity `owner` (which may be dead).
    ///
    /// # Errors
    ///
    /// [`HeapError::NotOwned`] when `owner` doesn't own it, [`HeapError::Damaged`] when the reference leads nowhere.
    pub fn adopt(&self, reference: u64, owner: u64) -> Result<BlockRef, HeapError> {
        self.adopt_as(identity::current(), reference, owner)
    }

    /// As [`Heap::adopt`], for the process of identity `me`.
    pub(crate) fn adopt_as(&self, me: u64, reference: u64, owner: u64) -> Result<BlockRef, HeapError> {
        if owner == 0 {
            return Err(HeapError::NotOwned { owner: 0 });
        }
        // Looked at before it is claimed, so that a damaged block stays the sender's.
        let (ptr, len) = self.slice(reference)?;
        let entry = self.entry_of(reference)?;
        // Acquire: pairs with the claim, or adoption, by `owner`. The contents were ordered by whatever passed the reference (a ring's
        // commit). Release: our successors' acquire then sees what we have seen.
        entry
            .owner
            .compare_exchange(owner, me, Ordering::AcqRel, Ordering::Relaxed)
            .map_err(|owner| HeapError::NotOwned { owner })?;
        step!("adopt.claimed");
        Ok(BlockRef { reference, ptr, len })
    }

    /// Frees a block that this process owns; its pages stay, warm, for the next that asks.
    ///
    /// # Errors
    ///
    /// [`HeapError::NotOwned`] when this process doesn't own it (freed twice, handed over, or a forked child's copy).
    pub fn free(&self, reference: u64) -> Result<(), HeapError> {
        self.free_as(identity::current(), reference)
    }

    /// As [`Heap::free`], for the process of identity `me`.
    pub(crate) fn free_as(&self, me: u64, reference: u64) -> Result<(), HeapError> {
        let entry = self.entry_of(reference)?;
        self.release_entry(reference - 1, entry, me)
    }

    /// Translates a reference into an address and size, checked against the heap's bounds; says nothing of who owns it.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when the reference leads nowhere or the block's words can't be right.
    pub fn slice(&self, reference: u64) -> Result<(NonNull<u8>, usize), HeapError> {
        let entry = self.entry_of(reference)?;
        // Relaxed: see `alloc_as`.
        let size = entry.note.load(Ordering::Relaxed);
        let class = entry.class.load(Ordering::Acquire);
        if class_capacity(class).is_none_or(|capacity| size > capacity) {
            return Err(HeapError::Damaged("a block's size exceeds its class"));
        }
        let len = usize::try_from(size).map_err(|_| HeapError::Damaged("a block's size"))?;
        Ok((self.memory_of(reference - 1, len)?, len))
    }

    /// As [`Heap::slice`], but with all that the block's class holds: whatever the size it was asked for, and though it is half freed.
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when the reference leads nowhere.
    pub(crate) fn whole(&self, reference: u64) -> Result<(NonNull<u8>, usize), HeapError> {
        let class = self.entry_of(reference)?.class.load(Ordering::Acquire);
        let capacity = class_capacity(class).and_then(|capacity| usize::try_from(capacity).ok());
        let capacity = capacity.ok_or(HeapError::Damaged("a block's class"))?;
        Ok((self.memory_of(reference - 1, capacity)?, capacity))
    }

    /// Who owns the block (0: nobody).
    ///
    /// # Errors
    ///
    /// [`HeapError::Damaged`] when the reference leads nowhere.
    pub fn owner_of(&self, reference: u64) -> Result<u64, HeapError> {
        // Acquire: pairs with the claims and releases of the owner word.
        Ok(self.entry_of(reference)?.owner.load(Ordering::Acquire))
    }

    /// The address of a block whose `size` fits its class, with the file grown to hold it (INV-HEAP-3, INV-HEAP-4).
    fn memory_of(&self, number: u64, size: usize) -> Result<NonNull<u8>, HeapError> {
        let (offset, capacity) = self.place_of(number)?;
        self.grow_to(offset + capacity)?;
        self.mapping.range(offset, size).ok_or(HeapError::Damaged("a block's offset"))
    }

    fn grow_to(&self, end: u64) -> Result<(), HeapError> {
        // Relaxed: the length only grows, and the kernel, not this word, orders growth before access.
        if end <= self.known_length.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut length = file_extent(self.as_fd())?.length;
        if length < end {
            step!("grow.measured");
            let target = end.next_multiple_of(GROWTH_BYTES).min(self.mapping.length() as u64);
            let grown = set_file_length(self.as_fd(), target.max(end));
            step!("grow.grown");
            // A refusal is no failure when another process has grown the file further meanwhile (the seal forbids to shrink it).
            length = file_extent(self.as_fd())?.length;
            if length < end {
                grown?;
                return Err(HeapError::Full { wanted: end, limit: "the file cannot grow" });
            }
        }
        self.known_length.fetch_max(length, Ordering::Relaxed);
        Ok(())
    }

    fn header(&self) -> Result<&Header, HeapError> {
        self.mapping.word(0).ok_or(HeapError::Damaged("no header"))
    }

    fn entry_of(&self, reference: u64) -> Result<&Entry, HeapError> {
        let number = reference.checked_sub(1).ok_or(HeapError::Damaged("reference 0"))?;
        let entry = self.entry(number)?;
        // Acquire: pairs with the append's compare-and-swap, so all entries before this one are seen to exist.
        if entry.class.load(Ordering::Acquire) == 0 {
            return Err(HeapError::Damaged("a reference to a block that never was"));
        }
        Ok(entry)
    }
}

/// Reads and checks the head of a heap before anything of it is mapped; the bytes it reserves.
fn read_geometry(file: BorrowedFd<'_>) -> Result<u64, HeapError> {
    let mut head = [0_u8; 24];
    read_at(file, 0, &mut head)?;
    let mut words =
        head.chunks_exact(8).map(|word| word.try_into().map(u64::from_ne_bytes).unwrap_or_default());
    if words.next() != Some(MAGIC) {
        return Err(HeapError::NotAHeap("no magic number"));
    }
    if words.next() != Some(VERSION) {
        return Err(HeapError::NotAHeap("another version"));
    }
    match words.next() {
        Some(reserve) if (DATA_OFFSET + GROWTH_BYTES..1 << 47).contains(&reserve) => Ok(reserve),
        _ => Err(HeapError::NotAHeap("an impossible size")),
    }
}

#[cfg(test)]
mod tests;
