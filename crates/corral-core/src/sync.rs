//! The one seam to atomics: the standard library's, or loom's when a model is checked.
//!
//! # Invariants
//!
//! INV-SYNC-1: no other file of this crate names `std::sync::atomic`, so a module that uses only this one
//! can be model-checked by building with `--cfg loom`. Memory that is shared between processes can't be made of
//! loom's atomics (they carry bookkeeping), so what lives in the heap is compiled without loom, and the algorithms
//! worth a model (ring, doorbell) are generic over where their words live.
#![allow(clippy::disallowed_types, reason = "this is the one file that may name them")]

#[cfg(loom)]
use loom::{hint, sync::atomic};
#[cfg(not(loom))]
use std::{hint, sync::atomic};

pub use atomic::{Ordering, fence};
pub use hint::spin_loop;

// Aliases and not re-exports: clippy looks through these, and would see the forbidden type wherever it is used.

/// A shared flag.
pub type AtomicBool = atomic::AtomicBool;
/// A shared byte.
pub type AtomicU8 = atomic::AtomicU8;
/// A shared signed 32-bit word.
pub type AtomicI32 = atomic::AtomicI32;
/// A shared 32-bit word.
pub type AtomicU32 = atomic::AtomicU32;
/// A shared signed 64-bit word.
pub type AtomicI64 = atomic::AtomicI64;
/// A shared 64-bit word.
pub type AtomicU64 = atomic::AtomicU64;
/// A shared word of the size of an address.
pub type AtomicUsize = atomic::AtomicUsize;
