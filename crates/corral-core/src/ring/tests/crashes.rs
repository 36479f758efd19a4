//! Each operation cut off after every step: the survivor finds the old state or the new one, and can go on.

use super::*;
use crate::steps::abandon_after;

/// Runs `operation` on fresh benches, cut off at step 0, 1, 2 ... until it has no more; `check` sees each that was, with the step's name.
fn cut_off_everywhere(
    prepare: impl Fn(&mut Bench),
    operation: impl Fn(&mut Bench),
    check: impl Fn(&mut Bench, &'static str),
) -> Vec<&'static str> {
    let mut names = Vec::new();
    loop {
        let mut bench = Bench::new();
        prepare(&mut bench);
        match abandon_after(names.len(), || operation(&mut bench)) {
            Ok(()) => return names,
            Err(cut_off) => {
                check(&mut bench, cut_off.0);
                names.push(cut_off.0);
            }
        }
    }
}

/// Moves both sides to 40 bytes before the ring's end, and leaves frames 1 and 2 queued before that.
fn near_the_end(bench: &mut Bench) {
    for id in 0..7 {
        bench.push(id, &[0; 40]).unwrap();
        bench.pop().unwrap();
    }
    assert_eq!(bench.push(100, b""), Some(448));
}

#[test]
fn a_send_that_is_cut_off_left_nothing_or_a_whole_frame() {
    let names = cut_off_everywhere(
        near_the_end,
        |bench| {
            bench.push(9, &[9; 30]);
        },
        |bench, step| {
            assert_eq!(bench.pop(), Some((100, Vec::new())), "{step}");
            let expected = (step == "ring.committed").then(|| (9, vec![9; 30]));
            assert_eq!(bench.pop(), expected, "{step}");
            assert_eq!(bench.pop(), None, "{step}");
        },
    );
    let expected = [
        "ring.claimed",
        "ring.padded",
        "ring.head",
        "ring.labelled",
        "ring.body",
        "ring.written",
        "ring.committed",
    ];
    assert_eq!(names, expected);
}

#[test]
fn after_a_receive_that_is_cut_off_the_producer_knows_whether_it_was_taken() {
    let names = cut_off_everywhere(
        |bench| {
            bench.push(1, b"first").unwrap();
            bench.push(2, b"second").unwrap();
        },
        |bench| drop(bench.pop()),
        |bench, step| {
            let state = bench.producer.state(0, 1).unwrap();
            let expected = match step {
                "ring.taking" => State::Queued,
                "ring.taken" | "ring.releasing" => State::Taken,
                _ => State::Free,
            };
            assert_eq!(state, expected, "{step}");
            let revoked = bench.producer.revoke(0, 1).unwrap();
            assert_eq!(revoked.is_some(), state == State::Queued, "{step}");
            // What the dead had not touched can be taken back.
            assert!(bench.producer.revoke(48 - 16, 2).unwrap().is_some(), "{step}");
        },
    );
    assert_eq!(names, ["ring.taking", "ring.taken", "ring.releasing", "ring.released"]);
}

#[test]
fn a_revocation_that_is_cut_off_has_happened_or_not() {
    let names = cut_off_everywhere(
        |bench| {
            bench.push(1, b"first").unwrap();
            bench.push(2, b"second").unwrap();
        },
        |bench| {
            bench.producer.revoke(0, 1).unwrap();
        },
        |bench, step| {
            let first = (step == "ring.revoking").then(|| (1, b"first".to_vec()));
            if first.is_some() {
                assert_eq!(bench.pop(), first, "{step}");
            }
            assert_eq!(bench.pop(), Some((2, b"second".to_vec())), "{step}");
            assert_eq!(bench.pop(), None, "{step}");
        },
    );
    assert_eq!(names, ["ring.revoking", "ring.revoked"]);
}

#[test]
fn stepping_over_what_was_revoked_can_be_cut_off_too() {
    cut_off_everywhere(
        |bench| {
            let position = bench.push(1, b"first").unwrap();
            bench.producer.revoke(position, 1).unwrap().unwrap();
            bench.push(2, b"second").unwrap();
        },
        |bench| drop(bench.pop()),
        |bench, step| {
            assert_ne!(bench.producer.state(0, 1).unwrap(), State::Taken, "{step}");
            let second = bench.producer.state(32, 2).unwrap();
            assert_eq!(bench.producer.revoke(32, 2).unwrap().is_some(), second == State::Queued, "{step}");
        },
    );
}
