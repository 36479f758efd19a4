//! How long to wait, and how: deadlines, and spinning that learns whether it pays.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering, spin_loop};
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

/// Looks at the clock once in so many turns: a look costs as much as some of them.
const TURNS_PER_CLOCK: u32 = 16;
/// Spin so long before offering the processor to others: less than an answer takes of a peer that spins too.
const POLITE_AFTER_NS: u64 = 2_000;
/// Never spin for less: what is on its way already comes within this.
const SHORTEST_NS: u64 = 1_000;
/// Waking a sleeper on another processor takes about this long: a wait that was hardly longer than the limit and this could
/// have been spun through.
const WAKE_UP_NS: u64 = 60_000;
/// A sleep this short was ended by somebody who needed our processor, or could wake us for next to nothing: better sleep at once.
const CHEAP_SLEEP_NS: u64 = 12_000;
/// After so many waits at the shortest budget, try the longest once: what we wait for may have got a processor of its own.
const WAITS_PER_TRIAL: u32 = 32;
/// Trials in vain come less and less often, by this power of two at most: one costs as much as all those waits together.
const RAREST_TRIAL: u32 = 5;

/// A signal that comes while its thread spins interrupts no system call, so the first sleep after spinning ends this soon, for
/// the caller to run the handler; the next one has no such end.
const SIGNAL_CHECK: Duration = Duration::from_millis(20);

/// Spinning for longer than two wake-ups, where several processors are available; see decision record 0004.
const SPIN_LIMIT_NS: u64 = 100_000;
const UNKNOWN: u64 = u64::MAX;

/// For how long whoever waits for another process may spin: 0 where there is but one processor for both.
#[must_use]
pub fn spin_limit_ns() -> u64 {
    static LIMIT: AtomicU64 = AtomicU64::new(UNKNOWN);
    // Relaxed: every thread that finds it unknown computes the same. Not a once-cell, which a fork could leave locked for ever.
    let known = LIMIT.load(Ordering::Relaxed);
    if known != UNKNOWN {
        return known;
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let limit = if processors > 1 { SPIN_LIMIT_NS } else { 0 };
    LIMIT.store(limit, Ordering::Relaxed);
    limit
}

/// A budget for spinning: halved when spinning was in vain, doubled when it was not, whole when it would not have been.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spin {
    budget_ns: u64,
    limit_ns: u64,
    waits_at_shortest: u32,
    /// Trials in vain, one after the other; while one is on, `on_trial` says so.
    vain_trials: u32,
    on_trial: bool,
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    begun_ns: u64,
    /// When to give up; 0: without having begun.
    end_ns: u64,
    gave_up_ns: u64,
}

impl Spin {
    /// Begins to wait, spinning for at most `limit_ns` (0: not at all) and no longer than to the deadline.
    pub fn begin(&mut self, limit_ns: u64, deadline: Deadline) -> Attempt {
        if limit_ns == 0 {
            return Attempt { begun_ns: 0, end_ns: 0, gave_up_ns: 0 };
        }
        if limit_ns != self.limit_ns {
            self.limit_ns = limit_ns;
            self.budget_ns = limit_ns;
        }
        self.on_trial = self.waits_at_shortest >= WAITS_PER_TRIAL << self.vain_trials.min(RAREST_TRIAL);
        if self.on_trial {
            self.waits_at_shortest = 0;
            self.budget_ns = limit_ns;
        }
        let begun_ns = monotonic_ns();
        let end_ns = begun_ns.saturating_add(self.budget_ns).min(deadline.at_ns);
        Attempt { begun_ns, end_ns, gave_up_ns: begun_ns }
    }

    /// Spinning paid.
    pub fn succeeded(&mut self) {
        self.waits_at_shortest = 0;
        self.vain_trials = 0;
        self.budget_ns = self.budget_ns.saturating_mul(2).min(self.limit_ns);
    }

    /// Spinning was in vain, and the waiter has slept until now.
    pub fn parked(&mut self, attempt: &Attempt) {
        if attempt.end_ns != 0 {
            self.parked_until(attempt, monotonic_ns());
        }
    }

