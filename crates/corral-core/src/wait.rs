//! How long to wait, and how: deadlines, and spinning that learns whether it pays.

use std::time::Duration;

use crate::sync::spin_loop;
use crate::sys::clock::monotonic_ns;

/// A point in monotonic time, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at_ns: u64,
}

impl Deadline {
    /// No end.
    pub const NEVER: Self = Self { at_ns: u64::MAX };

    /// Over: only look.
    pub const PASSED: Self = Self { at_ns: 0 };

    /// So far from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self { at_ns: monotonic_ns().saturating_add(span) }
    }

    /// What is left of it; None: for ever.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        if self == Self::NEVER {
            return None;
        }
        Some(Duration::from_nanos(self.at_ns.saturating_sub(monotonic_ns())))
    }

    /// Is it over?
    #[must_use]
    pub fn has_passed(self) -> bool {
        self != Self::NEVER && monotonic_ns() >= self.at_ns
    }
}

/// Looks at the clock once in so many turns: it costs as much as some ten of them.
const TURNS_PER_CLOCK: u32 = 32;
/// Spin so long before offering the processor to others: less than an answer takes of a peer that spins too.
const POLITE_AFTER_NS: u64 = 4_000;
/// Never spin for less, or a success could never be seen again.
const SHORTEST_NS: u64 = 2_000;
/// Waking a sleeper on another processor takes about this long: a sleep that was hardly longer should have been a spin.
const WAKE_UP_NS: u64 = 60_000;

/// A signal that comes while its thread spins interrupts no system call, so the first sleep after spinning ends this soon, for
/// the caller to run the handler; the next one has no such end.
const SIGNAL_CHECK: Duration = Duration::from_millis(20);

/// A budget for spinning: halved when spinning was in vain, doubled when it was not, whole when it would not have been.
#[derive(Debug, Default)]
pub struct Spin {
    budget_ns: u64,
    limit_ns: u64,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    begun_ns: u64,
    end_ns: u64,
}

impl Spin {
    /// Begins to wait, spinning for at most `limit_ns` (0: not at all) and no longer than to the deadline.
    pub fn begin(&mut self, limit_ns: u64, deadline: Deadline) -> Attempt {
        if limit_ns == 0 {
            return Attempt { begun_ns: 0, end_ns: 0 };
        }
        if limit_ns != self.limit_ns {
            self.limit_ns = limit_ns;
            self.budget_ns = limit_ns;
        }
        let begun_ns = monotonic_ns();
        let end_ns = begun_ns.saturating_add(self.budget_ns).min(deadline.at_ns);
        Attempt { begun_ns, end_ns }
    }

    /// Spinning paid.
    pub fn succeeded(&mut self) {
        self.budget_ns = self.budget_ns.saturating_mul(2).min(self.limit_ns);
    }

    /// Spinning was in vain, and the waiter has slept until now.
    pub fn parked(&mut self, attempt: &Attempt) {
        if attempt.end_ns == 0 {
            return;
        }
        let waited_ns = monotonic_ns().saturating_sub(attempt.begun_ns);
        if waited_ns <= self.limit_ns.saturating_add(WAKE_UP_NS) {
            // At once, not by and by: two waiters that both spin a little too briefly would go on to wake each other for ever.
            self.budget_ns = self.limit_ns;
        } else {
            self.budget_ns = (self.budget_ns / 2).max(SHORTEST_NS.min(self.limit_ns));
        }
    }
}

impl Attempt {
    /// When to look for signals that came while spinning.
    #[must_use]
    pub fn signal_check(&self) -> Deadline {
        if self.end_ns == 0 { Deadline::NEVER } else { Deadline::after(SIGNAL_CHECK) }
    }

    /// Spins until `ready`, or the budget is used up (false).
    #[inline]
    pub fn until(&self, mut ready: impl FnMut() -> bool) -> bool {
        if self.end_ns == 0 {
            return false;
        }
        loop {
            for _ in 0..TURNS_PER_CLOCK {
                if ready() {
                    return true;
                }
                spin_loop();
            }
            let now_ns = monotonic_ns();
            if now_ns >= self.end_ns {
                return false;
            }
            if now_ns.saturating_sub(self.begun_ns) >= POLITE_AFTER_NS {
                // Whom we wait for may have been put on this very processor: then it runs only if we let it.
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_in_vain_halves_the_budget_and_success_doubles_it() {
        let mut spin = Spin::default();
        let begun = spin.begin(40_000, Deadline::NEVER);
        let long_ago = Attempt { begun_ns: begun.begun_ns.saturating_sub(1_000_000_000), ..begun };
        spin.parked(&long_ago);
        assert_eq!(spin.budget_ns, 20_000);
        for _ in 0..20 {
            spin.parked(&long_ago);
        }
        assert_eq!(spin.budget_ns, SHORTEST_NS);
        spin.succeeded();
        assert_eq!(spin.budget_ns, 2 * SHORTEST_NS);
        for _ in 0..20 {
            spin.succeeded();
        }
        assert_eq!(spin.budget_ns, 40_000);
    }

    #[test]
    fn a_sleep_that_was_short_gives_the_whole_budget_back() {
        let mut spin = Spin::default();
        let begun = spin.begin(40_000, Deadline::NEVER);
        spin.parked(&Attempt { begun_ns: begun.begun_ns.saturating_sub(1_000_000_000), ..begun });
        let again = spin.begin(40_000, Deadline::NEVER);
        spin.parked(&again);
        assert_eq!(spin.budget_ns, 40_000);
    }

    #[test]
    fn a_limit_of_zero_does_not_spin() {
        let attempt = Spin::default().begin(0, Deadline::NEVER);
        assert!(!attempt.until(|| unreachable!("looked while spinning was off")));
    }

    #[test]
    fn a_passed_deadline_leaves_nothing() {
        assert_eq!(Deadline::after(Duration::ZERO).remaining(), Some(Duration::ZERO));
        assert!(Deadline::after(Duration::ZERO).has_passed());
        assert_eq!(Deadline::NEVER.remaining(), None);
    }
}
