//! The condition, with waiters that die: each operation cut off after every step, then the survivors.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::heap::Heap;
use crate::identity;
use crate::park::Interrupted;

use crate::primitives::place::{Place, WORDS_AT};
use crate::region::Region;
use crate::steps;
use crate::wait::{Deadline, Spin};

/// Identities that no process has.
const DEAD: u64 = 1;
const HEIR: u64 = 2;
const SEATS: usize = 4;

struct Table(Place);

impl Table {
    fn new() -> Self {
        let heap = Arc::new(Heap::create(0).unwrap());
        Self(Place::create(&heap, WORDS_AT + Condition::<Region>::bytes(SEATS), 1, 0).unwrap())
    }

    fn condition(&self) -> Condition<'_, Region> {
        Condition::over(self.0.region(), WORDS_AT, self.0.region().length())
    }

    fn seat(&self) -> Seat {
        self.condition().enrol(identity::current()).unwrap().unwrap()
    }

    fn wait(&self, seat: Seat, deadline: Deadline) -> bool {
        let mut go_on = || Ok::<_, Damaged>(());
        let (spin, interrupted) = (&mut Spin::default(), Interrupted(&mut go_on));
        let patience = Patience { deadline, spin_ns: 0, spin, interrupted };
        self.condition().wait(seat, identity::current(), patience).unwrap()
    }

    fn is_called(&self, seat: Seat) -> bool {
        let called = self.wait(seat, Deadline::PASSED);
        self.condition().leave(seat).unwrap();
        called
    }
}

#[test]
fn those_who_came_first_are_called_first() {
    let table = Table::new();
    let seats = [(); 3].map(|()| table.seat());
    assert_eq!(table.condition().waiting().unwrap(), 3);
    assert_eq!(table.condition().call(2).unwrap(), 2);
    assert_eq!(seats.map(|seat| table.is_called(seat)), [true, true, false]);
    assert_eq!(table.condition().call(1).unwrap(), 0);
}

#[test]
fn seats_are_used_again_and_their_order_is_that_of_the_tickets() {
    let table = Table::new();
    let (first, second) = (table.seat(), table.seat());
    assert!(!table.is_called(first));
    let third = table.seat();
    assert_eq!(third.number, first.number);
    assert_eq!(table.condition().call(1).unwrap(), 1);
    assert_eq!([second, third].map(|seat| table.is_called(seat)), [true, false]);
}

#[test]
fn all_are_called() {
    let table = Table::new();
    let seats = [(); SEATS].map(|()| table.seat());
    table.condition().call_all().unwrap();
    assert!(seats.into_iter().all(|seat| table.is_called(seat)));
}

#[test]
fn a_full_table_is_swept_of_the_dead() {
    let table = Table::new();
    for _ in 0..SEATS {
        table.condition().enrol(DEAD).unwrap().unwrap();
    }
    let seats = [(); SEATS].map(|()| table.seat());
    assert_eq!(table.condition().enrol(identity::current()).unwrap(), None);
    seats.into_iter().for_each(|seat| table.condition().leave(seat).unwrap());
}

#[test]
fn who_came_after_a_call_does_not_inherit_it() {
    let table = Table::new();
    table.condition().enrol(DEAD).unwrap().unwrap();
    assert_eq!(table.condition().call(1).unwrap(), 1);
    let late = table.seat();
    assert!(!table.wait(late, Deadline::after(Duration::from_millis(20))));
}

#[test]
fn a_caller_wakes_a_sleeper_and_a_dead_one_does_not_keep_the_call() {
    let table = Table::new();
    table.condition().enrol(DEAD).unwrap().unwrap();
    let seat = table.seat();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| table.wait(seat, Deadline::NEVER));
        assert_eq!(table.condition().call(1).unwrap(), 1);
        assert!(sleeper.join().unwrap());
    });
}

/// Runs `victim` to each of its steps, then `survive`; the steps' names.
fn enumerate_crashes(
    prepare: impl Fn(&Table) -> Seat,
    victim: impl Fn(&Table, Seat),
    survive: impl Fn(&Table, bool),
) -> Vec<&'static str> {
    let mut names = Vec::new();
    loop {
        let table = Table::new();
        let seat = prepare(&table);
        let cut_off = steps::abandon_after(names.len(), || victim(&table, seat));
        survive(&table, cut_off.is_ok());
        // Whatever happened, the table is as good as new.
        let seats = [(); SEATS].map(|()| table.condition().enrol(identity::current()).unwrap());
        assert_eq!(seats.iter().flatten().count(), SEATS);
        match cut_off {
            Ok(()) => return names,
            Err(steps::Abandoned(name)) => names.push(name),
        }
    }
}

const NOBODY: Seat = Seat { number: 0, ticket: 0 };

/// Is called, by one call, although there may be a dead one before.
fn one_call_reaches_a_survivor(table: &Table) {
    let seat = table.seat();
    table.condition().call(1).unwrap();
    assert!(table.wait(seat, Deadline::NEVER));
    table.condition().leave(seat).unwrap();
}

#[test]
fn killed_while_it_takes_a_seat() {
    let names = enumerate_crashes(
        |_| NOBODY,
        |table, _| {
            let _ = table.condition().enrol(DEAD).unwrap();
        },
        |table, _| one_call_reaches_a_survivor(table),
    );
    assert_eq!(names, ["condition.made", "condition.seated", "condition.numbered"]);
}

#[test]
fn killed_while_it_leaves_its_seat() {
    let names = enumerate_crashes(
        |table| {
            let seat = table.condition().enrol(DEAD).unwrap().unwrap();
            table.condition().call(1).unwrap();
            seat
        },
        |table, seat| table.condition().leave(seat).unwrap(),
        |table, _| one_call_reaches_a_survivor(table),
    );
    assert_eq!(names, ["condition.idle"]);
}

#[test]
fn killed_while_it_calls() {
    let names = enumerate_crashes(
        |_| NOBODY,
        |table, _| {
            let _ = (table.seat(), table.seat());
            table.condition().call(2).unwrap();
        },
        |table, _| {
            // The lock is inherited, and the heir calls again.
            table.condition().call(2).unwrap();
            let me = identity::current();
            for (number, ticket) in [(0, 0), (1, 1)] {
                let seat = Seat { number, ticket };
                if table.condition().seat(number).is_ok_and(|seat| seat.owner.load(Ordering::Relaxed) == me) {
                    assert!(table.is_called(seat) || table.condition().length().unwrap() < 2);
                }
            }
        },
    );
    assert!(names.ends_with(&["condition.dated", "condition.called"]), "{names:?}");
}

#[test]
fn killed_while_it_inherits() {
    let names = enumerate_crashes(
        |table| {
            table.condition().enrol(DEAD).unwrap().unwrap();
            let heir = table.condition().enrol(HEIR).unwrap().unwrap();
            table.seat();
            table.condition().call(1).unwrap();
            heir
        },
        |table, heir| {
            let _ = table.condition().inherit(heir, HEIR).unwrap();
        },
        |table, _| {
            let last = Seat { number: 2, ticket: 2 };
            assert!(table.wait(last, Deadline::NEVER), "the call is lost");
            table.condition().leave(last).unwrap();
        },
    );
    assert_eq!(names, ["condition.taken", "condition.inherited", "condition.idle"]);
}
