//! What a parent waits for: the replies of its workers, descriptors, kicks; with two seats, a foreground and a background.
//!
//! # Role in the flow
//!
//! A caller in `result()` waits in the foreground, on its own thread, so that a reply crosses no thread. The driver waits in the
//! background for what comes while nobody is in the foreground; while somebody is, it stands by and costs the workers no wake-up.
//!
//! # Invariants
//!
//! INV-WAIT-1: a waiter looks at every ring after it has enrolled and before it sleeps.
//! INV-WAIT-2: enrolled in the background implies that no foreground waiter was active when the enrolment was made, or that it
//! takes the enrolment back (see [`crate::turn`]).
//! INV-WAIT-3: a descriptor is reported once: whoever takes its record out of the list reports it.
//! INV-WAIT-4: every process that rings the bell has a descriptor here that becomes readable when it dies, so that the ring it
//! did not live to make is replaced.
//!
//! # Failure
//!
//! A kick is kept until the seat's waiter has seen it: the next wait returns at once if nobody was waiting.

mod seat;

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seat::{Seat, Seated};

use crate::bell::Bell;
use crate::doorbell::{Role, shared};
use crate::link::{LinkError, ParentLink};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::descriptor::duplicate;
use crate::sys::event::signal_eventfd;
use crate::turn::{StoodBy, Turn};
use crate::wait::Deadline;

/// What a wait came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Tokens of what is ready; none on a time-out or a kick.
    Ready(Vec<u64>),
    /// A signal handler may want to run; then wait again, without spinning.
    Interrupted,
}

/// A link that is watched.
#[derive(Debug, Clone)]
struct Watched {
    token: u64,
    link: Arc<ParentLink>,
}

/// A descriptor that is watched: our own duplicate, so that its number can't come to mean another file.
#[derive(Debug)]
struct Descriptor {
    token: u64,
    key: u64,
    fd: OwnedFd,
}

#[derive(Debug)]
struct Members {
    links: Arc<[Watched]>,
    descriptors: Vec<Descriptor>,
    next_key: u64,
}

/// See the module.
#[derive(Debug)]
pub struct WaitSet {
    bell: Arc<Bell>,
    members: Mutex<Members>,
    /// Counts changes of the links, so that a waiter notices without the lock.
    version: AtomicU64,
    turn: Turn,
    foreground: Seat,
    background: Seat,
}

impl WaitSet {
    /// An empty set whose links ring `bell`.
    ///
    /// # Errors
    ///
    /// The system's: out of descriptors.
    pub fn new(bell: Arc<Bell>) -> io::Result<Self> {
        let members = Members { links: Arc::from([]), descriptors: Vec::new(), next_key: 0 };
        Ok(Self {
            foreground: Seat::new(bell.as_fd())?,
            background: Seat::new(bell.as_fd())?,
            bell,
            members: Mutex::new(members),
            version: AtomicU64::new(0),
            turn: Turn::default(),
        })
    }

    /// Watches the replies of a link.
    ///
    /// # Errors
    ///
    /// [`LinkError::Unfit`] when its worker rings another bell: that would not be heard here.
    pub fn add_link(&self, token: u64, link: Arc<ParentLink>) -> Result<(), LinkError> {
        if !Arc::ptr_eq(link.bell(), &self.bell) {
            return Err(LinkError::Unfit("the link was made with another bell"));
        }
        let mut members = self.members();
        let more = members.links.iter().cloned().chain([Watched { token, link }]);
        members.links = more.collect();
        self.changed();
        Ok(())
    }

    /// Watches a descriptor until it is readable, which is reported once.
    ///
    /// # Errors
    ///
    /// `EBADF`, or `EPERM` when it can't be waited for.
    pub fn add_fd(&self, token: u64, number: RawFd) -> io::Result<()> {
        let fd = duplicate(number)?;
        let mut members = self.members();
        let key = members.next_key;
        self.foreground.epoll.add(fd.as_fd(), key)?;
        if let Err(error) = self.background.epoll.add(fd.as_fd(), key) {
            self.foreground.epoll.remove(fd.as_fd())?;
            return Err(error);
        }
        members.next_key += 1;
        members.descriptors.push(Descriptor { token, key, fd });
        Ok(())
    }

