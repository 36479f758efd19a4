//! What must be atomic across processes; knows no Python.
//!
//! Role in the flow: `corral-py` calls everything here; nothing here calls upwards.
//! Invariants: only [`sync`] imports atomics, so that loom can replace them; only [`sys`] calls the system;
//! whatever is read from shared memory (offset, length, index, state) is checked before it is used, and
//! damage is an error, never a panic: a panic with a claim open would be a crash in shared state.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

// Memory shared between processes cannot be made of loom's atomics: what lives in it is not built for a model.
#[cfg(not(loom))]
pub mod bell;
#[cfg(not(loom))]
pub mod channel;
pub mod closable;
#[cfg(not(loom))]
pub mod deathwatch;
pub mod doorbell;
pub mod exclusive;
pub mod frame;
#[cfg(not(loom))]
pub mod heap;
#[cfg(not(loom))]
pub mod identity;
#[cfg(not(loom))]
pub mod link;
#[cfg(not(loom))]
pub mod park;
pub mod pipe;
pub mod primitives;
pub mod region;
pub mod ring;
#[cfg(not(feature = "fault"))]
mod steps;
#[cfg(feature = "fault")]
pub mod steps;
pub mod sync;
#[cfg(not(loom))]
pub mod sys;
#[cfg(loom)]
#[path = "sys_model.rs"]
pub mod sys;
pub mod tenure;
#[cfg_attr(loom, allow(dead_code, reason = "the model leaves out the wait set, which uses the rest"))]
mod turn;
#[cfg(not(loom))]
pub mod wait;
#[cfg(not(loom))]
pub mod waitset;
