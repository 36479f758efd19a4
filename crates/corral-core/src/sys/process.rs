//! Processes: pids, pidfds, signals, and what `/proc` tells of their start.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::check_long;

/// The signal that nothing survives.
pub const KILL: i32 = libc::SIGKILL;

/// This process's pid, asked of the kernel each time (right after a fork, too).
#[must_use]
pub fn own_pid() -> u32 {
    std::process::id()
}

/// The kernel's number for the calling thread.
#[must_use]
pub fn own_thread_id() -> u32 {
    // SAFETY: INV-SYS-1: no memory is passed.
    let raw = unsafe { libc::syscall(libc::SYS_gettid) };
    u32::try_from(raw).unwrap_or(0)
}

/// A descriptor that becomes readable when the process `pid` ends; closed on exec.
///
/// # Errors
///
/// `ESRCH` when there is no such process, otherwise the system's.
pub fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: INV-SYS-1: no memory is passed.
    let raw = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let raw = i32::try_from(raw).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: INV-SYS-2: the kernel has just returned this descriptor, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends `signal` to a process; 0 only asks whether it could.
///
/// # Errors
///
/// `ESRCH` when there is no such process, `EPERM` when it is another user's.
pub fn send_signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: INV-SYS-1: no memory is passed.
    super::check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// The parent of this process: whoever created it, or, after that one's death, whoever took it in.
pub fn parent_pid() -> u32 {
    std::os::unix::process::parent_id()
}

/// Has the kernel send this process `signal` when the thread that created it ends.
///
/// # Errors
///
/// The system's: none is expected.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    let signal = libc::c_ulong::try_from(signal).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: INV-SYS-1: no memory is passed.
    super::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) }).map(drop)
}

/// Blocks every signal for the calling thread, so that handlers run on other threads.
///
/// # Errors
///
/// The system's: none is expected.
pub fn block_signals_in_thread() -> io::Result<()> {
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: INV-SYS-1: the set is live and writable.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: INV-SYS-1: the set is live, and filled above; no old set is asked for.
    let code = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// What `/proc/PID/stat` says of a process, as far as we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// The state's letter: `Z` and `X` are dead.
    pub state: u8,
    /// When it started, in clock ticks since boot (field 22).
    pub start_ticks: u64,
}

/// Reads state and start time of `pid`, or None where `/proc` doesn't tell.
#[must_use]
pub fn process_stat(pid: u32) -> Option<ProcessStat> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses a stat line: the command's name stands in parentheses and may hold anything, parentheses too.
fn parse_stat(line: &[u8]) -> Option<ProcessStat> {
    let close = line.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3, so the start time, field 22, is the nineteenth after it.
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some(ProcessStat { state, start_ticks })
}

/// Is this state letter that of a process that has ended?
#[must_use]
pub fn is_dead_state(state: u8) -> bool {
    matches!(state, b'Z' | b'X' | b'x')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let line = b"12 (a ) (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20 21\n";
        let stat = parse_stat(line);
        assert_eq!(stat, Some(ProcessStat { state: b'S', start_ticks: 777 }));
    }

    #[test]
    fn a_cut_off_line_is_no_stat() {
        assert_eq!(parse_stat(b"12 (a) S 1 2 3"), None);
        assert_eq!(parse_stat(b""), None);
    }
}
