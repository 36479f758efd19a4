//! The ring against a queue of the standard library's, under random operations.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Pop,
    Revoke(usize),
    Ask(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..=CAPACITY / 8).prop_map(Step::Push),
        3 => Just(Step::Pop),
        1 => any::<usize>().prop_map(Step::Revoke),
        1 => any::<usize>().prop_map(Step::Ask),
    ]
}

#[derive(Debug)]
struct Sent {
    id: u64,
    position: u64,
    body: Vec<u8>,
    state: State,
}

#[derive(Default)]
struct Model {
    sent: Vec<Sent>,
    queued: VecDeque<usize>,
}

impl Model {
    fn push(&mut self, bench: &mut Bench, length: usize) -> Result<(), TestCaseError> {
        let id = self.sent.len() as u64;
        let body = vec![id as u8; length];
        match bench.push(id, &body) {
            Some(position) => {
                self.queued.push_back(self.sent.len());
                self.sent.push(Sent { id, position, body, state: State::Queued });
            }
            None => prop_assert!(bench.consumer.ring().has_frames().unwrap(), "an empty ring has room"),
        }
        Ok(())
    }

    fn pop(&mut self, bench: &mut Bench) -> Result<(), TestCaseError> {
        while let Some(number) = self.queued.pop_front() {
            let sent = &mut self.sent[number];
            let was = std::mem::replace(&mut sent.state, State::Free);
            if was == State::Queued {
                prop_assert_eq!(bench.pop(), Some((sent.id, sent.body.clone())));
                return Ok(());
            }
        }
        prop_assert_eq!(bench.pop(), None);
        Ok(())
    }

    fn revoke(&mut self, bench: &mut Bench, pick: usize) -> Result<(), TestCaseError> {
        let Some(number) = pick.checked_rem(self.sent.len()) else { return Ok(()) };
        let sent = &mut self.sent[number];
        let frame = bench.producer.revoke(sent.position, sent.id).unwrap();
        prop_assert_eq!(frame.is_some(), sent.state == State::Queued);
        if let Some(frame) = frame {
            let mut body = vec![0; frame.body_bytes];
            bench.producer.ring().read_body(&frame, &mut body).unwrap();
            prop_assert_eq!(&body, &sent.body);
            sent.state = State::Revoked;
        }
        Ok(())
    }

    fn ask(&self, bench: &mut Bench, pick: usize) -> Result<(), TestCaseError> {
        let Some(number) = pick.checked_rem(self.sent.len()) else { return Ok(()) };
        let sent = &self.sent[number];
        prop_assert_eq!(bench.producer.state(sent.position, sent.id).unwrap(), sent.state);
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_ring_does_what_a_queue_does(steps in proptest::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Push(length) => model.push(&mut bench, length)?,
                Step::Pop => model.pop(&mut bench)?,
                Step::Revoke(pick) => model.revoke(&mut bench, pick)?,
                Step::Ask(pick) => model.ask(&mut bench, pick)?,
            }
        }
        while !model.queued.is_empty() {
            model.pop(&mut bench)?;
        }
    }
}
