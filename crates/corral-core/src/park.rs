//! Waiting for what others do in shared memory: spin, then sleep, but never for long without looking again.
//!
//! # Role in the flow
//!
//! Locks, semaphores, events, conditions, barriers and channels wait here. They say what to look at, and what else to look at once
//! the wait is overdue: whether those whom they wait for are still alive.
//!
//! # Invariants
//!
//! INV-PARK-1: a sleep lasts 100 ms at most, the first ones less. So a ringer killed between its store and its wake, a woken
//! sleeper killed before it could pass the wake on, and a holder that died delay the others for that long, and no more.
//!
//! See: decision record 0012.

use std::time::Duration;

use crate::doorbell::many;
use crate::sync::AtomicU32;
use crate::sys::futex::{self, Woken};
use crate::wait::{Deadline, Spin};

/// The longest sleep.
pub const LONGEST_NAP: Duration = Duration::from_millis(100);
/// The sleeps before: what went wrong just now is found soon.
const FIRST_NAP: Duration = Duration::from_millis(5);
const NAP_GROWTH: u32 = 4;

/// How patient a waiter is.
#[derive(Debug)]
pub struct Patience<'a, E> {
    /// When to give up.
    pub deadline: Deadline,
    /// Spin for so long at most before the first sleep.
    pub spin_ns: u64,
    /// What earlier waits have taught about spinning.
    pub spin: &'a mut Spin,
    /// Called when a signal has, or may have, arrived; its error ends the wait.
    pub interrupted: Interrupted<'a, E>,
}

/// What is called when a signal has, or may have, arrived.
pub struct Interrupted<'a, E>(pub &'a mut dyn FnMut() -> Result<(), E>);

impl<E> std::fmt::Debug for Interrupted<'_, E> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Interrupted")
    }
}

impl<E> Patience<'_, E> {
    /// Waits until `look` finds something, sleeping on `word`, which who makes it visible rings ([`many::ring`]). `overdue` is asked
    /// after each sleep that nobody ended. None: the time is up.
    ///
    /// # Errors
    ///
    /// What `interrupted` returns.
    pub fn wait<T>(
        self,
        word: &AtomicU32,
        mut look: impl FnMut() -> Option<T>,
        mut overdue: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, E> {
        let mut found = None;
        let mut attempt = self.spin.begin(self.spin_ns, self.deadline);
        if attempt.until(|| {
            found = look();
            found.is_some()
        }) {
            self.spin.succeeded();
            return Ok(found);
        }
        let mut nap = FIRST_NAP;
        loop {
            let ticket = many::enrol(word);
            if let Some(found) = look() {
                self.spin.parked(&attempt);
                return Ok(Some(found));
            }
            let span = self.deadline.remaining().map_or(nap, |left| left.min(nap));
            if span.is_zero() {
                return Ok(overdue());
            }
            match sleep(word, ticket, span) {
                Woken::Notified | Woken::Changed => continue,
                Woken::Interrupted => {}
                Woken::TimedOut => {
                    if let Some(found) = overdue() {
                        return Ok(Some(found));
                    }
                    nap = (nap * NAP_GROWTH).min(LONGEST_NAP);
                }
            }
            (self.interrupted.0)()?;
        }
    }
}

fn sleep(word: &AtomicU32, ticket: u32, span: Duration) -> Woken {
    futex::wait(word, ticket, Some(span)).unwrap_or_else(|_| {
        // The kernel refuses, which it has no reason to: look again by and by.
        std::thread::sleep(span.min(Duration::from_millis(1)));
        Woken::TimedOut
    })
}
