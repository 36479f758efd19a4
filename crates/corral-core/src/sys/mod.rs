//! The operating system: the only folder that calls libc.
//!
//! # Role in the flow
//!
//! Thin, safe where they can be, wrappers that turn a return code into [`std::io::Error`] and nothing more. No policy, no
//! retry loop except for `EINTR` where an interruption has no meaning to the caller. Linux only, for now; another
//! system is another set of these files.

pub mod clock;
pub mod descriptor;
pub mod event;
pub mod futex;
pub mod limits;
pub mod memory;
pub mod process;
pub mod socket;
pub mod wiped;

use std::io;

/// Turns libc's "-1 and errno" into a result.
fn check(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

/// Turns a raw system call's "-1 and errno" into a result.
fn check_long(code: libc::c_long) -> io::Result<libc::c_long> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}
