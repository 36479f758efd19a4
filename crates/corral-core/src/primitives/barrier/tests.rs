//! The barrier, with parties that die: each operation cut off after every step, then the survivors.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::heap::Heap;
use crate::identity;

use crate::primitives::place::{Place, WORDS_AT};
use crate::region::Region;
use crate::steps;

/// An identity that no process has.
const DEAD: u64 = 1;

struct Shared {
    place: Place,
}

fn go_on() -> Result<(), Damaged> {
    Ok(())
}

impl Shared {
    fn new(parties: u32) -> Self {
        let heap = Arc::new(Heap::create(0).unwrap());
        let place = Place::create(&heap, WORDS_AT + Barrier::<Region>::bytes(parties), 1, 0).unwrap();
        Barrier::make(place.region(), WORDS_AT, parties).unwrap();
        Self { place }
    }

    fn barrier(&self) -> Barrier<'_, Region> {
        Barrier::over(self.place.region(), WORDS_AT).unwrap()
    }

    fn come_as(&self, me: u64, acts: bool) -> Option<Coming> {
        let mut go_on = go_on;
        let (spin, interrupted) = (&mut Spin::default(), Interrupted(&mut go_on));
        let patience = Patience { deadline: Deadline::NEVER, spin_ns: 0, spin, interrupted };
        self.barrier().come(me, acts, patience).unwrap()
    }

    fn come(&self) -> Option<Coming> {
        self.come_as(identity::current(), false)
    }

    fn wait(&self, coming: Coming, deadline: Deadline) -> bool {
        let mut go_on = go_on;
        let (spin, interrupted) = (&mut Spin::default(), Interrupted(&mut go_on));
        self.barrier().wait(coming, Patience { deadline, spin_ns: 0, spin, interrupted }).unwrap()
    }

    fn reset_as(&self, me: u64) {
        self.barrier().reset(me, &mut go_on).unwrap();
    }

    /// Comes, and waits unless it is the last: did it pass?
    fn pass(&self) -> bool {
        self.come().is_some_and(|coming| coming.is_last || self.wait(coming, Deadline::NEVER))
    }

    /// Both parties pass, after a reset.
    fn is_as_good_as_new(&self) {
        self.reset_as(identity::current());
        std::thread::scope(|scope| {
            let other = scope.spawn(|| self.pass());
            assert!(self.pass());
            assert!(other.join().unwrap());
        });
    }
}

#[test]
fn nobody_passes_until_all_have_come_again_and_again() {
    const PARTIES: u32 = 4;
    let shared = Shared::new(PARTIES);
    let come = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..PARTIES {
            scope.spawn(|| {
                for round in 1..=300 {
                    come.fetch_add(1, Ordering::Relaxed);
                    assert!(shared.pass());
                    assert!(come.load(Ordering::Relaxed) >= round * PARTIES);
                }
            });
        }
    });
    assert_eq!(shared.barrier().state(), (State::Filling, 0));
}

#[test]
fn indices_count_up_and_the_last_one_acts_before_the_others_pass() {
    let shared = Shared::new(2);
    let me = identity::current();
    let (first, last) = (shared.come_as(me, true).unwrap(), shared.come_as(me, true).unwrap());
    assert_eq!((first.index, first.is_last, last.index, last.is_last), (0, false, 1, true));
    assert_eq!(shared.barrier().outcome(first), None);
    assert_eq!(shared.barrier().state(), (State::Acting, 2));
    assert!(shared.barrier().complete(me, last, &mut go_on).unwrap());
    assert_eq!(shared.barrier().outcome(first), Some(true));
}

#[test]
fn time_out_and_abort_break_it_until_the_reset() {
    let shared = Shared::new(2);
    let first = shared.come().unwrap();
    assert!(!shared.wait(first, Deadline::PASSED));
    assert_eq!(shared.barrier().state().0, State::Broken);
    assert_eq!(shared.come(), None);
    shared.is_as_good_as_new();
    shared.barrier().abort();
    assert_eq!(shared.come(), None);
    shared.is_as_good_as_new();
}

