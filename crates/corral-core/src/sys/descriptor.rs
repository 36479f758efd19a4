//! Descriptors that come as bare numbers from outside.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::check;

/// Duplicates the descriptor of this number, closed on exec; the number stays its owner's.
///
/// # Errors
///
/// `EBADF` when the number is no open descriptor, otherwise the system's.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: INV-SYS-1: no memory is passed; a number that is no descriptor is refused by the kernel.
    let raw = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: INV-SYS-2: the kernel has just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
