//! The worker's side of a link: receives tasks, replies.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::body::{Arrived, Body, max_inline_bytes, open, push};
use super::{LinkError, Shared, Tag, layout};
use crate::bell::Bell;
use crate::doorbell::single;
use crate::exclusive::Exclusive;
use crate::heap::Heap;
use crate::identity;
use crate::region::{Memory, Region};
use crate::ring::{Consumer, Producer, Ring};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::clock::monotonic_ns;
use crate::sys::futex::Woken;
use crate::wait::{Deadline, Spin};

/// The phase that begins when a frame has been taken.
const DECODING: u64 = 1;

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Look again.
    Ready,
    /// The time is up.
    TimedOut,
    /// A signal handler may want to run.
    Interrupted,
}

/// The worker's side.
#[derive(Debug)]
pub struct WorkerLink {
    pub(super) shared: Shared,
    bell: Bell,
    incoming: Exclusive<Consumer<Region>>,
    outgoing: Exclusive<Producer<Region>>,
    waiting: Exclusive<Spin>,
    /// To look at while waiting.
    tasks: Ring<Region>,
    spin_ns: AtomicU64,
    taken_at_ns: AtomicU64,
}

impl WorkerLink {
    /// Attaches to the link in block `reference`; `event` is the parent's bell's.
    ///
    /// # Errors
    ///
    /// [`LinkError::Damaged`] when the block is no link.
    pub fn attach(heap: Arc<Heap>, reference: u64, event: OwnedFd) -> Result<Self, LinkError> {
        let shared = Shared::attach(heap, reference)?;
        let bell = shared.region.word(layout::BELL_AT)?.load(Ordering::Relaxed);
        let bell = Bell::attach(Arc::clone(&shared.heap), bell, event)?;
        shared.sign_in()?;
        let tasks = Ring::new(shared.region, shared.forward())?;
        let replies = Ring::new(shared.region, shared.back())?;
        Ok(Self {
            shared,
            bell,
            incoming: Exclusive::new(Consumer::new(tasks)),
            outgoing: Exclusive::new(Producer::new(replies)),
            waiting: Exclusive::new(Spin::default()),
            tasks,
            spin_ns: AtomicU64::new(0),
            taken_at_ns: AtomicU64::new(0),
        })
    }

    /// What names the link in every process of the tree.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.shared.reference
    }

    /// The heap its blocks are of.
    #[must_use]
    pub fn heap(&self) -> &Arc<Heap> {
        &self.shared.heap
    }

    /// The longest body that travels as bytes; a longer one is a block's.
    #[must_use]
    pub fn max_inline_bytes(&self) -> usize {
        max_inline_bytes(&self.tasks)
    }

    /// For how long to spin before parking, at most.
    pub fn set_spin_ns(&self, spin_ns: u64) {
        // Relaxed: a number.
        self.spin_ns.store(spin_ns, Ordering::Relaxed);
    }

    /// See [`Self::set_spin_ns`].
    #[must_use]
    pub fn spin_ns(&self) -> u64 {
        self.spin_ns.load(Ordering::Relaxed)
    }

    /// Nanoseconds since a frame was last taken (or since the machine started).
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        // Relaxed: written by this process; a watcher thread wants about the time.
        monotonic_ns().saturating_sub(self.taken_at_ns.load(Ordering::Relaxed))
    }

    /// Takes the next frame and gives it to `sink`; None while there is none.
    ///
    /// # Errors
    ///
    /// [`LinkError::Damaged`] when frame or block can't be; a frame that was taken is gone then.
    #[inline]
    pub fn try_receive<R>(&self, sink: impl FnOnce(Tag, Arrived<'_>) -> R) -> Result<Option<R>, LinkError> {
        let mut incoming = self.incoming.enter().ok_or(LinkError::Busy)?;
        let Some(frame) = incoming.next_taken()? else { return Ok(None) };
        // Relaxed: see `elapsed_ns`.
        self.taken_at_ns.store(monotonic_ns(), Ordering::Relaxed);
        self.enter(DECODING)?;
        let label = frame.label;
        let tag = Tag { kind: label.kind, id: label.id, aux: label.aux };
        // INV-LINK-1: adopted first, released afterwards.
        let result = open(&self.shared.heap, incoming.ring(), frame).map(|body| sink(tag, body));
        incoming.advance(&frame);
        incoming.publish()?;
        result.map(Some)
    }

    /// Waits until there may be a frame: spins a little if `may_spin`, then parks.
    ///
    /// # Errors
    ///
    /// [`LinkError::Busy`] when another thread waits, or the system's.
    pub fn wait_frames(&self, deadline: Deadline, may_spin: bool) -> Result<Waited, LinkError> {
        let mut spin = self.waiting.enter().ok_or(LinkError::Busy)?;
        let ready = || self.tasks.has_frames().unwrap_or(true);
        let limit_ns = if may_spin { self.spin_ns() } else { 0 };
        let mut attempt = spin.begin(limit_ns, deadline);
        if attempt.until(ready) {
            spin.succeeded();
            return Ok(Waited::Ready);
        }
        let first_end = deadline.min(attempt.signal_check());
        let waited = self.park(layout::FRAMES_WORD_AT, first_end, ready)?;
        if waited == Waited::TimedOut && !deadline.has_passed() {
            return Ok(Waited::Interrupted);
        }
        spin.parked(&attempt);
        Ok(waited)
    }

    /// Sends a frame to the parent and rings its bell; false while there is no room.
    ///
    /// # Errors
    ///
    /// [`LinkError`] of any kind; nothing was sent then, unless the system refuses to ring (it has no reason to).
    #[inline]
    pub fn try_reply(&self, tag: Tag, body: Body<'_>) -> Result<bool, LinkError> {
        let mut outgoing = self.outgoing.enter().ok_or(LinkError::Busy)?;
        let sent = push(&mut outgoing, tag, body)?.is_some();
        if sent {
            self.bell.ring()?;
        }
        Ok(sent)
    }

    /// Waits until there may be room for a body of `body_bytes`.
    ///
    /// # Errors
    ///
    /// [`LinkError::Busy`] when another thread replies, or the system's.
    pub fn wait_room(&self, body_bytes: usize) -> Result<Waited, LinkError> {
        let mut outgoing = self.outgoing.enter().ok_or(LinkError::Busy)?;
        self.park(layout::ROOM_WORD_AT, Deadline::NEVER, || !matches!(outgoing.claim(body_bytes), Ok(None)))
    }

    fn park(
        &self,
        word_at: usize,
        deadline: Deadline,
        ready: impl FnMut() -> bool,
    ) -> Result<Waited, LinkError> {
        let woken = single::sleep(self.shared.half(word_at)?, || deadline.remaining(), ready)?;
        Ok(match woken {
            Woken::Interrupted => Waited::Interrupted,
            Woken::TimedOut => Waited::TimedOut,
            Woken::Notified | Woken::Changed => Waited::Ready,
        })
    }
}

impl Drop for WorkerLink {
    fn drop(&mut self) {
        if let Ok(word) = self.shared.region.word(layout::WORKER_AT) {
            // Release: pairs with the Acquire in `ParentLink::has_live_worker`: our last access comes before. A forked child's copy changes nothing.
            let me = identity::current();
            let _ = word.compare_exchange(me, 0, Ordering::Release, Ordering::Relaxed);
        }
    }
}