    fn parked_until(&mut self, attempt: &Attempt, now_ns: u64) {
        let slept_ns = now_ns.saturating_sub(attempt.gave_up_ns);
        let waited_ns = now_ns.saturating_sub(attempt.begun_ns);
        let would_have_paid = waited_ns <= self.limit_ns.saturating_add(WAKE_UP_NS);
        if would_have_paid && slept_ns > CHEAP_SLEEP_NS {
            // At once, not by and by: two waiters that both spin a little too briefly would go on to wake each other for ever.
            self.waits_at_shortest = 0;
            self.vain_trials = 0;
            self.budget_ns = self.limit_ns;
        } else {
            let shortest_ns = SHORTEST_NS.min(self.limit_ns);
            self.waits_at_shortest += u32::from(self.budget_ns == shortest_ns);
            self.vain_trials = self.vain_trials.saturating_add(u32::from(self.on_trial));
            self.budget_ns = if self.on_trial { shortest_ns } else { (self.budget_ns / 2).max(shortest_ns) };
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
    pub fn until(&mut self, mut ready: impl FnMut() -> bool) -> bool {
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
            self.gave_up_ns = monotonic_ns();
            if self.gave_up_ns >= self.end_ns {
                return false;
            }
            if self.gave_up_ns.saturating_sub(self.begun_ns) >= POLITE_AFTER_NS {
                // Whom we wait for may have been put on this very processor: then it runs only if we let it.
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_NS: u64 = 40_000;

    /// Waits once: spins in vain for the budget, then sleeps for `sleep_ns`.
    fn wait(spin: &mut Spin, sleep_ns: u64) {
        let mut attempt = spin.begin(LIMIT_NS, Deadline::NEVER);
        attempt.gave_up_ns = attempt.end_ns;
        spin.parked_until(&attempt, attempt.end_ns + sleep_ns);
    }

    #[test]
    fn spinning_in_vain_halves_the_budget_down_to_the_shortest() {
        let mut spin = Spin::default();
        wait(&mut spin, 1_000_000);
        assert_eq!(spin.budget_ns, LIMIT_NS / 2);
        (0..10).for_each(|_| wait(&mut spin, 1_000_000));
        assert_eq!(spin.budget_ns, SHORTEST_NS);
    }

    #[test]
    fn success_doubles_the_budget_up_to_the_limit() {
        let mut spin = Spin::default();
        (0..10).for_each(|_| wait(&mut spin, 1_000_000));
        spin.succeeded();
        assert_eq!(spin.budget_ns, 2 * SHORTEST_NS);
        (0..10).for_each(|_| spin.succeeded());
        assert_eq!(spin.budget_ns, LIMIT_NS);
    }

    #[test]
    fn a_sleep_that_should_have_been_a_spin_gives_the_whole_budget_back() {
        let mut spin = Spin::default();
        (0..10).for_each(|_| wait(&mut spin, 1_000_000));
        wait(&mut spin, 30_000);
        assert_eq!(spin.budget_ns, LIMIT_NS);
    }

    #[test]
    fn spinning_ends_where_sleeping_is_cheap() {
        let mut spin = Spin::default();
        (0..10).for_each(|_| wait(&mut spin, 4_000));
        assert_eq!(spin.budget_ns, SHORTEST_NS);
    }

    #[test]
    fn from_time_to_time_the_longest_budget_is_tried_again() {
        let mut spin = Spin::default();
        let trials: Vec<bool> = (0..400)
            .map(|_| {
                wait(&mut spin, 4_000);
                spin.on_trial
            })
            .collect();
        let numbers: Vec<_> = (0..trials.len()).filter(|&number| trials[number]).collect();
        assert!(numbers.len() >= 3, "{numbers:?}");
        assert!(
            numbers[2] - numbers[1] >= 2 * (numbers[1] - numbers[0]) - 2,
            "more and more seldom: {numbers:?}"
        );
    }

    #[test]
    fn a_trial_in_vain_is_no_reason_to_spin_the_next_time() {
        let mut spin = Spin::default();
        while !spin.on_trial {
            wait(&mut spin, 4_000);
        }
        assert_eq!(spin.budget_ns, SHORTEST_NS);
    }

    #[test]
    fn a_limit_of_zero_does_not_spin() {
        let mut attempt = Spin::default().begin(0, Deadline::NEVER);
        assert!(!attempt.until(|| unreachable!("looked while spinning was off")));
    }

    #[test]
    fn a_passed_deadline_leaves_nothing() {
        assert_eq!(Deadline::after(Duration::ZERO).remaining(), Some(Duration::ZERO));
        assert!(Deadline::after(Duration::ZERO).has_passed());
        assert_eq!(Deadline::NEVER.remaining(), None);
    }
}
