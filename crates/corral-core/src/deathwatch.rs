//! Dies with another process: a native thread that ends this process when a descriptor becomes readable, or the kernel.
//!
//! # Runs in
//!
//! A child, on a thread of its own that never runs Python and takes no signals, so that neither a held GIL nor a stuck main
//! thread delays it. A thread doesn't survive a fork: every child starts its own.
//!
//! # Failure
//!
//! When the descriptor can't be polled any more nothing is known of the other process, and this one ends, too.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::sys::event::wait_readable;
use crate::sys::process::{
    KILL, block_signals_in_thread, own_pid, parent_pid, send_signal, set_parent_death_signal,
};

/// How long a signal that can be handled may take to end the process before it is killed.
const GRACE: Duration = Duration::from_millis(500);
/// The thread calls nothing deep.
const STACK_BYTES: usize = 64 << 10;

/// Starts the thread: once `watched` (a pidfd, or the end of a pipe) is readable or hung up, this process gets `signal`, and if
/// that doesn't end it within half a second, SIGKILL.
///
/// # Errors
///
/// The system's, when no thread can be had.
pub fn die_with(watched: OwnedFd, signal: i32) -> io::Result<()> {
    std::thread::Builder::new()
        .name("corral-deathwatch".into())
        .stack_size(STACK_BYTES)
        .spawn(move || watch(&watched, signal))
        .map(drop)
}

/// Dies with process `creator`, which created this one from its main thread, without a thread to watch: the kernel kills.
///
/// Another thread than the main one would not do: the kernel takes the end of the thread for the end of the process. A
/// process that changes its user is no longer killed.
///
/// # Errors
///
/// The system's: none is expected.
pub fn die_with_creator(creator: u32) -> io::Result<()> {
    set_parent_death_signal(KILL)?;
    if parent_pid() != creator {
        // It went before the kernel was told.
        send_signal(own_pid(), KILL)?;
    }
    Ok(())
}

fn watch(watched: &OwnedFd, signal: i32) {
    // Without it a handler might run here; that is all.
    let _ = block_signals_in_thread();
    while let Err(error) = wait_readable(watched.as_fd(), None) {
        if error.kind() != io::ErrorKind::Interrupted {
            break;
        }
    }
    let _ = send_signal(own_pid(), signal);
    if signal != KILL {
        std::thread::sleep(GRACE);
        let _ = send_signal(own_pid(), KILL);
    }
}