#[test]
fn a_reset_sends_away_who_waits_and_they_know_it_however_late_they_look() {
    let shared = Shared::new(2);
    let first = shared.come().unwrap();
    shared.reset_as(identity::current());
    let (second, _) = (shared.come().unwrap(), shared.come().unwrap());
    assert_eq!(shared.barrier().outcome(second), Some(true));
    assert_eq!(shared.barrier().outcome(first), Some(false));
}

#[test]
fn one_who_came_and_died_breaks_it() {
    let shared = Shared::new(3);
    assert!(shared.come_as(DEAD, false).is_some());
    let coming = shared.come().unwrap();
    assert!(!shared.wait(coming, Deadline::NEVER));
}

#[test]
fn one_who_passed_the_last_time_and_died_breaks_it_unless_it_retired() {
    let shared = Shared::new(2);
    shared.come_as(DEAD, false).unwrap();
    assert!(shared.pass());
    shared.barrier().retire(DEAD).unwrap();
    let coming = shared.come().unwrap();
    assert_eq!(shared.barrier().bury_for(coming), None);

    let shared = Shared::new(2);
    shared.come_as(DEAD, false).unwrap();
    assert!(shared.pass());
    let coming = shared.come().unwrap();
    assert!(!shared.wait(coming, Deadline::NEVER));
}

#[test]
fn one_who_died_in_the_action_breaks_it() {
    let shared = Shared::new(2);
    let first = shared.come().unwrap();
    assert!(shared.come_as(DEAD, true).unwrap().is_last);
    // Who comes too early for the next round, too, is sent away.
    assert!(!shared.wait(first, Deadline::NEVER));
    assert_eq!(shared.come(), None);
}

#[test]
fn who_comes_during_the_action_is_of_the_next_round() {
    let shared = Shared::new(1);
    let me = identity::current();
    let acting = shared.come_as(me, true).unwrap();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| shared.come_as(me, true));
        while shared.barrier().sleepers.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        assert!(shared.barrier().complete(me, acting, &mut go_on).unwrap());
        assert_eq!(next.join().unwrap().unwrap().generation, 1);
    });
}

/// Runs `victim` to each of its steps; then a survivor comes, which passes or hears that it is broken, and all goes on after a reset.
fn enumerate_crashes(prepare: impl Fn(&Shared), victim: impl Fn(&Shared)) -> Vec<&'static str> {
    let mut names = Vec::new();
    loop {
        let shared = Shared::new(2);
        prepare(&shared);
        let cut_off = steps::abandon_after(names.len(), || victim(&shared));
        if let Some(coming) = shared.come()
            && !coming.is_last
        {
            // Nobody else will come: it ends by a death that is noticed, or else by the time.
            shared.wait(coming, Deadline::after(Duration::from_millis(30)));
        }
        shared.is_as_good_as_new();
        match cut_off {
            Ok(()) => return names,
            Err(steps::Abandoned(name)) => names.push(name),
        }
    }
}

#[test]
fn killed_while_it_comes() {
    let first = enumerate_crashes(
        |_| {},
        |shared| {
            let _ = shared.come_as(DEAD, false);
        },
    );
    assert_eq!(first, ["barrier.written", "barrier.came", "tenure.released"]);
    let last = enumerate_crashes(
        |shared| {
            let _ = shared.come();
        },
        |shared| {
            let _ = shared.come_as(DEAD, false);
        },
    );
    assert_eq!(last, ["barrier.written", "barrier.redone", "barrier.came", "tenure.released"]);
}

#[test]
fn killed_while_it_completes() {
    let names = enumerate_crashes(
        |shared| {
            let _ = shared.come();
        },
        |shared| {
            let last = shared.come_as(DEAD, true).unwrap();
            shared.barrier().complete(DEAD, last, &mut go_on).unwrap();
        },
    );
    assert!(names.ends_with(&["barrier.redone", "barrier.passed", "tenure.released"]), "{names:?}");
}

#[test]
fn killed_while_it_resets() {
    let names = enumerate_crashes(
        |shared| {
            let _ = shared.come();
        },
        |shared| shared.reset_as(DEAD),
    );
    assert_eq!(names, ["barrier.undone", "barrier.reset", "tenure.released"]);
}

#[test]
fn killed_while_it_aborts() {
    let names = enumerate_crashes(
        |shared| {
            let _ = shared.come();
        },
        |shared| shared.barrier().abort(),
    );
    assert_eq!(names, ["barrier.broken"]);
}
