//! Tests of the wait set: two seats, threads for processes.

use std::sync::mpsc::{Receiver, channel};
use std::thread::Scope;
use std::time::Duration;

use super::*;
use crate::heap::Heap;
use crate::link::{Body, Tag, WorkerLink};
use crate::sys::event::create_eventfd;

/// What hangs longer than this has lost a wake-up.
const WATCHDOG: Duration = Duration::from_secs(30);
const LINK: u64 = 7;
const TAG: Tag = Tag { kind: 1, id: 1, aux: 0 };

struct Bench {
    parent: Arc<ParentLink>,
    worker: WorkerLink,
    waits: WaitSet,
}

fn bench() -> Bench {
    let heap = Arc::new(Heap::create(0).unwrap());
    let bell = Arc::new(Bell::create(Arc::clone(&heap)).unwrap());
    let parent = Arc::new(ParentLink::create(Arc::clone(&heap), Arc::clone(&bell), 1024).unwrap());
    let event = bell.as_fd().try_clone_to_owned().unwrap();
    let worker = WorkerLink::attach(heap, parent.reference(), event).unwrap();
    let waits = WaitSet::new(bell).unwrap();
    waits.add_link(LINK, Arc::clone(&parent)).unwrap();
    Bench { parent, worker, waits }
}

impl Bench {
    fn reply(&self) {
        assert!(self.worker.try_reply(TAG, Body::Bytes(b"")).unwrap());
    }

    fn collect(&self) -> usize {
        self.parent.collect(100, |_, _| -> Result<(), LinkError> { Ok(()) }).unwrap()
    }

    fn wait(&self) -> Vec<u64> {
        ready(|| self.waits.wait(Deadline::NEVER, 20_000))
    }

    fn wait_background(&self) -> Vec<u64> {
        ready(|| self.waits.wait_background(Deadline::NEVER))
    }

    /// Waits for the other waiter to be where it waits for long: asleep on the bell, or in the foreground.
    fn until_enrolled(&self, role: Role) {
        while !shared::is_enrolled(self.waits.bell.word().unwrap(), role) {
            std::thread::yield_now();
        }
    }
}

fn ready(wait: impl Fn() -> Result<Outcome, LinkError>) -> Vec<u64> {
    loop {
        if let Outcome::Ready(tokens) = wait().unwrap() {
            return tokens;
        }
    }
}

/// Runs `wait` in a thread of its own; what it returned comes through the channel.
fn aside<'scope>(
    scope: &'scope Scope<'scope, '_>,
    wait: impl FnOnce() -> Vec<u64> + Send + 'scope,
) -> Receiver<Vec<u64>> {
    let (sender, receiver) = channel();
    scope.spawn(move || drop(sender.send(wait())));
    receiver
}

fn event() -> OwnedFd {
    create_eventfd().unwrap()
}

#[test]
fn nothing_is_ready_until_the_deadline() {
    let bench = bench();
    assert_eq!(bench.waits.look().unwrap(), None);
    let outcome = bench.waits.wait(Deadline::after(Duration::from_millis(1)), 0).unwrap();
    assert_eq!(outcome, Outcome::Ready(Vec::new()));
}

#[test]
fn a_reply_is_seen_at_first_look() {
    let bench = bench();
    bench.reply();
    assert_eq!(bench.waits.look().unwrap(), Some(vec![LINK]));
}

#[test]
fn each_seat_is_woken_from_its_sleep() {
    let bench = bench();
    for role in [Role::Foreground, Role::Background] {
        std::thread::scope(|scope| {
            let waiter = aside(scope, || match role {
                Role::Foreground => bench.wait(),
                Role::Background => bench.wait_background(),
            });
            bench.until_enrolled(role);
            bench.reply();
            assert_eq!(waiter.recv_timeout(WATCHDOG).unwrap(), [LINK]);
        });
        bench.collect();
    }
}

#[test]
fn no_reply_is_missed_by_a_foreground_that_sleeps_each_time() {
    let bench = bench();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3000 {
                while !bench.worker.try_reply(TAG, Body::Bytes(b"")).unwrap() {
                    bench.worker.wait_room(0).unwrap();
                }
            }
        });
        let mut count = 0;
        while count < 3000 {
            assert_eq!(ready(|| bench.waits.wait(Deadline::NEVER, 0)), [LINK]);
            count += bench.collect();
        }
    });
}

#[test]
fn the_background_stands_by_while_the_foreground_waits() {
    let bench = bench();
    std::thread::scope(|scope| {
        let background = aside(scope, || bench.wait_background());
        bench.until_enrolled(Role::Background);
        let foreground = aside(scope, || bench.wait());
        bench.until_enrolled(Role::Foreground);
        assert!(!shared::is_enrolled(bench.waits.bell.word().unwrap(), Role::Background));
        bench.reply();
        assert_eq!(foreground.recv_timeout(WATCHDOG).unwrap(), [LINK]);
        // Nobody collects, and the foreground is gone: the background's turn.
        assert_eq!(background.recv_timeout(WATCHDOG).unwrap(), [LINK]);
    });
}

#[test]
fn the_background_takes_over_after_a_long_wait_in_the_foreground() {
    let bench = bench();
    std::thread::scope(|scope| {
        let foreground = aside(scope, || bench.wait());
        bench.until_enrolled(Role::Foreground);
        let background = aside(scope, || bench.wait_background());
        while !bench.waits.turn.is_deep() {
            std::thread::yield_now();
        }
        bench.reply();
        assert_eq!(foreground.recv_timeout(WATCHDOG).unwrap(), [LINK]);
        assert_eq!(background.recv_timeout(WATCHDOG).unwrap(), [LINK]);
    });
}

