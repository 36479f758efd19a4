//! What a worker is at, read while it writes and after it died in the midst of it.

use super::*;
use crate::steps::abandon_after;

#[test]
fn nothing_is_under_way_before_the_first_entry() {
    let pair = pair();
    assert_eq!(pair.parent.progress().unwrap(), None);
    assert_eq!(pair.worker.asked().unwrap(), 0);
}

#[test]
fn the_last_entry_is_read_whole() {
    let pair = pair();
    for id in 1..6 {
        let number = pair.worker.begin(id, id + 10).unwrap();
        let progress = pair.parent.progress().unwrap().unwrap();
        assert_eq!((progress.number, progress.id, progress.end), (number, id, id + 10));
        assert!(progress.since_ns > 0);
    }
}

#[test]
fn a_worker_hears_what_was_asked_last() {
    let pair = pair();
    pair.parent.ask(1 << 63 | 5).unwrap();
    assert_eq!(pair.worker.asked().unwrap(), 1 << 63 | 5);
}

#[test]
fn a_death_while_writing_leaves_one_entry_whole() {
    let mut steps = 0;
    loop {
        let pair = pair();
        pair.worker.begin(1, 11).unwrap();
        pair.worker.begin(2, 12).unwrap();
        let finished = abandon_after(steps, || pair.worker.begin(3, 13)).is_ok();
        let progress = pair.parent.progress().unwrap().unwrap();
        let expected = if finished { (3, 3, 13) } else { (2, 2, 12) };
        assert_eq!((progress.number, progress.id, progress.end), expected, "after {steps} steps");
        if finished {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 4, "every word and the count has its step");
}

#[test]
fn a_reader_never_sees_a_mixture() {
    let pair = pair();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for id in 1..20_000 {
                pair.worker.begin(id, id * 2).unwrap();
            }
        });
        while !writer.is_finished() {
            if let Some(progress) = pair.parent.progress().unwrap() {
                assert_eq!((progress.number, progress.end), (progress.id, progress.id * 2));
            }
        }
    });
}
