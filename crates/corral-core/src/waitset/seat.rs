//! Where one waiter sits: its own epoll, its own kick, and what only it may touch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::Watched;
use crate::exclusive::{Entered, Exclusive};
use crate::sync::{AtomicBool, Ordering};
use crate::sys::event::{Epoll, create_eventfd, signal_eventfd};
use crate::wait::Spin;

const BELL_KEY: u64 = u64::MAX;
const KICK_KEY: u64 = u64::MAX - 1;

/// After so many looks that found replies, look at the descriptors as well, or steady traffic would hide a death.
const LOOKS_PER_DESCRIPTORS: u32 = 64;

/// Is this the key of a seat's own descriptors?
pub(super) fn is_own_key(key: u64) -> bool {
    key >= KICK_KEY
}

/// One of the two seats.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) epoll: Epoll,
    waker: OwnedFd,
    kicked: AtomicBool,
    seated: Exclusive<Seated>,
}

/// What belongs to whoever sits.
#[derive(Debug)]
pub(super) struct Seated {
    /// The links as of `version`.
    pub(super) links: Arc<[Watched]>,
    pub(super) version: u64,
    pub(super) spin: Spin,
    pub(super) foreground_seen: u32,
    looks: u32,
}

impl Seated {
    pub(super) fn is_time_for_descriptors(&mut self) -> bool {
        self.looks = self.looks.wrapping_add(1);
        self.looks.is_multiple_of(LOOKS_PER_DESCRIPTORS)
    }
}

impl Seat {
    pub(super) fn new(bell: BorrowedFd<'_>) -> io::Result<Self> {
        let epoll = Epoll::create()?;
        let waker = create_eventfd()?;
        epoll.add_edges(bell, BELL_KEY)?;
        epoll.add_edges(waker.as_fd(), KICK_KEY)?;
        let seated =
            Seated { links: Arc::from([]), version: 0, spin: Spin::default(), foreground_seen: 0, looks: 0 };
        Ok(Self { epoll, waker, kicked: AtomicBool::new(false), seated: Exclusive::new(seated) })
    }

    /// Sits down, or None while somebody sits.
    pub(super) fn sit(&self) -> Option<Entered<'_, Seated>> {
        self.seated.enter()
    }

    /// Wakes whoever sleeps here, to look again.
    pub(super) fn wake(&self) -> io::Result<()> {
        signal_eventfd(self.waker.as_fd())
    }

    /// Has whoever sits (or sits next) return with nothing.
    pub(super) fn kick(&self) -> io::Result<()> {
        // Release: pairs with the Acquire in `take_kick`: what the kicker did before is seen.
        self.kicked.store(true, Ordering::Release);
        self.wake()
    }

    #[inline]
    pub(super) fn is_kicked(&self) -> bool {
        // Relaxed: `take_kick` follows.
        self.kicked.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn take_kick(&self) -> bool {
        // Acquire: pairs with the Release in `kick`.
        self.is_kicked() && self.kicked.swap(false, Ordering::Acquire)
    }
}