#[test]
fn a_nudge_ends_the_grace() {
    let bench = bench();
    std::thread::scope(|scope| {
        bench.reply();
        assert_eq!(bench.wait(), [LINK]);
        bench.waits.nudge();
        let background = aside(scope, || bench.wait_background());
        assert_eq!(background.recv_timeout(WATCHDOG).unwrap(), [LINK]);
    });
}

#[test]
fn a_kick_returns_both_and_is_kept_for_who_comes_later() {
    let bench = bench();
    std::thread::scope(|scope| {
        let background = aside(scope, || bench.wait_background());
        bench.until_enrolled(Role::Background);
        bench.waits.kick().unwrap();
        assert_eq!(background.recv_timeout(WATCHDOG).unwrap(), [0; 0]);
    });
    assert_eq!(bench.wait(), [0; 0]);
}

#[test]
fn a_kick_reaches_a_background_that_stands_by() {
    let bench = bench();
    std::thread::scope(|scope| {
        let foreground = aside(scope, || bench.wait());
        bench.until_enrolled(Role::Foreground);
        let background = aside(scope, || bench.wait_background());
        while !bench.waits.turn.is_deep() {
            std::thread::yield_now();
        }
        bench.waits.kick().unwrap();
        assert_eq!(foreground.recv_timeout(WATCHDOG).unwrap(), [0; 0]);
        assert_eq!(background.recv_timeout(WATCHDOG).unwrap(), [0; 0]);
    });
}

#[test]
fn a_descriptor_is_reported_once_whoever_sees_it() {
    use std::os::fd::AsRawFd as _;
    let bench = bench();
    let fd = event();
    bench.waits.add_fd(9, fd.as_raw_fd()).unwrap();
    std::thread::scope(|scope| {
        let background = aside(scope, || bench.wait_background());
        bench.until_enrolled(Role::Background);
        signal_eventfd(fd.as_fd()).unwrap();
        assert_eq!(background.recv_timeout(WATCHDOG).unwrap(), [9]);
    });
    assert_eq!(bench.waits.wait(Deadline::PASSED, 0).unwrap(), Outcome::Ready(Vec::new()));
}

#[test]
fn steady_replies_do_not_hide_a_descriptor() {
    use std::os::fd::AsRawFd as _;
    let bench = bench();
    let fd = event();
    bench.waits.add_fd(9, fd.as_raw_fd()).unwrap();
    signal_eventfd(fd.as_fd()).unwrap();
    bench.reply();
    let mut looks = (0..1000).map(|_| bench.waits.look().unwrap().unwrap());
    assert!(looks.any(|tokens| tokens.contains(&9)));
}

#[test]
fn what_was_removed_is_neither_reported_nor_kept() {
    use std::os::fd::AsRawFd as _;
    let bench = bench();
    let fd = event();
    bench.waits.add_fd(LINK, fd.as_raw_fd()).unwrap();
    signal_eventfd(fd.as_fd()).unwrap();
    bench.reply();
    bench.waits.remove(LINK);
    assert_eq!(bench.waits.wait(Deadline::PASSED, 0).unwrap(), Outcome::Ready(Vec::new()));
    assert_eq!(Arc::strong_count(&bench.parent), 1);
}

#[test]
fn a_link_added_while_the_foreground_sleeps_is_heard() {
    let bench = bench();
    bench.waits.remove(LINK);
    bench.reply();
    std::thread::scope(|scope| {
        let foreground = aside(scope, || bench.wait());
        bench.until_enrolled(Role::Foreground);
        bench.waits.add_link(8, Arc::clone(&bench.parent)).unwrap();
        assert_eq!(foreground.recv_timeout(WATCHDOG).unwrap(), [8]);
    });
}

#[test]
fn two_waiters_on_one_seat_are_a_mistake() {
    let bench = bench();
    std::thread::scope(|scope| {
        let foreground = aside(scope, || bench.wait());
        bench.until_enrolled(Role::Foreground);
        assert!(matches!(bench.waits.look(), Err(LinkError::Busy)));
        bench.waits.kick().unwrap();
        foreground.recv_timeout(WATCHDOG).unwrap();
    });
}

#[test]
fn between_the_two_of_them_no_reply_is_missed() {
    const COUNT: usize = 4000;
    let bench = bench();
    let collected = Mutex::new(0);
    let take = || {
        let mut collected = collected.lock().unwrap();
        *collected += bench.collect();
        *collected
    };
    let (finished, done) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..COUNT {
                while !bench.worker.try_reply(TAG, Body::Bytes(b"")).unwrap() {
                    bench.worker.wait_room(0).unwrap();
                }
                // Bursts, and silences in which both fall asleep.
                if number % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(number as u64 / 100 % 8));
                }
            }
        });
        scope.spawn(|| {
            while take() < COUNT {
                ready(|| bench.waits.wait_background(Deadline::NEVER));
            }
            finished.send(()).unwrap();
            bench.waits.kick().unwrap();
        });
        scope.spawn(|| {
            for round in 0_u64.. {
                let deadline = Deadline::after(Duration::from_micros(round * 37 % 5000));
                bench.waits.wait(deadline, round % 3 * 20_000).unwrap();
                if take() >= COUNT {
                    break;
                }
                if round % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            bench.waits.kick().unwrap();
        });
        done.recv_timeout(WATCHDOG).unwrap();
    });
}
