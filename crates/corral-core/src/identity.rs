//! Who a process is: its pid and start time in one word, so that a recycled pid is never mistaken for the dead.
//!
//! # Role in the flow
//!
//! Owner words in the heap hold an identity; liveness is asked of it before anything is taken back.
//!
//! # Invariants
//!
//! INV-IDENTITY-1: an identity is never 0, and two processes of one machine and boot never share one (a pid is reused
//! only after more than the one clock tick in which the start time could be equal).
//! INV-IDENTITY-2: [`current`] is right after a fork: the cached word lies in a page that the kernel wipes in the child.
//!
//! # Failure
//!
//! Where `/proc` can't be read, the start time counts as 0 for all: identity is then the pid alone.

use crate::sync::{AtomicU64, Ordering};
use crate::sys::process::{is_dead_state, own_pid, process_stat, send_signal};
use crate::sys::wiped::WipedOnFork;

/// Bits of the start time, below those of the pid (Linux pids have at most 22 bits).
const START_BITS: u32 = 42;

static CACHE: WipedOnFork<AtomicU64> = WipedOnFork::new();

/// The identity of this process.
#[inline]
#[must_use]
pub fn current() -> u64 {
    // Relaxed: the word depends on nothing else; every thread that finds 0 computes the same value.
    let Some(cell) = CACHE.get() else { return read_current() };
    let cached = cell.load(Ordering::Relaxed);
    if cached != 0 {
        return cached;
    }
    let fresh = read_current();
    cell.store(fresh, Ordering::Relaxed);
    fresh
}

#[cold]
fn read_current() -> u64 {
    let pid = own_pid();
    compose(pid, process_stat(pid).map_or(0, |stat| stat.start_ticks))
}

/// The identity of the process that has `pid` now, or 0 when there is none (a zombie is none).
#[must_use]
pub fn of_pid(pid: u32) -> u64 {
    if pid == 0 {
        return 0;
    }
    match process_stat(pid) {
        Some(stat) if is_dead_state(stat.state) => 0,
        Some(stat) => compose(pid, stat.start_ticks),
        None if exists_unseen(pid) => compose(pid, 0),
        None => 0,
    }
}

/// Does the process exist although `/proc` doesn't tell of it (not mounted, hidden)?
fn exists_unseen(pid: u32) -> bool {
    process_stat(own_pid()).is_none() && send_signal(pid, 0).is_ok()
}

/// Is the process of this identity alive? A zombie counts as dead, and so does a pid that has been given to another.
#[must_use]
pub fn is_alive(identity: u64) -> bool {
    identity != 0 && of_pid(pid_of(identity)) == identity
}

/// The pid in an identity.
#[must_use]
pub fn pid_of(identity: u64) -> u32 {
    u32::try_from(identity >> START_BITS).unwrap_or(0)
}

fn compose(pid: u32, start_ticks: u64) -> u64 {
    (u64::from(pid) << START_BITS) | (start_ticks & ((1 << START_BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_identity_holds_the_pid_and_is_stable_and_alive() {
        let me = current();
        assert_eq!(pid_of(me), std::process::id());
        assert_eq!(current(), me);
        assert_eq!(of_pid(std::process::id()), me);
        assert!(is_alive(me));
    }

    #[test]
    fn another_start_time_is_another_process() {
        assert!(!is_alive(current() ^ 1));
    }

    #[test]
    fn nobody_is_dead() {
        assert!(!is_alive(0));
        assert_eq!(of_pid(0), 0);
        // The largest pid that fits: above every configured maximum of the kernel's but itself.
        assert_eq!(of_pid((1 << 22) - 1), 0);
    }
}
