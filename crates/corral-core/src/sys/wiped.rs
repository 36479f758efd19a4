//! A process-wide cell that reads as zero in a forked child: the kernel wipes its page.
//!
//! # Invariants
//!
//! INV-WIPED-1: the page is mapped once, never unmapped, zero at first and again in every forked child, before any of its code runs.

use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::OnceLock;

use super::memory::{SharedWords, page_bytes};

/// Of all systems that Linux runs on.
const SMALLEST_PAGE_BYTES: usize = 4096;

/// A lazily mapped cell of shared words, all zero at first and after each fork in the child.
#[derive(Debug)]
pub struct WipedOnFork<T: SharedWords> {
    page: OnceLock<Option<Address>>,
    words: PhantomData<T>,
}

#[derive(Debug, Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: INV-WIPED-1: an address that stays valid for the process's life, of words made for sharing.
unsafe impl Send for Address {}
// SAFETY: INV-WIPED-1: as above.
unsafe impl Sync for Address {}

impl<T: SharedWords> WipedOnFork<T> {
    /// A cell whose page is mapped at the first use.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(size_of::<T>() <= SMALLEST_PAGE_BYTES, "the words fit the page") };
        Self { page: OnceLock::new(), words: PhantomData }
    }

    /// The words, or None where the kernel can't promise to wipe them (before Linux 4.14): do without a cache then.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        let address = (*self.page.get_or_init(|| map_wiped_page().ok()))?;
        // SAFETY: INV-WIPED-1: mapped, page-aligned, large enough (see `new`), zero or written through `T`; `SharedWords` admits every bit pattern.
        Some(unsafe { address.0.cast::<T>().as_ref() })
    }
}

impl<T: SharedWords> Default for WipedOnFork<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn map_wiped_page() -> io::Result<Address> {
    let length = page_bytes();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: INV-SYS-1: a new range, chosen by the kernel, so no live object is replaced.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: INV-WIPED-1: the page has just been mapped and nobody uses it yet.
    let advised = super::check(unsafe { libc::madvise(address, length, libc::MADV_WIPEONFORK) });
    if let Err(error) = advised {
        // SAFETY: INV-WIPED-1: mapped above with this length, and never handed out.
        unsafe { libc::munmap(address, length) };
        return Err(error);
    }
    NonNull::new(address.cast()).map(Address).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}
