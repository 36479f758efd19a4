//! The atomics of the whole workspace: the standard library's, or loom's when a model is checked.
#![allow(clippy::disallowed_types, reason = "this is the one file that may name them")]

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
