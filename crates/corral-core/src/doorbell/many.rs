//! A word with any number of sleepers and ringers: the sleepers sleep on the word itself.
//!
//! The lowest bit says that somebody may be asleep, the others count the rings that were answered, so that whoever has enrolled
//! but not yet fallen asleep stays awake. Nothing counts the sleepers: one that is killed costs the next ringer one call in vain.

use crate::steps::step;
use crate::sync::{AtomicU32, Ordering, fence};
use crate::sys::futex;

const ASLEEP: u32 = 1;
const ROUND: u32 = 2;

/// Announces that the caller is about to sleep. It must look again now, and then sleep while the word holds the result.
#[must_use]
pub fn enrol(word: &AtomicU32) -> u32 {
    // Relaxed: the fence orders it before the look that follows.
    let ticket = word.fetch_or(ASLEEP, Ordering::Relaxed) | ASLEEP;
    // SeqCst: pairs with the fence in `ring` (INV-BELL-1).
    fence(Ordering::SeqCst);
    ticket
}

/// After something was made visible: wakes up to `count` of those who sleep, if there may be any.
#[inline]
pub fn ring(word: &AtomicU32, count: u32) {
    // SeqCst: pairs with the fence in `enrol` (INV-BELL-1).
    fence(Ordering::SeqCst);
    // Relaxed: ordered by the fence.
    if word.load(Ordering::Relaxed) & ASLEEP != 0 {
        answer(word, count);
    }
}

#[cold]
fn answer(word: &AtomicU32, count: u32) {
    step!("ring.seen");
    // Relaxed: the fence before orders what was made visible; who enrols on this value has a fence after it.
    let round = word.fetch_add(ROUND, Ordering::Relaxed).wrapping_add(ROUND);
    step!("ring.counted");
    if futex::wake(word, count) < count {
        clear(word, round);
    }
}

/// All who slept are awake: spares the next ringer its call.
fn clear(word: &AtomicU32, round: u32) {
    // Relaxed: who has enrolled since, and not yet fallen asleep, finds another value than its ticket, and looks again.
    if word.compare_exchange(round, round & !ASLEEP, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        step!("ring.cleared");
        // And who has fallen asleep since would not be seen by the next ringer.
        futex::wake(word, u32::MAX);
    }
}
