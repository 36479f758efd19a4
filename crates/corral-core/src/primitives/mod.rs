//! What processes wait for each other with: mutex, semaphore, event, condition, barrier.
//!
//! # Role in the flow
//!
//! Each lives in a [`Place`] of its creator's heap and is a view of a few words there, over which any number of processes and threads
//! work. All wait by [`Patience`](crate::park::Patience).
//!
//! # Invariants
//!
//! INV-PRIMITIVE-1: nothing of them is kept in a process's own memory, so that a fork, at whatever moment, takes nothing
//! along that another thread held, and two objects for one place are one.
//! INV-PRIMITIVE-2: each operation takes effect by one atomic step, or can be finished or undone by whoever finds its beginning.

#[cfg(not(loom))]
pub mod barrier;
#[cfg(not(loom))]
pub mod condition;
pub mod event;
#[cfg(not(loom))]
pub mod mutex;
#[cfg(not(loom))]
pub mod place;
pub mod semaphore;

#[cfg(all(test, not(loom)))]
mod damage;
