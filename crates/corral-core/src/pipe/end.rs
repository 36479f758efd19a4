//! One end of a pipe, as one of the processes that hold it sees it.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::bell;
use super::layout::{self, Side};
use crate::channel::layout::OBJECT;
use crate::channel::{Bounds, Channel, ChannelError, Item, Sink, Taken, Waiting};
use crate::exclusive::Exclusive;
use crate::heap::{Heap, HeapError};
use crate::identity;
use crate::park::LONGEST_NAP;
use crate::region::{Damaged, Memory, Region};
use crate::steps::step;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crate::sys::clock::coarse_ns;
use crate::sys::socket::{self, Input, Passed};
use crate::wait::{Deadline, Spin};

/// The first sleep of a receiver; the next ones grow up to [`LONGEST_NAP`].
const FIRST_NAP: Duration = Duration::from_millis(5);
const NAP_GROWTH: u32 = 4;
/// A receiver that has slept so often (about a second) hands back the pages that large messages have left.
const NAPS_TO_IDLE: u32 = 12;
const IDLE: Duration = Duration::from_millis(500);

/// Deaths of children that this process has noticed: senders then look whether their peer was among them.
static DEATHS: AtomicU32 = AtomicU32::new(0);

/// Says that a child of this process has died.
pub fn notice_death() {
    // Relaxed: the death, seen through the kernel, is before this; senders of other threads look by and by.
    DEATHS.fetch_add(1, Ordering::Relaxed);
}

/// Why an operation on an end failed.
#[derive(Debug)]
pub enum PipeError {
    /// The peer is closed, in every process: nobody can read what is sent.
    Broken,
    /// This end can't do that: it only reads, or only writes.
    OneWay,
    /// The channel's, or the heap's.
    Channel(ChannelError),
    /// The system's.
    System(io::Error),
}

impl From<ChannelError> for PipeError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl From<Damaged> for PipeError {
    fn from(error: Damaged) -> Self {
        Self::Channel(error.into())
    }
}

impl From<HeapError> for PipeError {
    fn from(error: HeapError) -> Self {
        Self::Channel(error.into())
    }
}

impl From<io::Error> for PipeError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// How waiting for a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// There is one, unless another receiver takes it first.
    Ready,
    /// There is none, and there never will be: the peer is closed.
    Ended,
    /// The time is up.
    TimedOut,
}

/// Makes a pipe in `heap`, which should be its own: its block, and the two ends' sockets. The first end only reads unless `duplex`.
///
/// # Errors
///
/// The heap's, or the system's when it is out of descriptors.
pub fn create(
    heap: &Arc<Heap>,
    duplex: bool,
    capacity_bytes: u64,
) -> Result<(u64, OwnedFd, OwnedFd), PipeError> {
    let me = identity::current();
    let sockets = socket::create_pair()?;
    let block = heap.alloc(layout::BYTES)?;
    let region = block_region(heap, block.reference)?;
    for offset in (0..layout::BYTES).step_by(8) {
        // Relaxed, here and below: others learn of the pipe by the passing of a descriptor, which orders all this before.
        region.word(offset)?.store(0, Ordering::Relaxed);
    }
    let bounds = Bounds { items: 0, bytes: capacity_bytes };
    let writers: &[Side] = if duplex { &[Side::First, Side::Second] } else { &[Side::Second] };
    for side in writers {
        let channel = Channel::create(Arc::clone(heap), bounds)?;
        region.word(side.outgoing_at())?.store(channel.reference(), Ordering::Relaxed);
    }
    region.word(layout::MAGIC_AT)?.store(layout::MAGIC, Ordering::Relaxed);
    heap.adopt_as(OBJECT, block.reference, me)?;
    Ok((block.reference, sockets.0, sockets.1))
}

/// An end. Any thread may use it, and a forked child its parent's.
#[derive(Debug)]
pub struct End {
    heap: Arc<Heap>,
    reference: u64,
    region: Region,
    side: Side,
    /// Dropped by hand, before the others are told.
    socket: ManuallyDrop<OwnedFd>,
    outgoing: Option<Channel>,
    incoming: Option<Channel>,
    spin_ns: AtomicU64,
    spin: Exclusive<Spin>,
    /// When the peer was last looked at, and how many closes and deaths were known then.
    checked_ns: AtomicU64,
    checked_counts: AtomicU64,
}

