//! The futex: sleep until a 32-bit word in (shared) memory changes.

use std::io;
use std::time::Duration;

use super::clock::timespec_of;
use crate::sync::AtomicU32;

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// By a wake-up (or spuriously: look again).
    Notified,
    /// The word didn't hold the expected value: there was no sleep.
    Changed,
    /// The time was up.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleeps while `word` holds `expected`, at most for `timeout` (monotonic). The word may be in memory shared with other processes.
///
/// # Errors
///
/// The system's, for what is not one of [`Woken`]: none is expected.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> io::Result<Woken> {
    let span = timeout.map(timespec_of);
    let span_address = span.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: INV-SYS-1: the word and the timespec are live for the whole call; the kernel only reads them.
    let code = unsafe {
        libc::syscall(libc::SYS_futex, std::ptr::from_ref(word), libc::FUTEX_WAIT, expected, span_address)
    };
    if code == 0 {
        return Ok(Woken::Notified);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Ok(Woken::Changed),
        Some(libc::ETIMEDOUT) => Ok(Woken::TimedOut),
        Some(libc::EINTR) => Ok(Woken::Interrupted),
        _ => Err(error),
    }
}

/// Wakes at most `count` sleepers on `word`, of any process; how many there were.
pub fn wake(word: &AtomicU32, count: u32) -> u32 {
    let count = count.min(i32::MAX.cast_unsigned());
    // SAFETY: INV-SYS-1: the address is live; the kernel uses it as a key and does not write.
    let woken = unsafe { libc::syscall(libc::SYS_futex, std::ptr::from_ref(word), libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}
