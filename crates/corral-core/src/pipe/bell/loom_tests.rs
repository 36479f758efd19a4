//! No message is slept through, and a socket is readable if and only if there is something to read, in any interleaving.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::*;

/// A channel's counters, its writing turn, and the receiver's socket.
#[derive(Default)]
struct Model {
    turn: Mutex<()>,
    committed: AtomicU32,
    consumed: AtomicU32,
    bell: AtomicU32,
    bytes: Mutex<u32>,
    came: Condvar,
}

impl Model {
    fn send(&self) {
        let turn = self.turn.lock().unwrap();
        self.committed.fetch_add(1, Ordering::Release);
        let put = || {
            *self.bytes.lock().unwrap() += 1;
            self.came.notify_all();
            Ok(())
        };
        ring(&self.bell, || panic!("nobody was killed"), put).unwrap();
        drop(turn);
    }

    fn is_empty(&self) -> bool {
        self.committed.load(Ordering::Acquire) == self.consumed.load(Ordering::Acquire)
    }

    fn mute(&self) {
        let turn = self.turn.lock().unwrap();
        if self.is_empty() {
            mute(&self.bell, false, || {
                let mut bytes = self.bytes.lock().unwrap();
                *bytes = bytes.checked_sub(1).unwrap();
                Ok(())
            })
            .unwrap();
        }
        drop(turn);
    }

    /// Takes a message if there is one; several may try.
    fn take(&self) -> bool {
        let seen = self.consumed.load(Ordering::Acquire);
        self.committed.load(Ordering::Acquire) != seen
            && self.consumed.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn sleep(&self) {
        let mut bytes = self.bytes.lock().unwrap();
        while *bytes == 0 {
            bytes = self.came.wait(bytes).unwrap();
        }
    }

    fn receive(&self) {
        while !self.take() {
            self.mute();
            if !self.is_empty() {
                continue;
            }
            self.sleep();
        }
    }
}

#[test]
fn loom_a_sleeping_receiver_hears_of_each_message_of_two_senders() {
    loom::model(|| {
        let model = Arc::new(Model::default());
        let senders = [0, 1].map(|_| {
            let model = Arc::clone(&model);
            thread::spawn(move || model.send())
        });
        model.receive();
        model.receive();
        for sender in senders {
            sender.join().unwrap();
        }
    });
}

#[test]
fn loom_a_receiver_that_mutes_when_empty_leaves_the_socket_as_it_should_be() {
    loom::model(|| {
        let model = Arc::new(Model::default());
        let sender = {
            let model = Arc::clone(&model);
            thread::spawn(move || {
                model.send();
                model.send();
            })
        };
        for _ in 0..2 {
            model.sleep(); // a selector, outside
            assert!(model.take() || !model.is_empty(), "readable, but nothing to read");
            model.mute();
            if model.is_empty() && model.consumed.load(Ordering::Relaxed) == 2 {
                break;
            }
        }
        sender.join().unwrap();
        assert_eq!(*model.bytes.lock().unwrap() > 0, !model.is_empty());
    });
}
