//! The lock word: in every interleaving (loom), and, without loom, with the dead, abandoned releases and real threads.

#[cfg(loom)]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::super::*;
    use crate::doorbell::many;
    use crate::sync::{AtomicU32, AtomicU64, Ordering};
    use crate::sys::futex;

    #[derive(Default)]
    struct Guarded {
        owner: AtomicU64,
        sleepers: AtomicU32,
        inside: AtomicU32,
    }

    impl Guarded {
        fn tenure(&self) -> Tenure<'_> {
            Tenure { owner: &self.owner, sleepers: &self.sleepers }
        }

        /// As `acquire`, but asleep without an end: a lost wake-up is a deadlock, which loom reports.
        fn acquire(&self, me: u64) {
            while !self.tenure().take(me) {
                let ticket = many::enrol(self.tenure().sleepers());
                if self.tenure().take(me) {
                    return;
                }
                futex::wait(self.tenure().sleepers(), ticket, None).unwrap();
            }
        }

        fn enter_and_leave(&self, me: u64) {
            self.acquire(me);
            assert_eq!(self.inside.load(Ordering::Relaxed), 0, "two are inside");
            self.inside.store(1, Ordering::Relaxed);
            assert_eq!(self.tenure().holder(), me);
            self.inside.store(0, Ordering::Relaxed);
            self.tenure().release();
        }
    }

    fn contended_by(others: u64) {
        let mut builder = loom::model::Builder::new();
        // A sleeper that comes while a ringer thinks that all are awake: seen with three.
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let guarded = Arc::new(Guarded::default());
            let threads: Vec<_> = (1..=others)
                .map(|me| {
                    let guarded = Arc::clone(&guarded);
                    thread::spawn(move || guarded.enter_and_leave(me))
                })
                .collect();
            guarded.enter_and_leave(others + 1);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn loom_one_at_a_time_is_inside_and_no_wake_up_is_lost_between_two() {
        contended_by(1);
    }

    #[test]
    fn loom_one_at_a_time_is_inside_and_no_wake_up_is_lost_between_three() {
        contended_by(2);
    }
}

#[cfg(not(loom))]
mod real {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::super::*;
    use crate::identity;
    use crate::steps;

    /// An identity that no process has.
    const DEAD: u64 = 1;
    const SPIN_NS: u64 = 1_000;

    #[derive(Default)]
    struct Words {
        owner: AtomicU64,
        sleepers: AtomicU32,
    }

    impl Words {
        fn tenure(&self) -> Tenure<'_> {
            Tenure { owner: &self.owner, sleepers: &self.sleepers }
        }
    }

    fn acquire(tenure: Tenure<'_>, deadline: Deadline) -> Option<Got> {
        let me = identity::current();
        let mut spin = Spin::default();
        tenure.acquire(me, deadline, (&mut spin, SPIN_NS), &mut || Ok::<_, Infallible>(())).unwrap()
    }

    #[test]
    fn it_is_taken_once_and_again_after_its_release() {
        let words = Words::default();
        let me = identity::current();
        assert_eq!(words.tenure().try_acquire(me), Some(Got::Free));
        assert_eq!(words.tenure().holder(), me);
        assert_eq!(words.tenure().try_acquire(me), None);
        assert_eq!(acquire(words.tenure(), Deadline::after(Duration::from_millis(1))), None);
        words.tenure().release();
        assert_eq!(acquire(words.tenure(), Deadline::PASSED), Some(Got::Free));
        assert!(!words.tenure().release_of(DEAD));
        assert!(words.tenure().release_of(me));
        assert_eq!(words.tenure().holder(), 0);
    }

    #[test]
    fn what_the_dead_hold_is_inherited_at_once_or_while_waiting() {
        let words = Words::default();
        assert!(words.tenure().take(DEAD));
        assert_eq!(words.tenure().try_acquire(identity::current()), Some(Got::Inherited(DEAD)));
        words.tenure().release();
        assert!(words.tenure().take(DEAD));
        assert_eq!(acquire(words.tenure(), Deadline::NEVER), Some(Got::Inherited(DEAD)));
    }

    #[test]
    fn a_passed_deadline_still_inherits_from_the_dead() {
        let words = Words::default();
        assert!(words.tenure().take(DEAD));
        assert_eq!(acquire(words.tenure(), Deadline::PASSED), Some(Got::Inherited(DEAD)));
    }

    #[test]
    fn an_error_of_the_interruption_ends_the_wait() {
        let words = Words::default();
        let me = identity::current();
        assert!(words.tenure().take(me));
        let mut spin = Spin::default();
        let outcome = words.tenure().acquire(me, Deadline::NEVER, (&mut spin, 0), &mut || Err("signal"));
        assert_eq!(outcome, Err("signal"));
    }

    /// A holder, or a heir, is cut off after each of its steps; whoever comes next gets the word.
    fn enumerate_crashes(operation: impl Fn(Tenure<'_>)) -> Vec<&'static str> {
        let mut names = Vec::new();
        loop {
            let words = Words::default();
            // Somebody slept here once, and was killed.
            let _ = many::enrol(&words.sleepers);
            let cut_off = steps::abandon_after(names.len(), || operation(words.tenure()));
            assert!(acquire(words.tenure(), Deadline::NEVER).is_some());
            words.tenure().release();
            assert_eq!(words.tenure().holder(), 0);
            match cut_off {
                Ok(()) => return names,
                Err(steps::Abandoned(name)) => names.push(name),
            }
        }
    }

    #[test]
    fn killed_while_it_releases() {
        let names = enumerate_crashes(|tenure| {
            assert!(tenure.take(DEAD));
            tenure.release();
        });
        assert_eq!(names, ["tenure.released", "ring.seen", "ring.counted", "ring.cleared"]);
    }

    #[test]
    fn killed_while_it_inherits() {
        const HEIR: u64 = 2;
        let names = enumerate_crashes(|tenure| {
            assert!(tenure.take(DEAD));
            let _ = tenure.inherit(HEIR);
        });
        assert_eq!(names, ["tenure.dead"]);
    }

    #[test]
    fn a_release_without_a_wake_delays_a_sleeper_but_does_not_strand_it() {
        let words = Words::default();
        let me = identity::current();
        assert!(words.tenure().take(me));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| acquire(words.tenure(), Deadline::NEVER));
            while words.sleepers.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            assert!(steps::abandon_after(0, || words.tenure().release()).is_err());
            assert_eq!(sleeper.join().unwrap(), Some(Got::Free));
        });
    }

    #[test]
    fn threads_exclude_each_other() {
        let words = Words::default();
        let count = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _ = acquire(words.tenure(), Deadline::NEVER);
                        // Not one atomic step: only exclusion keeps the count right.
                        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        words.tenure().release();
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 8_000);
    }
}
