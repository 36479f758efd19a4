//! A stretch of shared memory, reached only through checked offsets.
//!
//! # Role in the flow
//!
//! Ring, doorbell and link say offsets; this file alone turns an offset into an address. The trait is the seam at which a model
//! checker puts its own memory (loom's atomics can't be laid over bytes).
//!
//! # Invariants
//!
//! INV-REGION-1: the bytes of a [`Region`] stay mapped, readable and writable as long as the region exists (whoever makes one
//! holds the heap's mapping), and start on an 8-byte boundary.
//! INV-REGION-2: nothing outside the region is ever touched: each access is checked, also when the offset came from the peer.
//! INV-REGION-3: memory that two processes may touch at once is touched by words, atomically. Bytes are copied only where the
//! protocol gives one side the right to them; a peer that breaks the protocol garbles what is copied, and nothing else.

use std::ptr::NonNull;

use crate::sync::{AtomicU32, AtomicU64};

/// What was read from shared memory can't be true: the peer, or somebody's stray pointer, has damaged it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

impl std::fmt::Display for Damaged {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "damaged shared memory: {}", self.0)
    }
}

impl std::error::Error for Damaged {}

/// Memory shared by two sides, by offset.
pub trait Memory {
    /// The 64-bit word at `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    fn word(&self, offset: usize) -> Result<&AtomicU64, Damaged>;

    /// The 32-bit word at `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when it does not lie inside, aligned.
    fn half(&self, offset: usize) -> Result<&AtomicU32, Damaged>;

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when they would not lie inside.
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Damaged>;

    /// Copies what lies at `offset` to `bytes`.
    ///
    /// # Errors
    ///
    /// [`Damaged`] when that would not lie inside.
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Damaged>;
}

/// Bytes of a mapping.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: INV-REGION-1, INV-REGION-3: an address and a length; what it gives out are atomics or copies.
unsafe impl Send for Region {}
// SAFETY: INV-REGION-3: as above.
unsafe impl Sync for Region {}

impl Region {
    /// A view of `length` bytes at `base`; None when the start isn't aligned to 8.
    ///
    /// # Safety
    ///
    /// INV-REGION-1: the bytes stay mapped, readable and writable as long as the region or a copy of it exists.
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>, length: usize) -> Option<Self> {
        base.cast::<u64>().is_aligned().then_some(Self { base, length })
    }

    /// Its first byte, for whoever answers for what is done there.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes of the region.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// A part of it; None if that would not lie inside, aligned to 8.
    #[must_use]
    pub fn part(&self, offset: usize, length: usize) -> Option<Self> {
        let base = self.address(offset, length).ok()?;
        base.cast::<u64>().is_aligned().then_some(Self { base, length })
    }

    /// The address of `length` bytes at `offset`, if they lie inside.
    #[inline]
    fn address(&self, offset: usize, length: usize) -> Result<NonNull<u8>, Damaged> {
        if offset > self.length || length > self.length - offset {
            return Err(Damaged("an offset points outside its block"));
        }
        // SAFETY: INV-REGION-2: `offset <= length`, so the result stays inside the one mapped object.
        Ok(unsafe { self.base.add(offset) })
    }

    #[inline]
    fn aligned<T>(&self, offset: usize) -> Result<NonNull<T>, Damaged> {
        let address = self.address(offset, size_of::<T>())?.cast::<T>();
        if address.is_aligned() { Ok(address) } else { Err(Damaged("an offset is not aligned")) }
    }
}

impl Memory for Region {
    #[inline]
    fn word(&self, offset: usize) -> Result<&AtomicU64, Damaged> {
        let address = self.aligned::<AtomicU64>(offset)?;
        // SAFETY: INV-REGION-1, INV-REGION-2: mapped, in bounds, aligned; every bit pattern is a valid word.
        Ok(unsafe { address.as_ref() })
    }

    #[inline]
    fn half(&self, offset: usize) -> Result<&AtomicU32, Damaged> {
        let address = self.aligned::<AtomicU32>(offset)?;
        // SAFETY: INV-REGION-1, INV-REGION-2: mapped, in bounds, aligned; every bit pattern is a valid word.
        Ok(unsafe { address.as_ref() })
    }

    #[inline]
    fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Damaged> {
        let address = self.address(offset, bytes.len())?;
        // SAFETY: INV-REGION-2: in bounds; INV-REGION-3: the protocol gives these bytes to this side; a private slice can't overlap them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address.as_ptr(), bytes.len()) };
        Ok(())
    }

    #[inline]
    fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Damaged> {
        let address = self.address(offset, bytes.len())?;
        // SAFETY: INV-REGION-2: in bounds; INV-REGION-3: the protocol gives these bytes to this side; a private slice can't overlap them.
        unsafe { std::ptr::copy_nonoverlapping(address.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }
}

#[cfg(not(loom))]
impl From<Damaged> for crate::heap::HeapError {
    fn from(Damaged(what): Damaged) -> Self {
        Self::Damaged(what)
    }
}