    /// Forgets everything with this token.
    pub fn remove(&self, token: u64) {
        let mut members = self.members();
        if members.links.iter().any(|watched| watched.token == token) {
            let rest = members.links.iter().filter(|watched| watched.token != token).cloned();
            members.links = rest.collect();
            self.changed();
        }
        let gone = members.descriptors.extract_if(.., |descriptor| descriptor.token == token);
        gone.for_each(|descriptor| self.unwatch(&descriptor));
    }

    fn unwatch(&self, descriptor: &Descriptor) {
        // Not there: nothing to be taken out.
        drop(self.foreground.epoll.remove(descriptor.fd.as_fd()));
        drop(self.background.epoll.remove(descriptor.fd.as_fd()));
    }

    fn changed(&self) {
        // Release: pairs with the Acquire in `refresh`. A waiter that sleeps need not know at once of a new link whose worker has not
        // replied; one that has replied has rung, or finds the waiter's enrolment.
        self.version.fetch_add(1, Ordering::Release);
        // It may have replied before it was watched, to a bell that woke a waiter who did not know the link.
        drop(signal_eventfd(self.bell.as_fd()));
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        // A panic while it is held leaves whole lists.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The foreground's first look, cheap enough for holding the GIL: what is ready now, or None. Says that a kick is there, too.
    ///
    /// # Errors
    ///
    /// [`LinkError::Busy`] when another thread waits in the foreground.
    pub fn look(&self) -> Result<Option<Vec<u64>>, LinkError> {
        let mut seated = self.foreground.sit().ok_or(LinkError::Busy)?;
        // Also a look that succeeds keeps the background away: it would be woken for every reply of a busy stream.
        self.come_forward()?;
        let found = self.look_seated(&mut seated);
        self.turn.leave();
        found
    }

    #[inline]
    fn look_seated(&self, seated: &mut Seated) -> Result<Option<Vec<u64>>, LinkError> {
        if self.foreground.take_kick() {
            return Ok(Some(Vec::new()));
        }
        let mut ready = Vec::new();
        self.look_at_links(seated, &mut ready);
        if ready.is_empty() {
            return Ok(None);
        }
        if seated.is_time_for_descriptors() {
            self.look_at_descriptors(&self.foreground, Some(Deadline::PASSED), &mut ready)?;
        }
        Ok(Some(ready))
    }

    /// Waits in the foreground: spins for up to `spin_ns`, then sleeps.
    ///
    /// # Errors
    ///
    /// [`LinkError::Busy`] when another thread waits in the foreground, or the system's.
    pub fn wait(&self, deadline: Deadline, spin_ns: u64) -> Result<Outcome, LinkError> {
        let mut seated = self.foreground.sit().ok_or(LinkError::Busy)?;
        self.come_forward()?;
        let outcome = self.wait_seated(&mut seated, deadline, spin_ns);
        self.turn.leave();
        outcome
    }

    /// Takes the turn; a background waiter that sleeps on the bell is sent to stand by.
    fn come_forward(&self) -> Result<(), LinkError> {
        self.turn.enter();
        let word = self.bell.word()?;
        if shared::is_enrolled(word, Role::Background) {
            shared::withdraw(word, Role::Background);
            self.background.wake()?;
        }
        Ok(())
    }

    fn wait_seated(
        &self,
        seated: &mut Seated,
        deadline: Deadline,
        spin_ns: u64,
    ) -> Result<Outcome, LinkError> {
        let mut ready = Vec::new();
        let mut attempt = seated.spin.begin(spin_ns, deadline);
        if attempt.until(|| self.is_ready(&self.foreground, seated)) {
            seated.spin.succeeded();
            self.look_at_links(seated, &mut ready);
            if !ready.is_empty() {
                return Ok(Outcome::Ready(ready));
            }
        }
        let first_end = deadline.min(attempt.signal_check());
        loop {
            if self.foreground.take_kick() {
                return Ok(Outcome::Ready(Vec::new()));
            }
            if self.sleep(Role::Foreground, seated, first_end, &mut ready)? == Sleep::Interrupted {
                return Ok(Outcome::Interrupted);
            }
            self.look_at_links(seated, &mut ready);
            if !ready.is_empty() || deadline.has_passed() {
                seated.spin.parked(&attempt);
                return Ok(Outcome::Ready(ready));
            }
            if first_end.has_passed() {
                return Ok(Outcome::Interrupted);
            }
        }
    }

    /// Waits in the background; returns what is ready only while nobody waits in the foreground, and nothing some time after the
    /// deadline (it is looked at after each sleep, not while standing by).
    ///
    /// # Errors
    ///
    /// [`LinkError::Busy`] when another thread waits in the background, or the system's.
    pub fn wait_background(&self, deadline: Deadline) -> Result<Outcome, LinkError> {
        let mut seated = self.background.sit().ok_or(LinkError::Busy)?;
        let mut ready = Vec::new();
        loop {
            let woken = self.turn.stand_by(&mut seated.foreground_seen, || self.background.is_kicked())?;
            if self.background.take_kick() {
                return Ok(Outcome::Ready(Vec::new()));
            }
            if woken == StoodBy::Interrupted {
                return Ok(Outcome::Interrupted);
            }
            let slept = self.sleep(Role::Background, &mut seated, deadline, &mut ready)?;
            if slept == Sleep::Interrupted {
                return Ok(Outcome::Interrupted);
            }
            if self.turn.is_taken() && ready.is_empty() {
                continue;
            }
            self.look_at_links(&mut seated, &mut ready);
            if !ready.is_empty() || deadline.has_passed() {
                return Ok(Outcome::Ready(ready));
            }
        }
    }

    /// Enrols, looks again, sleeps (INV-WAIT-1). What the descriptors say goes to `ready`.
    fn sleep(
        &self,
        role: Role,
        seated: &mut Seated,
        deadline: Deadline,
        ready: &mut Vec<u64>,
    ) -> Result<Sleep, LinkError> {
        let word = self.bell.word()?;
        let seat = self.seat(role);
        shared::enrol(word, role);
        // INV-WAIT-2: `enrol` ends with a fence, `Turn::enter` too, so either we see the turn taken or it sees our enrolment.
        if role == Role::Background && self.turn.is_taken() {
            shared::withdraw(word, role);
            return Ok(Sleep::Over);
        }
        if self.is_ready(seat, seated) {
            shared::withdraw(word, role);
            return Ok(Sleep::Over);
        }
        let woken = self.look_at_descriptors(seat, Some(deadline), ready);
        shared::withdraw(word, role);
        match woken {
            Ok(()) => Ok(Sleep::Over),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Sleep::Interrupted),
            Err(error) => Err(error.into()),
        }
    }

