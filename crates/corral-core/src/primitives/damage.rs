//! Random words in every primitive: errors, or any answer, but no panic, no endless loop, nothing outside.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::barrier::Barrier;
use super::condition::Condition;
use super::event::Event;
use super::mutex::{Me, Mutex};
use super::place::{Place, WORDS_AT};
use super::semaphore::Semaphore;
use crate::heap::Heap;
use crate::park::{Interrupted, Patience};
use crate::region::{Damaged, Memory as _, Region};
use crate::wait::{Deadline, Spin};

const PARTIES: u32 = 3;
const BYTES: usize = 512;

/// Runs `wait` with little patience.
fn briefly<T>(wait: impl FnOnce(Patience<'_, Damaged>) -> Result<T, Damaged>) -> Option<T> {
    let mut go_on = || Ok(());
    let (spin, interrupted) = (&mut Spin::default(), Interrupted(&mut go_on));
    let deadline = Deadline::after(Duration::from_millis(1));
    wait(Patience { deadline, spin_ns: 0, spin, interrupted }).ok()
}

fn use_locks(region: &Region, me: Me) -> Result<(), Damaged> {
    let mutex = Mutex::over(region, WORDS_AT)?;
    let _ = (mutex.take_again(me), mutex.release_mine(me), mutex.release_any(), mutex.try_acquire(me));
    briefly(|patience| mutex.acquire(me, patience));
    let _ = (mutex.release_all(), mutex.is_mine(me), mutex.poison());
    Ok(())
}

fn use_signals(region: &Region) -> Result<(), Damaged> {
    let semaphore = Semaphore::over(region, WORDS_AT)?;
    let _ = (semaphore.release(), semaphore.take(), semaphore.value());
    briefly(|patience| semaphore.acquire(patience));
    let event = Event::over(region, WORDS_AT)?;
    event.set();
    event.clear();
    briefly(|patience| event.wait(event.now(), patience));
    Ok(())
}

fn use_condition(region: &Region, me: u64) -> Result<(), Damaged> {
    let condition = Condition::over(region, WORDS_AT, region.length());
    let seat = condition.enrol(me)?;
    condition.call(2)?;
    if let Some(seat) = seat {
        briefly(|patience| condition.wait(seat, me, patience));
        condition.leave(seat)?;
    }
    condition.call_all()?;
    condition.waiting().map(drop)
}

fn use_barrier(region: &Region, me: u64, acts: bool) -> Result<(), Damaged> {
    let barrier = Barrier::over(region, WORDS_AT)?;
    // Its lock may be held by what looks like somebody alive.
    region.word(WORDS_AT)?.store(0, crate::sync::Ordering::Relaxed);
    if let Some(Some(coming)) = briefly(|patience| barrier.come(me, acts, patience)) {
        briefly(|patience| barrier.wait(coming, patience));
        let _ = barrier.complete(me, coming, &mut || Ok::<_, Damaged>(()));
    }
    barrier.retire(me)?;
    barrier.abort();
    barrier.reset(me, &mut || Ok::<_, Damaged>(()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn garbage_is_borne(words in prop::collection::vec((0..BYTES / 8, any::<u64>()), 0..12), small in any::<bool>(), acts in any::<bool>()) {
        let heap = Arc::new(Heap::create(0).unwrap());
        let place = Place::create(&heap, BYTES, 1, 0).unwrap();
        let region = place.region();
        Barrier::make(region, WORDS_AT, PARTIES).unwrap();
        let me = Me::current();
        for (at, word) in words {
            let word = if small { word % 5 } else { word };
            region.word(8 * at).unwrap().store(word, crate::sync::Ordering::Relaxed);
            let _ = use_barrier(region, me.process, acts);
            let _ = use_condition(region, me.process);
            let _ = use_signals(region);
            let _ = use_locks(region, me);
        }
    }
}
