//! Socket pairs: a byte that can be polled for, and the end of a peer that the kernel reports.
//!
//! The sockets stay blocking, since their numbers are handed to users; each call here says that it doesn't want to wait.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;
use super::event::milliseconds_of;

/// A connected pair of stream sockets, closed on exec.
///
/// # Errors
///
/// The system's: out of descriptors.
pub fn create_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut raw = [-1; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: INV-SYS-1: two live, writable integers.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, raw.as_mut_ptr()) })?;
    let [first, second] = raw;
    // SAFETY: INV-SYS-2: the kernel has just returned this descriptor, nobody else owns it.
    let first = unsafe { OwnedFd::from_raw_fd(first) };
    // SAFETY: INV-SYS-2: as above.
    let second = unsafe { OwnedFd::from_raw_fd(second) };
    Ok((first, second))
}

/// What became of a byte, on its way out or in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// It went.
    Done,
    /// Not now: there is none, or no room for one (then there are others to be read).
    Nothing,
    /// The peer is closed, in every process.
    Ended,
}

/// Sends one byte, without waiting and without SIGPIPE.
///
/// # Errors
///
/// The system's, for what is not one of [`Passed`]: none is expected.
pub fn send_byte(socket: BorrowedFd<'_>) -> io::Result<Passed> {
    let byte = [1_u8];
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: INV-SYS-1: one live, readable byte.
    passed(unsafe { libc::send(socket.as_raw_fd(), byte.as_ptr().cast(), 1, flags) })
}

/// Takes one byte, without waiting.
///
/// # Errors
///
/// The system's, for what is not one of [`Passed`]: none is expected.
pub fn take_byte(socket: BorrowedFd<'_>) -> io::Result<Passed> {
    let mut byte = [0_u8];
    // SAFETY: INV-SYS-1: one live, writable byte.
    passed(unsafe { libc::recv(socket.as_raw_fd(), byte.as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT) })
}

fn passed(count: libc::ssize_t) -> io::Result<Passed> {
    if count >= 0 {
        return Ok(if count == 0 { Passed::Ended } else { Passed::Done });
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(Passed::Nothing),
        // A peer that is closed with bytes unread resets the connection.
        Some(libc::EPIPE | libc::ECONNRESET) => Ok(Passed::Ended),
        _ => Err(error),
    }
}

/// Does the peer have bytes of ours that it has not read?
///
/// # Errors
///
/// The system's: none is expected.
pub fn has_unread(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: INV-SYS-1: one live, writable integer.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(bytes > 0)
}

/// What waiting for a byte came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// There is something to read.
    Readable,
    /// The peer is closed, in every process; there may be something to read.
    HungUp,
    /// The time is up.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// Sleeps until there is something to read, the peer is closed, or the time is up (rounded up to a millisecond).
///
/// # Errors
///
/// The system's, for what is not one of [`Input`]: none is expected.
pub fn wait_input(socket: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<Input> {
    poll(socket, libc::POLLIN, milliseconds_of(timeout))
}

/// Is the peer closed, in every process?
///
/// # Errors
///
/// The system's: none is expected.
pub fn is_hung_up(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(poll(socket, 0, 0)? == Input::HungUp)
}

fn poll(socket: BorrowedFd<'_>, events: libc::c_short, milliseconds: libc::c_int) -> io::Result<Input> {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    // SAFETY: INV-SYS-1: one live, writable entry.
    let count = match check(unsafe { libc::poll(&raw mut entry, 1, milliseconds) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Input::Interrupted),
        outcome => outcome?,
    };
    Ok(match entry.revents {
        _ if count == 0 => Input::TimedOut,
        seen if seen & (libc::POLLHUP | libc::POLLERR) != 0 => Input::HungUp,
        seen if seen & libc::POLLNVAL != 0 => return Err(io::Error::from_raw_os_error(libc::EBADF)),
        _ => Input::Readable,
    })
}

/// Ends both directions for every process, as if all copies of this end were closed.
///
/// # Errors
///
/// The system's: none is expected.
#[cfg(test)]
pub(crate) fn shut_down(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: INV-SYS-1: no memory is passed.
    check(unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) }).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn a_byte_is_readable_until_it_is_taken() {
        let (here, there) = create_pair().unwrap();
        assert_eq!(wait_input(there.as_fd(), AT_ONCE).unwrap(), Input::TimedOut);
        assert_eq!(take_byte(there.as_fd()).unwrap(), Passed::Nothing);
        assert_eq!(send_byte(here.as_fd()).unwrap(), Passed::Done);
        assert!(has_unread(here.as_fd()).unwrap());
        assert_eq!(wait_input(there.as_fd(), AT_ONCE).unwrap(), Input::Readable);
        assert_eq!(take_byte(there.as_fd()).unwrap(), Passed::Done);
        assert!(!has_unread(here.as_fd()).unwrap());
        assert_eq!(wait_input(there.as_fd(), AT_ONCE).unwrap(), Input::TimedOut);
    }

    #[test]
    fn a_closed_peer_hangs_up_whether_it_had_read_all_or_not() {
        for unread in [false, true] {
            let (here, there) = create_pair().unwrap();
            assert!(!is_hung_up(here.as_fd()).unwrap());
            if unread {
                send_byte(here.as_fd()).unwrap();
            }
            drop(there);
            assert!(is_hung_up(here.as_fd()).unwrap());
            assert_eq!(take_byte(here.as_fd()).unwrap(), Passed::Ended);
            assert_eq!(take_byte(here.as_fd()).unwrap(), Passed::Ended);
            assert_eq!(send_byte(here.as_fd()).unwrap(), Passed::Ended);
        }
    }
}