    fn seat(&self, role: Role) -> &Seat {
        match role {
            Role::Foreground => &self.foreground,
            Role::Background => &self.background,
        }
    }

    /// Is there a reply, a kick, or a link that the waiter does not know yet?
    #[inline]
    fn is_ready(&self, seat: &Seat, seated: &Seated) -> bool {
        // Relaxed: `refresh` takes the lock before it uses what changed.
        seated.links.iter().any(|watched| watched.link.has_replies())
            || seat.is_kicked()
            || self.version.load(Ordering::Relaxed) != seated.version
    }

    #[inline]
    fn look_at_links(&self, seated: &mut Seated, ready: &mut Vec<u64>) {
        self.refresh(seated);
        let replied = seated.links.iter().filter(|watched| watched.link.has_replies());
        ready.extend(replied.map(|watched| watched.token));
    }

    #[inline]
    fn refresh(&self, seated: &mut Seated) {
        // Acquire: pairs with the Release in `changed`; the lock orders the list itself.
        let version = self.version.load(Ordering::Acquire);
        if version != seated.version {
            seated.links = Arc::clone(&self.members().links);
            seated.version = version;
        }
    }

    /// Sleeps on the seat's descriptors, and reports those that are ready and still watched (INV-WAIT-3).
    fn look_at_descriptors(
        &self,
        seat: &Seat,
        deadline: Option<Deadline>,
        ready: &mut Vec<u64>,
    ) -> io::Result<()> {
        let mut keys = Vec::new();
        seat.epoll.wait(deadline.and_then(Deadline::remaining), &mut keys)?;
        keys.retain(|&key| !seat::is_own_key(key));
        if keys.is_empty() {
            return Ok(());
        }
        let mut members = self.members();
        for descriptor in members.descriptors.extract_if(.., |one| keys.contains(&one.key)) {
            self.unwatch(&descriptor);
            ready.push(descriptor.token);
        }
        Ok(())
    }

    /// The background waiter leaves its stand-by now and looks, unless somebody waits in the foreground.
    pub fn nudge(&self) {
        self.turn.nudge();
    }

    /// Makes both waiters return with nothing: those that wait now, or wait next.
    ///
    /// # Errors
    ///
    /// The system's: none is expected.
    pub fn kick(&self) -> io::Result<()> {
        self.foreground.kick()?;
        self.background.kick()?;
        self.turn.wake();
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Over,
    Interrupted,
}
