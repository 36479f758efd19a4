//! Descriptors to wait on: eventfd (a counter that can be polled), epoll (many descriptors at once), poll (one).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;

/// Creates an event counter at zero, non-blocking, closed on exec.
///
/// # Errors
///
/// The system's: out of descriptors.
pub fn create_eventfd() -> io::Result<OwnedFd> {
    // SAFETY: INV-SYS-1: no memory is passed.
    let raw = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: INV-SYS-2: the kernel has just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Adds one to the counter: whoever polls it becomes ready. A counter that is full is ready already.
///
/// # Errors
///
/// The system's; a full counter is not an error.
pub fn signal_eventfd(event: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1_u64.to_ne_bytes();
    // SAFETY: INV-SYS-1: eight live, readable bytes.
    let count = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    would_block_is(count, ()).map(drop)
}

/// Sets the counter back to zero; its former value, 0 when nothing had been signalled.
///
/// # Errors
///
/// The system's.
pub fn drain_eventfd(event: BorrowedFd<'_>) -> io::Result<u64> {
    let mut value = [0_u8; 8];
    // SAFETY: INV-SYS-1: eight live, writable bytes.
    let count = unsafe { libc::read(event.as_raw_fd(), value.as_mut_ptr().cast(), value.len()) };
    would_block_is(count, ())?;
    Ok(u64::from_ne_bytes(value))
}

fn would_block_is<T>(count: libc::ssize_t, nothing: T) -> io::Result<T> {
    if count >= 0 {
        return Ok(nothing);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(nothing) } else { Err(error) }
}

/// A set of descriptors, each with a token, that can be waited for together (level-triggered, readable).
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

/// Most events one [`Epoll::wait`] reports.
pub const EVENTS_PER_WAIT: usize = 64;

impl Epoll {
    /// Creates an empty set, closed on exec.
    ///
    /// # Errors
    ///
    /// The system's: out of descriptors.
    pub fn create() -> io::Result<Self> {
        // SAFETY: INV-SYS-1: no memory is passed.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: INV-SYS-2: the kernel has just returned this descriptor, nobody else owns it.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(raw) } })
    }

    /// Adds a descriptor; it is reported by `token` while it is readable or hung up.
    ///
    /// # Errors
    ///
    /// `EEXIST` when it is in the set, `EPERM` when it can't be polled, otherwise the system's.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: token };
        self.control(libc::EPOLL_CTL_ADD, fd, &raw mut event)
    }

    /// Adds a descriptor; it is reported by `token` once for each time that it is signalled, whether anybody reads it or not.
    ///
    /// # Errors
    ///
    /// As [`Epoll::add`].
    pub fn add_edges(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: token };
        self.control(libc::EPOLL_CTL_ADD, fd, &raw mut event)
    }

    /// Takes a descriptor out of the set.
    ///
    /// # Errors
    ///
    /// `ENOENT` when it isn't in the set, otherwise the system's.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut())
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        event: *mut libc::epoll_event,
    ) -> io::Result<()> {
        // SAFETY: INV-SYS-1: the event is null (removal) or live for the whole call.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), event) }).map(drop)
    }

    /// Sleeps until a descriptor is ready or the time is up, and appends the tokens of those that are.
    ///
    /// The time-out is rounded up to a millisecond, so that no caller spins on the rest of one.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Interrupted`] when a signal handler ran, otherwise the system's.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT];
        let limit = libc::c_int::try_from(events.len()).unwrap_or(1);
        // SAFETY: INV-SYS-1: the array is live, writable and as long as said.
        let count = check(unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), limit, milliseconds_of(timeout))
        })?;
        let count = usize::try_from(count).unwrap_or(0);
        ready.extend(events.iter().take(count).map(|event| event.u64));
        Ok(count)
    }
}

/// Sleeps until the descriptor is readable or hung up (true), or the time is up (false).
///
/// # Errors
///
/// [`io::ErrorKind::Interrupted`] when a signal handler ran, otherwise the system's.
pub fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: INV-SYS-1: one live, writable entry.
    let count = check(unsafe { libc::poll(&raw mut entry, 1, milliseconds_of(timeout)) })?;
    Ok(count > 0)
}

/// The time-out of poll and epoll: -1 for none, otherwise rounded up and saturating.
pub(super) fn milliseconds_of(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |span| {
        libc::c_int::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
    })
}
