//! Anonymous shared files (memfd) and mappings of them.
//!
//! # Invariants
//!
//! INV-MAP-1: a [`Mapping`] stays mapped at the same address, readable and writable, until it is dropped.
//! INV-MAP-2: [`Mapping::word`] and [`Mapping::range`] give out only what lies inside the mapping and, for words, is aligned.
//!
//! # Failure
//!
//! Being inside the mapping isn't enough: touching a page beyond the file's end is SIGBUS. The caller (the heap)
//! grows the file first, and the seal against shrinking keeps it grown.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use super::check;
use crate::sync::{AtomicU32, AtomicU64};

/// Creates a nameless shared file, closed on exec, sealed against shrinking, of `length` bytes (all zero, none resident).
///
/// # Errors
///
/// The system's: out of descriptors or of memory, or no such call.
pub fn create_shared_file(length: u64) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: INV-SYS-1: the name is a NUL-terminated literal.
    let raw = check(unsafe { libc::memfd_create(c"corral-heap".as_ptr(), flags) })?;
    // SAFETY: INV-SYS-2: the kernel has just returned this descriptor, nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(raw) };
    use std::os::fd::AsFd as _;
    set_file_length(file.as_fd(), length)?;
    // SAFETY: INV-SYS-1: no memory is passed.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) })?;
    Ok(file)
}

/// Is this a memory file that nobody can shrink?
#[must_use]
pub fn is_sealed_against_shrinking(file: BorrowedFd<'_>) -> bool {
    // SAFETY: INV-SYS-1: no memory is passed.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })
        .is_ok_and(|seals| seals & libc::F_SEAL_SHRINK != 0)
}

/// Sets the file's length; on a sealed file a smaller length than the present one is refused.
///
/// # Errors
///
/// `EPERM` when it would shrink, otherwise the system's.
pub fn set_file_length(file: BorrowedFd<'_>, length: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(length).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: INV-SYS-1: no memory is passed.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), length) }).map(drop)
}

/// The file's length and the bytes of it that are resident (in memory or swap).
///
/// # Errors
///
/// The system's.
pub fn file_extent(file: BorrowedFd<'_>) -> io::Result<FileExtent> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: INV-SYS-1: `status` is live and writable for the whole call.
    check(unsafe { libc::fstat(file.as_raw_fd(), status.as_mut_ptr()) })?;
    // SAFETY: INV-SYS-1: fstat succeeded, and all-zero was a valid value anyway.
    let status = unsafe { status.assume_init() };
    Ok(FileExtent {
        length: u64::try_from(status.st_size).unwrap_or(0),
        resident: u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512),
    })
}

/// The error number of a refusal for lack of memory.
pub const OUT_OF_MEMORY: i32 = libc::ENOMEM;
/// The error number for memory that can't be touched.
pub const BAD_ADDRESS: i32 = libc::EFAULT;

/// How large a file is, and how much of it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileExtent {
    /// Length in bytes.
    pub length: u64,
    /// Bytes that take up memory or swap.
    pub resident: u64,
}

/// Reads from the file's `offset` into `buffer`; short only at the file's end.
///
/// # Errors
///
/// The system's.
pub fn read_at(file: BorrowedFd<'_>, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: INV-SYS-1: the buffer is live, writable and as long as said.
    let count = unsafe { libc::pread(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// The size of a page in bytes.
#[must_use]
pub fn page_bytes() -> usize {
    // SAFETY: INV-SYS-1: no memory is passed.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// A shared, writable view of a file, from its first byte.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: INV-MAP-1: a mapping is an address and a length, belongs to the process and not to a thread; what it hands
// out are atomics, or raw pointers whose users answer for their accesses.
unsafe impl Send for Mapping {}
// SAFETY: INV-MAP-1: as above; no method changes the mapping through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `file`, more than it has if wanted: what lies beyond its end must not be touched until it has grown.
    ///
    /// The range isn't part of core dumps, and costs address space only.
    ///
    /// # Errors
    ///
    /// `ENOMEM` when the address space (or its limit) is too small, otherwise the system's.
    pub fn shared(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        // SAFETY: INV-SYS-1: a new range, chosen by the kernel, so no live object is replaced.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base =
            NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        // A refusal costs nothing but the size of a core dump.
        // SAFETY: INV-MAP-1: the range has just been mapped; the advice does not change its contents.
        let _ = unsafe { libc::madvise(address, length, libc::MADV_DONTDUMP) };
        Ok(Self { base, length })
    }

    /// Bytes mapped.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The address of `length` bytes at `offset`, or None when they don't lie inside the mapping.
    #[must_use]
    pub fn range(&self, offset: u64, length: usize) -> Option<NonNull<u8>> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(length)?;
        if end > self.length {
            return None;
        }
        // SAFETY: INV-MAP-2: `start <= end <= self.length`, so the result stays inside the one mapped object.
        Some(unsafe { self.base.add(start) })
    }

    /// The shared words of type `T` at `offset`, or None when they don't lie inside the mapping or aren't aligned.
    #[must_use]
    pub fn word<T: SharedWords>(&self, offset: u64) -> Option<&T> {
        let address = self.range(offset, size_of::<T>())?.cast::<T>();
        if !address.is_aligned() {
            return None;
        }
        // SAFETY: INV-MAP-1, INV-MAP-2: in bounds, aligned, mapped as long as `self` lives; `SharedWords` says that every bit
        // pattern is valid and that other processes may change it under a shared reference.
        Some(unsafe { address.as_ref() })
    }

    /// Makes sure that `length` bytes at `offset` have pages, and maps them into this process, in one call.
    ///
    /// As if read: pages that exist are mapped by the dozen, and writable, as a shared mapping of memory needs no notice of
    /// writes. (100 MB that another process has written: 7 to 10 ms so, 25 to 30 ms by MADV_POPULATE_WRITE, 30 to 80 ms by faults.)
    ///
    /// # Errors
    ///
    /// `ENOMEM` or `EFAULT` where touching the pages would have been SIGBUS; `EINVAL` on a kernel before 5.14.
    pub fn populate(&self, offset: u64, length: usize) -> io::Result<()> {
        self.advise(offset, length, libc::MADV_POPULATE_READ)
    }

    /// Gives the pages of a range back to the system, for all processes: they read as zero afterwards.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the range isn't made of whole pages inside the mapping.
    pub fn discard(&self, offset: u64, length: usize) -> io::Result<()> {
        self.advise(offset, length, libc::MADV_REMOVE)
    }

    fn advise(&self, offset: u64, length: usize, advice: libc::c_int) -> io::Result<()> {
        let address = self.range(offset, length).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: INV-MAP-2: the range lies inside the mapping. Contents may become zero (MADV_REMOVE): the caller owns them.
        check(unsafe { libc::madvise(address.as_ptr().cast(), length, advice) }).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: INV-MAP-1: mapped by `shared` with this length, unmapped only here.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// Types that may be laid over shared memory.
///
/// # Safety
///
/// The type is `repr(C)`, made of atomics (or arrays and structs of them) only: every bit pattern is valid, no pointers, a fixed
/// layout, and any change by another process goes through an atomic.
pub unsafe trait SharedWords {}

// SAFETY: one atomic, every bit pattern valid.
unsafe impl SharedWords for AtomicU32 {}
// SAFETY: one atomic, every bit pattern valid.
unsafe impl SharedWords for AtomicU64 {}
