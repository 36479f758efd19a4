//! The foreground and the background never both rely on the other to be awake.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::doorbell::{Role, shared};

#[test]
fn loom_a_stand_by_without_an_end_is_ended_when_the_foreground_leaves() {
    loom::model(|| {
        let turn = Arc::new(Turn::default());
        turn.enter();
        // The background has seen this wait before, a grace ago.
        let mut seen = turn.foreground.load(Ordering::Relaxed);
        let background = {
            let turn = Arc::clone(&turn);
            thread::spawn(move || turn.stand_by(&mut seen, || false).unwrap())
        };
        turn.leave();
        assert_eq!(background.join().unwrap(), StoodBy::Free);
    });
}

#[test]
fn loom_a_kick_ends_a_stand_by_without_an_end() {
    loom::model(|| {
        let turn = Arc::new(Turn::default());
        let kicked = Arc::new(AtomicBool::new(false));
        turn.enter();
        let mut seen = turn.foreground.load(Ordering::Relaxed);
        let background = {
            let (turn, kicked) = (Arc::clone(&turn), Arc::clone(&kicked));
            thread::spawn(move || {
                turn.stand_by(&mut seen, || kicked.load(Ordering::Relaxed)).unwrap();
            })
        };
        kicked.store(true, Ordering::Relaxed);
        turn.wake();
        background.join().unwrap();
    });
}

#[test]
fn loom_the_foreground_sees_a_background_that_enrolled_or_the_background_sees_it() {
    loom::model(|| {
        let turn = Arc::new(Turn::default());
        let word = Arc::new(AtomicU32::new(0));
        let background = {
            let (turn, word) = (Arc::clone(&turn), Arc::clone(&word));
            thread::spawn(move || {
                shared::enrol(&word, Role::Background);
                turn.is_taken()
            })
        };
        turn.enter();
        let seen_by_foreground = shared::is_enrolled(&word, Role::Background);
        let seen_by_background = background.join().unwrap();
        assert!(seen_by_foreground || seen_by_background);
    });
}
