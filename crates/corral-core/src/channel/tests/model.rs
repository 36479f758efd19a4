//! The channel against a model: random operations over two mappings, compared after each.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Send { side: usize, length: usize },
    SendBlock { side: usize, length: usize },
    SendMany { side: usize, lengths: Vec<usize> },
    Recv { side: usize },
    RecvMany { side: usize, limit: u64 },
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let side = 0_usize..2;
    let length = || prop_oneof![0_usize..20, 0..=layout::MAX_INLINE_BYTES];
    prop_oneof![
        6 => (side.clone(), length()).prop_map(|(side, length)| Step::Send { side, length }),
        3 => (side.clone(), 0_usize..30_000).prop_map(|(side, length)| Step::SendBlock { side, length }),
        3 => (side.clone(), proptest::collection::vec(length(), 0..30))
            .prop_map(|(side, lengths)| Step::SendMany { side, lengths }),
        6 => side.clone().prop_map(|side| Step::Recv { side }),
        3 => (side, 1_u64..40).prop_map(|(side, limit)| Step::RecvMany { side, limit }),
        1 => Just(Step::Close),
    ]
}

struct Model {
    sides: [Channel; 2],
    bounds: Bounds,
    held: VecDeque<Vec<u8>>,
    closed: bool,
    mark: u8,
}

impl Model {
    fn new(bounds: Bounds) -> Self {
        let channel = bounded(bounds);
        let there = attached(&channel);
        Self { sides: [channel, there], bounds, held: VecDeque::new(), closed: false, mark: 0 }
    }

    fn content(&mut self, length: usize) -> Vec<u8> {
        self.mark = self.mark.wrapping_add(1);
        vec![self.mark; length]
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Send { side, length } => self.send_many(*side, &[*length]),
            Step::SendMany { side, lengths } => self.send_many(*side, lengths),
            Step::SendBlock { side, length } => self.send_block(*side, *length),
            Step::Recv { side } => self.recv(*side, 1),
            Step::RecvMany { side, limit } => self.recv(*side, *limit),
            Step::Close => {
                // Not too soon, or there is nothing to see.
                if self.mark > 60 {
                    self.sides[0].close().unwrap();
                    self.closed = true;
                }
            }
        }
    }

    fn send_many(&mut self, side: usize, lengths: &[usize]) {
        let contents: Vec<Vec<u8>> = lengths.iter().map(|&length| self.content(length)).collect();
        let items: Vec<Item<'_>> = contents.iter().map(|bytes| Item::Bytes(bytes)).collect();
        let mut sent = 0;
        let outcome =
            waiting(Deadline::PASSED, |waiting| self.sides[side].send_many(&items, &mut sent, waiting));
        assert_eq!(matches!(outcome, Err(ChannelError::Closed)), self.closed && !lengths.is_empty());
        assert!(sent == contents.len() || self.closed || self.bounds != Bounds::default());
        self.held.extend(contents.into_iter().take(sent));
    }

    fn send_block(&mut self, side: usize, length: usize) {
        let content = self.content(length);
        let here = &self.sides[side];
        let block = pack(&here.heap, &[&content]).unwrap();
        match waiting(Deadline::PASSED, |waiting| here.send(Item::Block(block), waiting)) {
            Ok(true) => self.held.push_back(content),
            Ok(false) | Err(ChannelError::Closed) => here.heap.free(block.reference).unwrap(),
            Err(other) => panic!("{other}"),
        }
    }

    fn recv(&mut self, side: usize, limit: u64) {
        let here = &self.sides[side];
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        let outcome = waiting(Deadline::PASSED, |waiting| {
            here.recv_many(limit, &mut bytes, &mut |taken| found.push(taken), waiting)
        });
        let expected = usize::try_from(limit).unwrap().min(self.held.len());
        match outcome {
            Ok(count) => assert_eq!((usize::try_from(count).unwrap(), found.len()), (expected, expected)),
            Err(ChannelError::Closed) => assert!(self.closed && self.held.is_empty()),
            Err(other) => panic!("{other}"),
        }
        let mut rest = bytes.as_slice();
        for taken in found {
            let (inline, after) = rest.split_at(if let Taken::Bytes(length) = taken { length } else { 0 });
            rest = after;
            assert_eq!(open(here, taken, inline), self.held.pop_front().unwrap());
        }
    }

    fn check(&self) {
        for side in &self.sides {
            assert_eq!(side.length(), self.held.len() as u64);
            assert!(self.bounds.items == 0 || side.length() <= self.bounds.items);
            assert_eq!(side.is_closed(), self.closed);
        }
    }
}

fn bounds() -> impl Strategy<Value = Bounds> {
    let bound = prop_oneof![Just(0_u64), 1_u64..50];
    (bound.clone(), bound).prop_map(|(items, units)| Bounds { items, bytes: units * 1000 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_channel_does_what_the_model_does(
        bounds in bounds(),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut model = Model::new(bounds);
        for step in &steps {
            model.apply(step);
            model.check();
        }
        model.recv(0, u64::MAX / 2);
        model.check();
        assert_eq!(others_used(&model.sides[0]), 0);
    }
}
