//! No wake-up is lost, in any interleaving: a sleeper that nobody wakes is a deadlock, which loom reports.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::*;

/// A word to wait on, and what one waits for.
#[derive(Default)]
struct Bench {
    word: AtomicU32,
    made: AtomicU32,
}

fn is_made(made: &AtomicU32, count: u32) -> bool {
    // Relaxed: the order is what is being tested.
    made.load(Ordering::Relaxed) >= count
}

#[test]
fn loom_a_single_sleeper_is_woken_by_each_thing_made() {
    loom::model(|| {
        let bench = Arc::new(Bench::default());
        let ringer = {
            let bench = Arc::clone(&bench);
            thread::spawn(move || {
                for count in 1..=2 {
                    bench.made.store(count, Ordering::Relaxed);
                    single::ring(&bench.word);
                }
            })
        };
        for count in 1..=2 {
            while !is_made(&bench.made, count) {
                single::sleep(&bench.word, || None, || is_made(&bench.made, count)).unwrap();
            }
        }
        ringer.join().unwrap();
    });
}

/// An eventfd watched edge-triggered, by up to two sleepers.
#[derive(Default)]
struct Event {
    rings: Mutex<u32>,
    changed: Condvar,
}

impl Event {
    fn signal(&self) {
        *self.rings.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    /// Sleeps until there was a ring that this sleeper has not heard.
    fn wait(&self, heard: &mut u32) {
        let mut rings = self.rings.lock().unwrap();
        while *rings == *heard {
            rings = self.changed.wait(rings).unwrap();
        }
        *heard = *rings;
    }
}

#[derive(Default)]
struct Shared {
    word: AtomicU32,
    made: [AtomicU32; 2],
    event: Event,
}

impl Shared {
    fn make(&self, number: usize) {
        self.made[number].store(1, Ordering::Relaxed);
        if let Some(sleepers) = shared::pending(&self.word) {
            self.event.signal();
            sleepers.answered(&self.word);
        }
    }

    fn wait_for(&self, number: usize, role: Role, heard: &mut u32) {
        while !is_made(&self.made[number], 1) {
            shared::enrol(&self.word, role);
            if !is_made(&self.made[number], 1) {
                self.event.wait(heard);
            }
            shared::withdraw(&self.word, role);
        }
    }
}

#[test]
fn loom_one_sleeper_hears_two_ringers() {
    loom::model(|| {
        let bell = Arc::new(Shared::default());
        let ringers = [0, 1].map(|number| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.make(number))
        });
        let mut heard = 0;
        bell.wait_for(0, Role::Foreground, &mut heard);
        bell.wait_for(1, Role::Foreground, &mut heard);
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

#[test]
fn loom_two_sleepers_hear_one_ringer() {
    loom::model(|| {
        let bell = Arc::new(Shared::default());
        let other = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.wait_for(0, Role::Background, &mut 0))
        };
        let ringer = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.make(0))
        };
        bell.wait_for(0, Role::Foreground, &mut 0);
        other.join().unwrap();
        ringer.join().unwrap();
    });
}
