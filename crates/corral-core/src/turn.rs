//! Whose turn it is: the foreground goes first, and the background stands by without being woken for each reply.
//!
//! # Invariants
//!
//! INV-TURN-1: `enter` writes `foreground`, then a fence, then looks for a background enrolment; the background enrols (a
//! fence), then reads `foreground`: one of them sees the other.
//! INV-TURN-2: before a stand-by without an end, `deep` is written, then a fence, then `foreground` is read again; `leave` writes
//! `foreground`, then a fence, then reads `deep`: either the stand-by isn't begun, or it is ended.

use std::time::Duration;

use crate::sync::{AtomicBool, AtomicU32, Ordering, fence};
use crate::sys::futex::{self, Woken};

/// For so long after the last foreground waiter left, another one is expected.
const GRACE: Duration = Duration::from_millis(2);

const ACTIVE: u32 = 1;
const ENTRY: u32 = 2;

/// How a stand-by ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoodBy {
    /// The foreground has been away for a while (or there was a kick or a nudge).
    Free,
    /// A signal handler wants to run.
    Interrupted,
}

/// Private words of one process.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Number of entries, and whether the last one is still inside.
    foreground: AtomicU32,
    /// The background sleeps on this while it stands by; whoever wakes it counts it up.
    chair: AtomicU32,
    standing_by: AtomicBool,
    /// Standing by without an end.
    deep: AtomicBool,
    nudged: AtomicBool,
}

impl Turn {
    /// The foreground begins to wait.
    pub(crate) fn enter(&self) {
        // Relaxed: only the one foreground waiter writes; the fence orders it (INV-TURN-1).
        let last = self.foreground.load(Ordering::Relaxed);
        self.foreground.store((last & !ACTIVE).wrapping_add(ENTRY) | ACTIVE, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `doorbell::shared::enrol`.
        fence(Ordering::SeqCst);
    }

    /// The foreground has done.
    pub(crate) fn leave(&self) {
        // Relaxed: as in `enter` (INV-TURN-2).
        let now = self.foreground.load(Ordering::Relaxed);
        self.foreground.store(now & !ACTIVE, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `settle_in`.
        fence(Ordering::SeqCst);
        if self.deep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Is somebody waiting in the foreground?
    pub(crate) fn is_taken(&self) -> bool {
        // Relaxed: callers have a fence before, or only want to know roughly.
        self.foreground.load(Ordering::Relaxed) & ACTIVE != 0
    }

    /// Does the background stand by without an end?
    #[cfg(all(test, not(loom)))]
    pub(crate) fn is_deep(&self) -> bool {
        self.deep.load(Ordering::Relaxed)
    }

    /// Ends a stand-by.
    pub(crate) fn wake(&self) {
        // Release: pairs with the Acquire in `stand_by`: it sees what the waker wrote before.
        self.chair.fetch_add(1, Ordering::Release);
        futex::wake(&self.chair, 1);
    }

    /// The background should look now instead of waiting for the end of the grace.
    pub(crate) fn nudge(&self) {
        // Relaxed: the fence orders it; pairs with the one in `settle_in`.
        self.nudged.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.standing_by.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Stands by until no foreground waiter has come for the grace. `seen` is what the background last saw of the foreground.
    pub(crate) fn stand_by(
        &self,
        seen: &mut u32,
        is_kicked: impl Fn() -> bool,
    ) -> Result<StoodBy, std::io::Error> {
        let outcome = loop {
            // Acquire: pairs with the Release in `wake`.
            let chair = self.chair.load(Ordering::Acquire);
            let Some(span) = self.settle_in(seen, &is_kicked) else { break StoodBy::Free };
            let woken = futex::wait(&self.chair, chair, span)?;
            self.deep.store(false, Ordering::Relaxed);
            if woken == Woken::Interrupted {
                break StoodBy::Interrupted;
            }
        };
        self.standing_by.store(false, Ordering::Relaxed);
        Ok(outcome)
    }

    /// For how long to stand by (Some(None): until the foreground leaves), or None: not at all.
    fn settle_in(&self, seen: &mut u32, is_kicked: impl Fn() -> bool) -> Option<Option<Duration>> {
        self.standing_by.store(true, Ordering::Relaxed);
        // SeqCst: pairs with the fences in `nudge` and, for `deep`, in `leave`.
        fence(Ordering::SeqCst);
        let now = self.foreground.load(Ordering::Relaxed);
        let is_same = now == *seen;
        *seen = now;
        if is_kicked() {
            return None;
        }
        if now & ACTIVE == 0 {
            let nudged = self.nudged.swap(false, Ordering::Relaxed);
            return if is_same || nudged { None } else { Some(Some(GRACE)) };
        }
        if !is_same {
            return Some(Some(GRACE));
        }
        // The same wait as a grace ago: it will pay for waking us when it leaves.
        self.deep.store(true, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `leave` (INV-TURN-2).
        fence(Ordering::SeqCst);
        if self.foreground.load(Ordering::Relaxed) == now { Some(None) } else { Some(Some(Duration::ZERO)) }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