impl End {
    /// The end `side` of the pipe in block `reference`.
    ///
    /// # Errors
    ///
    /// Damage, when there is none.
    pub fn attach(
        heap: Arc<Heap>,
        reference: u64,
        side: Side,
        socket: OwnedFd,
        spin_ns: u64,
    ) -> Result<Self, PipeError> {
        let region = block_region(&heap, reference)?;
        // Relaxed: see `create`.
        if region.length() < layout::BYTES
            || region.word(layout::MAGIC_AT)?.load(Ordering::Relaxed) != layout::MAGIC
        {
            return Err(ChannelError::Damaged("the block is no pipe").into());
        }
        let channel = |side: Side| -> Result<Option<Channel>, PipeError> {
            let reference = region.word(side.outgoing_at())?.load(Ordering::Relaxed);
            if reference == 0 {
                return Ok(None);
            }
            let channel = Channel::attach(Arc::clone(&heap), reference)?;
            channel.set_spin_ns(spin_ns);
            Ok(Some(channel))
        };
        let (outgoing, incoming) = (channel(side)?, channel(side.peer())?);
        Ok(Self {
            heap,
            reference,
            region,
            side,
            socket: ManuallyDrop::new(socket),
            outgoing,
            incoming,
            spin_ns: AtomicU64::new(spin_ns),
            spin: Exclusive::new(Spin::default()),
            checked_ns: AtomicU64::new(0),
            checked_counts: AtomicU64::new(u64::MAX),
        })
    }

