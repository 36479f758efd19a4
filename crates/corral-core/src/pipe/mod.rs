//! A pipe: a channel each way, and a socket pair that is doorbell, end of file and descriptor to wait on.
//!
//! # Role in the flow
//!
//! Both ends, in whatever processes, map the pipe's own heap; each end holds one socket. Messages go through the channels
//! ([`crate::channel`]); who reads sleeps on its socket ([`bell`]), who writes and finds no room sleeps on the channel.
//!
//! # Invariants
//!
//! INV-PIPE-1: an end is closed when the last copy of its socket is, which the kernel counts, kills included. So whoever
//! finds its socket hung up, and then its channel empty, has read everything that was ever sent.
//! INV-PIPE-2: `closes` of an end is counted up after a socket of it was closed, so that whoever sees the count sees the hang-up.
//!
//! # Failure
//!
//! A peer that is closed is noticed by a sender at once, one that was killed within some milliseconds; what was sent meanwhile goes
//! with the pipe. For a kill within an operation see [`bell`] and [`crate::channel`].

mod bell;
#[cfg(not(loom))]
mod end;
pub mod layout;

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(loom))]
pub use end::{End, PipeError, Waited, create, notice_death};
