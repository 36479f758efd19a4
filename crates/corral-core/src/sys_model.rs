//! The system as a model checker sees it: only what the checked algorithms call.

/// Sleeping on a word, with loom's lock and condition for the kernel's queue.
pub mod futex {
    use std::io;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    use crate::sync::{AtomicU32, Ordering};

    loom::lazy_static! {
        static ref QUEUE: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    /// As the real one's.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Woken {
        /// By a wake-up.
        Notified,
        /// The word didn't hold the expected value.
        Changed,
        /// The time was up.
        TimedOut,
        /// A signal handler ran: never here.
        Interrupted,
    }

    /// Sleeps while `word` holds `expected`; with a time-out, only looks.
    ///
    /// # Errors
    ///
    /// None.
    pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> io::Result<Woken> {
        let (lock, queue) = &*QUEUE;
        // A poisoned lock: the model has failed already.
        let Ok(guard) = lock.lock() else { return Ok(Woken::Notified) };
        // The kernel reads the word under the queue's lock, and no older value than a waker has written before it locks.
        if word.load(Ordering::SeqCst) != expected {
            return Ok(Woken::Changed);
        }
        if timeout.is_some() {
            return Ok(Woken::TimedOut);
        }
        drop(queue.wait(guard));
        Ok(Woken::Notified)
    }

    /// Wakes all sleepers, also those on other words: spurious for them, which they must bear.
    pub fn wake(_word: &AtomicU32, _count: u32) -> u32 {
        let (lock, queue) = &*QUEUE;
        drop(lock.lock());
        queue.notify_all();
        0
    }
}