    /// What names the pipe in every process that has its heap.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.reference
    }

    /// Which end it is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// The heap its blocks are of.
    #[must_use]
    pub fn heap(&self) -> &Arc<Heap> {
        &self.heap
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Can it receive?
    #[must_use]
    pub fn reads(&self) -> bool {
        self.incoming.is_some()
    }

    /// Can it send?
    #[must_use]
    pub fn writes(&self) -> bool {
        self.outgoing.is_some()
    }

    fn outgoing(&self) -> Result<&Channel, PipeError> {
        self.outgoing.as_ref().ok_or(PipeError::OneWay)
    }

    fn incoming(&self) -> Result<&Channel, PipeError> {
        self.incoming.as_ref().ok_or(PipeError::OneWay)
    }

    fn half(&self, offset: usize) -> Result<&AtomicU32, Damaged> {
        self.region.half(offset)
    }

    // --- sending ----------------------------------------------------------------------------------------

    /// Sends a message if that can be done at once; false: no room, or another sender is inside.
    ///
    /// # Errors
    ///
    /// [`PipeError::Broken`], or the channel's; nothing was sent then.
    #[inline]
    pub fn try_send(&self, item: Item<'_>) -> Result<bool, PipeError> {
        let channel = self.outgoing()?;
        self.check_peer()?;
        let mut rung = Ok(Passed::Done);
        let sent = channel.try_send_with(item, || rung = self.ring())?;
        Self::heard(rung)?;
        Ok(sent)
    }

    /// Sends a message, waiting for room; false: none in time. `interrupted` is asked whenever a signal may have arrived.
    ///
    /// # Errors
    ///
    /// As [`Self::try_send`], and what `interrupted` returns.
    pub fn send<E: From<PipeError> + From<ChannelError>>(
        &self,
        item: Item<'_>,
        deadline: Deadline,
        interrupted: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        let channel = self.outgoing()?;
        self.check_peer()?;
        let mut interrupted = || -> Result<(), E> {
            self.look_at_peer()?;
            interrupted()
        };
        let mut rung = Ok(Passed::Done);
        let mut waiting = Waiting { deadline, interrupted: &mut interrupted };
        let sent = channel.send_with(item, &mut waiting, || rung = self.ring())?;
        Self::heard(rung)?;
        Ok(sent)
    }

    /// Rings the peer's bell, in the writing turn.
    #[inline]
    fn ring(&self) -> Result<Passed, PipeError> {
        let word = self.half(self.side.peer().bell_at())?;
        let rung =
            bell::ring(word, || socket::has_unread(self.socket()), || socket::send_byte(self.socket()))?;
        Ok(rung.unwrap_or(Passed::Done))
    }

    fn heard(rung: Result<Passed, PipeError>) -> Result<(), PipeError> {
        if rung? == Passed::Ended { Err(PipeError::Broken) } else { Ok(()) }
    }

    /// Finds out whether the peer is closed, if there is a reason to look: a close, a death, or that some milliseconds have passed.
    #[inline]
    fn check_peer(&self) -> Result<(), PipeError> {
        // Acquire: pairs with the Release in `drop` (INV-PIPE-2).
        let closes = self.half(self.side.peer().closes_at())?.load(Ordering::Acquire);
        let counts = u64::from(closes) << 32 | u64::from(DEATHS.load(Ordering::Relaxed));
        let now_ns = coarse_ns();
        // Relaxed: two threads that look both do no harm.
        if self.checked_ns.load(Ordering::Relaxed) == now_ns
            && self.checked_counts.load(Ordering::Relaxed) == counts
        {
            return Ok(());
        }
        self.look_at_peer()?;
        self.checked_ns.store(now_ns, Ordering::Relaxed);
        self.checked_counts.store(counts, Ordering::Relaxed);
        Ok(())
    }

    /// The end was read: the next sender has to look, however short ago another did.
    fn expect_nobody(&self) {
        self.checked_ns.store(0, Ordering::Relaxed);
    }

    fn look_at_peer(&self) -> Result<(), PipeError> {
        if socket::is_hung_up(self.socket())? { Err(PipeError::Broken) } else { Ok(()) }
    }

    // --- receiving --------------------------------------------------------------------------------------

    /// Is there a message?
    #[inline]
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.incoming.as_ref().is_some_and(|channel| channel.length() != 0)
    }

    /// Is there a message, or never to be one again? Doesn't wait.
    ///
    /// # Errors
    ///
    /// The system's, or [`PipeError::OneWay`].
    pub fn is_ready(&self) -> Result<bool, PipeError> {
        self.incoming()?;
        if self.has_message() {
            return Ok(true);
        }
        let ended = socket::is_hung_up(self.socket())?;
        if ended {
            self.expect_nobody();
        }
        Ok(ended)
    }

    /// Receives a message if that can be done at once; None: there is none, or another receiver is inside.
    ///
    /// # Errors
    ///
    /// The channel's.
    #[inline]
    pub fn try_recv(&self, sink: &mut impl Sink) -> Result<Option<Taken>, PipeError> {
        Ok(self.incoming()?.try_recv(sink)?)
    }

    /// As [`Self::try_recv`], but waits while another receiver is inside, and then returns None, too.
    ///
    /// # Errors
    ///
    /// The channel's.
    pub fn recv_in_turn(&self, sink: &mut impl Sink, deadline: Deadline) -> Result<Option<Taken>, PipeError> {
        let mut interrupted = || Err(Contended::Waited);
        let mut waiting = Waiting { deadline, interrupted: &mut interrupted };
        match self.incoming()?.recv(sink, &mut waiting) {
            Ok(taken) => Ok(taken),
            Err(Contended::Waited) => Ok(None),
            Err(Contended::Channel(error)) => Err(error.into()),
        }
    }

    /// Waits until there is a message to receive.
    ///
    /// # Errors
    ///
    /// The system's, and what `interrupted` returns, which is asked after each sleep that no message ended.
    pub fn wait<E: From<PipeError> + From<ChannelError>>(
        &self,
        deadline: Deadline,
        interrupted: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<Waited, E> {
        self.incoming()?;
        let mut spin = self.spin.enter();
        let mut alone = Spin::default();
        let limit_ns = if spin.is_some() { self.spin_ns.load(Ordering::Relaxed) } else { 0 };
        let spin = spin.as_deref_mut().unwrap_or(&mut alone);
        let mut attempt = spin.begin(limit_ns, deadline);
        if attempt.until(|| self.has_message()) {
            spin.succeeded();
            return Ok(Waited::Ready);
        }
        let (mut nap, mut naps) = (FIRST_NAP, 0_u32);
        let mut stray = false;
        loop {
            if (stray || !self.is_quiet()) && !self.mute(stray, deadline, interrupted)? {
                return Ok(Waited::TimedOut);
            }
            if self.has_message() {
                spin.parked(&attempt);
                return Ok(Waited::Ready);
            }
            let span = deadline.remaining().map_or(nap, |left| left.min(nap));
            let input = socket::wait_input(self.socket(), Some(span)).map_err(PipeError::from)?;
            if self.has_message() {
                spin.parked(&attempt);
                return Ok(Waited::Ready);
            }
            stray = input == Input::Readable;
            match input {
                Input::HungUp if self.has_message() => return Ok(Waited::Ready),
                Input::HungUp => {
                    self.expect_nobody();
                    return Ok(Waited::Ended);
                }
                Input::TimedOut if deadline.has_passed() => return Ok(Waited::TimedOut),
                Input::TimedOut => {
                    nap = (nap * NAP_GROWTH).min(LONGEST_NAP);
                    naps = naps.saturating_add(1);
                    if naps == NAPS_TO_IDLE {
                        // Damage will be met by who looks for a message.
                        drop(self.heap.trim(IDLE));
                    }
                    interrupted()?;
                }
                Input::Interrupted => interrupted()?,
                Input::Readable => {}
            }
        }
    }

    /// Takes the byte off the socket if there is no message: whoever then sleeps on it is woken by the next. False: not in time.
    ///
    /// `stray`: the socket was readable without a message, so that a byte that isn't ours may have to go.
    ///
    /// # Errors
    ///
    /// The system's, and what `interrupted` returns.
    pub fn mute<E: From<PipeError> + From<ChannelError>>(
        &self,
        stray: bool,
        deadline: Deadline,
        interrupted: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<bool, E> {
        let channel = self.incoming()?;
        let mut waiting = Waiting { deadline, interrupted };
        Ok(channel.in_turn(&mut waiting, || self.mute_in_turn(channel, stray))?.is_some())
    }

    /// As [`Self::mute`], if that can be done at once.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn try_mute(&self) -> Result<bool, PipeError> {
        let channel = self.incoming()?;
        Ok(channel.try_in_turn(|| self.mute_in_turn(channel, false))?.is_some())
    }

    fn mute_in_turn(&self, channel: &Channel, stray: bool) -> Result<(), ChannelError> {
        if channel.length() != 0 {
            return Ok(());
        }
        let word = self.half(self.side.bell_at())?;
        bell::mute(word, stray, || socket::take_byte(self.socket()))
            .map_err(|error| ChannelError::Heap(error.into()))
    }

    /// Is there no byte to take off before a sleep? Who is just about to put one in then wakes the sleeper.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        // Relaxed: QUIET is written in the writing turn only, with no message there; what came since is seen by the look that follows.
        self.half(self.side.bell_at()).is_ok_and(|word| word.load(Ordering::Relaxed) == bell::QUIET)
    }

    /// Has the receiver that has just taken a message to [`Self::mute`]: does somebody go by the socket, and is it the last?
    #[inline]
    #[must_use]
    pub fn must_mute(&self) -> bool {
        // SeqCst: pairs with the fence in `be_exact`: whoever takes the last message sees the word, or the other one sees it taken.
        fence(Ordering::SeqCst);
        let exact = self.half(self.side.exact_at()).is_ok_and(|word| word.load(Ordering::Relaxed) != 0);
        exact && !self.has_message()
    }

    /// From now on the socket is readable if and only if there is a message or the peer is closed: [`Self::mute`] once, after this.
    ///
    /// # Errors
    ///
    /// Damage.
    pub fn be_exact(&self) -> Result<(), PipeError> {
        let word = self.half(self.side.exact_at())?;
        if word.load(Ordering::Relaxed) == 0 {
            word.store(1, Ordering::Relaxed);
            step!("pipe.exact");
        }
        // SeqCst: pairs with the fence in `must_mute`.
        fence(Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // SAFETY: INV-SYS-2: dropped here alone, and never used again.
        unsafe { ManuallyDrop::drop(&mut self.socket) };
        step!("pipe.closed");
        if let Ok(word) = self.half(self.side.closes_at()) {
            // Release: pairs with the Acquire in `check_peer` (INV-PIPE-2).
            word.fetch_add(1, Ordering::Release);
        }
    }
}

/// How a turn was not got at once.
enum Contended {
    Waited,
    Channel(ChannelError),
}

impl From<ChannelError> for Contended {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

fn block_region(heap: &Heap, reference: u64) -> Result<Region, PipeError> {
    let (start, length) = heap.slice(reference)?;
    // SAFETY: INV-REGION-1: the block lies in the mapping; an `End` keeps the heap beside its region.
    let region = unsafe { Region::new(start, length) };
    Ok(region.ok_or(Damaged("a block is not aligned"))?)
}
