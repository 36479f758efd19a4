//! The bell of one end: a byte in its socket while there are messages to read.
//!
//! # Role in the flow
//!
//! A sender rings after its commit, and still holds the channel's writing turn. A receiver that found the ring empty mutes
//! the bell before it sleeps on the socket; while somebody outside goes by the socket (a selector), whenever the ring becomes empty.
//!
//! # Invariants
//!
//! INV-PIPE-BELL-1: ringing and muting happen in the channel's writing turn, commits too. So nobody mutes between a commit and
//! its byte, and the word tells how many bytes there are: QUIET none, RUNG one.
//! INV-PIPE-BELL-2: UNSURE is written before the socket is touched, and seen only after a kill. Whoever sees it asks the socket.
//!
//! # Failure
//!
//! A sender killed between commit and byte leaves messages without a byte: sleeping receivers look again from time to time,
//! the next sender rings, and the end of the last sender is itself readable.

use std::io;

use crate::steps::step;
use crate::sync::{AtomicU32, Ordering};

/// No byte is in the socket.
pub(super) const QUIET: u32 = 0;
/// Somebody is about to put a byte in, or to take it off.
pub(super) const UNSURE: u32 = 1;
/// One byte is in the socket.
pub(super) const RUNG: u32 = 2;

/// After a commit, in the writing turn: puts a byte into the receiver's socket unless one is there.
///
/// `has_unread` tells of a byte that the receiver hasn't read, `send` puts one in; what it says, if it was called.
#[inline]
pub(super) fn ring<T>(
    word: &AtomicU32,
    has_unread: impl FnOnce() -> io::Result<bool>,
    send: impl FnOnce() -> io::Result<T>,
) -> io::Result<Option<T>> {
    // Relaxed, here and below: INV-PIPE-BELL-1, the turn's lock orders all accesses to the word.
    let seen = word.load(Ordering::Relaxed);
    if seen == RUNG {
        return Ok(None);
    }
    ring_anew(word, seen, has_unread, send)
}

#[cold]
fn ring_anew<T>(
    word: &AtomicU32,
    seen: u32,
    has_unread: impl FnOnce() -> io::Result<bool>,
    send: impl FnOnce() -> io::Result<T>,
) -> io::Result<Option<T>> {
    step!("bell.ringing");
    word.store(UNSURE, Ordering::Relaxed);
    step!("bell.unsure");
    if seen != QUIET && has_unread()? {
        word.store(RUNG, Ordering::Relaxed);
        return Ok(None);
    }
    let sent = send()?;
    step!("bell.sent");
    word.store(RUNG, Ordering::Relaxed);
    Ok(Some(sent))
}

/// In the writing turn, the ring being empty: takes the byte off the socket, if there is one.
///
/// `stray` says that the socket was seen readable: then a byte that the word doesn't know of goes, too.
pub(super) fn mute<T>(word: &AtomicU32, stray: bool, take: impl FnOnce() -> io::Result<T>) -> io::Result<()> {
    if word.load(Ordering::Relaxed) == QUIET && !stray {
        return Ok(());
    }
    step!("bell.muting");
    word.store(UNSURE, Ordering::Relaxed);
    step!("bell.untaken");
    take()?;
    step!("bell.taken");
    word.store(QUIET, Ordering::Relaxed);
    Ok(())
}

#[cfg(all(test, loom))]
mod loom_tests;
