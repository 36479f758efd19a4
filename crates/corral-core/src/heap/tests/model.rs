//! The heap against a model: random operations of three processes over two mappings, checked after each.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Alloc { me: u64, size: usize, sparse: bool },
    Free { pick: usize },
    FreeAsAnother { pick: usize },
    Adopt { pick: usize, me: u64 },
    AdoptFromAnother { pick: usize },
    Recover { owner: u64 },
    Trim,
}

fn step() -> impl Strategy<Value = Step> {
    let owner = 1_u64..4;
    let size = prop_oneof![0_usize..100, 0_usize..100_000, 0_usize..6_000_000];
    prop_oneof![
        5 => (owner.clone(), size, any::<bool>()).prop_map(|(me, size, sparse)| Step::Alloc { me, size, sparse }),
        3 => any::<usize>().prop_map(|pick| Step::Free { pick }),
        1 => any::<usize>().prop_map(|pick| Step::FreeAsAnother { pick }),
        2 => (any::<usize>(), owner.clone()).prop_map(|(pick, me)| Step::Adopt { pick, me }),
        1 => any::<usize>().prop_map(|pick| Step::AdoptFromAnother { pick }),
        1 => owner.prop_map(|owner| Step::Recover { owner }),
        1 => Just(Step::Trim),
    ]
}

/// What the model knows of a block in use.
struct Used {
    owner: u64,
    len: usize,
    mark: u8,
}

struct Model {
    /// The same heap, as two processes see it.
    sides: [Heap; 2],
    used: HashMap<u64, Used>,
    marks: u8,
}

impl Model {
    fn new() -> Self {
        let heap = small_heap();
        let there = attached(&heap);
        Self { sides: [heap, there], used: HashMap::new(), marks: 0 }
    }

    fn side(&self, owner: u64) -> &Heap {
        &self.sides[usize::try_from(owner % 2).unwrap()]
    }

    fn pick(&self, pick: usize) -> Option<u64> {
        let mut references: Vec<_> = self.used.keys().copied().collect();
        references.sort_unstable();
        references.get(pick % references.len().max(1)).copied()
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Alloc { me, size, sparse } => self.alloc(me, size, sparse),
            Step::Trim => drop(self.sides[0].trim_as(9, Duration::ZERO).unwrap()),
            Step::Recover { owner } => {
                let freed = self.side(owner + 1).recover(owner).unwrap();
                let before = self.used.len();
                self.used.retain(|_, used| used.owner != owner);
                assert_eq!(freed, (before - self.used.len()) as u64);
            }
            Step::Free { pick } => {
                if let Some(reference) = self.pick(pick) {
                    let owner = self.used.remove(&reference).unwrap().owner;
                    self.side(owner).free_as(owner, reference).unwrap();
                }
            }
            Step::FreeAsAnother { pick } => {
                if let Some(reference) = self.pick(pick) {
                    assert!(self.sides[0].free_as(self.used[&reference].owner + 1, reference).is_err());
                }
            }
            Step::Adopt { pick, me } => {
                if let Some(reference) = self.pick(pick) {
                    let owner = self.used[&reference].owner;
                    let block = self.side(me).adopt_as(me, reference, owner).unwrap();
                    assert_eq!(block.len, self.used[&reference].len);
                    self.used.get_mut(&reference).unwrap().owner = me;
                }
            }
            Step::AdoptFromAnother { pick } => {
                if let Some(reference) = self.pick(pick) {
                    let owner = self.used[&reference].owner + 1;
                    assert!(self.sides[0].adopt_as(9, reference, owner).is_err());
                }
            }
        }
    }

    fn alloc(&mut self, me: u64, size: usize, sparse: bool) {
        let pages = if sparse { Pages::AsTouched } else { Pages::All };
        match self.side(me).alloc_as(me, size, pages) {
            Ok(block) => {
                self.marks = self.marks.wrapping_add(1);
                assert_eq!((block.len, block.ptr.as_ptr().addr() % 4096), (size, 0));
                mark(&block, self.marks);
                let used = Used { owner: me, len: size, mark: self.marks };
                assert!(self.used.insert(block.reference, used).is_none(), "given away twice");
            }
            Err(HeapError::Full { .. }) => {
                // Rightly so only if no free block is large enough, and none can be appended.
                let heap = &self.sides[0];
                let free =
                    (0..heap.length().unwrap()).filter(|number| !self.used.contains_key(&(number + 1)));
                let largest = free.map(|number| heap.place_of(number).unwrap().1).max();
                assert!(largest.is_none_or(|capacity| capacity < size as u64));
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn check(&self) {
        for heap in &self.sides {
            check_invariants(heap, &[1, 2, 3]);
            for (&reference, used) in &self.used {
                let (ptr, len) = heap.slice(reference).unwrap();
                assert_eq!((len, heap.owner_of(reference).unwrap()), (used.len, used.owner));
                let block = BlockRef { reference, ptr, len };
                let marked = bytes(&block).iter().step_by(997).all(|&byte| byte == used.mark);
                assert!(marked, "the contents of block {reference} have changed");
            }
        }
        let stats = self.sides[0].stats().unwrap();
        let bytes_used: usize = self.used.values().map(|used| used.len).sum();
        assert_eq!((stats.blocks_used, stats.bytes_used), (self.used.len() as u64, bytes_used as u64));
    }
}

fn mark(block: &BlockRef, mark: u8) {
    bytes(block).iter_mut().step_by(997).for_each(|byte| *byte = mark);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_heap_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
            model.check();
        }
    }
}
