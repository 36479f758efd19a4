//! Lock and RLock for Python, and what happens when their holder has died.

use std::sync::OnceLock;

use corral_core::identity::{is_alive, pid_of};
use corral_core::primitives::mutex::{Kind, Me, Mutex};
use corral_core::primitives::place::WORDS_AT;
use corral_core::sync::{AtomicU64, Ordering};
use corral_core::sys::clock::monotonic_ns;
use corral_core::tenure::Got;
use corral_core::wait::Deadline;
use pyo3::exceptions::{PyAssertionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict as _, PyType};

use super::{Housed, Truth, Waiter, damaged, deadline_after, unopened};
use crate::heap::{Heap, heap_error};

const PLAIN_TAG: u64 = u64::from_le_bytes(*b"corralSL");
const RECURSIVE_TAG: u64 = u64::from_le_bytes(*b"corralSR");

/// The options: what to do when a holder has died.
const WARN: u64 = 0;
const RAISE: u64 = 1;
const IGNORE: u64 = 2;

/// A lock in the memory of this process.
pub(crate) struct Held {
    housed: Housed,
    kind: Kind,
    on_death: u64,
    waiter: Waiter,
    /// Who was found alive the last time, and when: asking costs, and some ask without waiting, again and again.
    alive: (AtomicU64, AtomicU64),
}

/// So long nobody who was found alive is asked after again, by who doesn't wait.
const TRUST_NS: u64 = 1_000_000;

impl Held {
    fn open(heap: &Bound<'_, Heap>, reference: Option<u64>, on_death: u64, kind: Kind) -> PyResult<Self> {
        let tag = if kind == Kind::Plain { PLAIN_TAG } else { RECURSIVE_TAG };
        let housed = Housed::with_options(heap, reference, WORDS_AT + Mutex::BYTES, tag, on_death)?;
        let on_death = housed.place.options().map_err(heap_error)?;
        let alive = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { housed, kind, on_death, waiter: Waiter::new(), alive })
    }

    #[inline]
    fn mutex(&self) -> PyResult<Mutex<'_>> {
        Mutex::over(self.housed.place.region(), WORDS_AT).map_err(damaged)
    }

    /// Is it this thread's?
    pub(super) fn is_mine(&self) -> PyResult<bool> {
        Ok(self.mutex()?.is_mine(Me::current()))
    }

    /// Lets go of it altogether, for a condition's waiter that holds it; how many times it was taken.
    pub(super) fn let_go(&self) -> PyResult<u64> {
        Ok(self.mutex()?.release_all())
    }

    /// Takes it again, so many times, after a wait. A first interruption is raised when it is taken, a second one at once.
    ///
    /// What a holder's death means is raised, too, but with the lock taken: who waits on a condition has it afterwards.
    pub(super) fn take_back(&self, py: Python<'_>, depth: u64) -> PyResult<()> {
        let (mutex, me) = (self.mutex()?, Me::current());
        let mut interruption = None;
        while !mutex.take(me) {
            match self.wait(py, mutex, me, Deadline::NEVER) {
                Ok(Some(got)) => {
                    mutex.restore_depth(depth);
                    self.judge(py, mutex, got)?;
                    break;
                }
                Ok(None) => {}
                Err(error) if interruption.is_none() => interruption = Some(error),
                Err(error) => return Err(error),
            }
        }
        mutex.restore_depth(depth);
        if self.on_death == RAISE {
            self.judge(py, mutex, Got::Free)?;
        }
        interruption.map_or(Ok(()), Err)
    }

    #[inline]
    pub(crate) fn acquire(&self, py: Python<'_>, blocks: bool, timeout_s: Option<f64>) -> PyResult<bool> {
        let me = Me::current();
        let mutex = self.mutex()?;
        if (self.kind == Kind::Recursive && mutex.take_again(me)) || mutex.take(me) {
            return self.admit(py, mutex, Got::Free).map(|()| true);
        }
        let deadline = if blocks { deadline_after(timeout_s)? } else { Deadline::PASSED };
        self.acquire_slowly(py, mutex, me, deadline)
    }

    #[cold]
    fn acquire_slowly(&self, py: Python<'_>, mutex: Mutex<'_>, me: Me, deadline: Deadline) -> PyResult<bool> {
        let got = if deadline == Deadline::PASSED {
            self.look(mutex, me)
        } else {
            self.wait(py, mutex, me, deadline)?
        };
        match got {
            Some(got) => self.admit(py, mutex, got).map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes it without waiting, if it is free or its holder is dead.
    fn look(&self, mutex: Mutex<'_>, me: Me) -> Option<Got> {
        let (holder, now) = (mutex.holder(), monotonic_ns());
        // Relaxed: a hint; a wrong pair costs a question, or a millisecond's wrong trust.
        let is_trusted = holder == self.alive.0.load(Ordering::Relaxed)
            && now.saturating_sub(self.alive.1.load(Ordering::Relaxed)) < TRUST_NS;
        if holder == me.process || (holder != 0 && is_trusted) {
            return None;
        }
        let got = mutex.try_acquire(me);
        if got.is_none() {
            self.alive.0.store(holder, Ordering::Relaxed);
            self.alive.1.store(now, Ordering::Relaxed);
        }
        got
    }

    fn wait(&self, py: Python<'_>, mutex: Mutex<'_>, me: Me, deadline: Deadline) -> PyResult<Option<Got>> {
        // Another thread of this process can't let go of it while we hold the GIL.
        let holder = mutex.holder();
        if holder != me.process
            && let Some(got) = Waiter::glance(|| (mutex.holder() == 0 && mutex.take(me)).then_some(Got::Free))
        {
            return Ok(Some(got));
        }
        self.waiter.wait(py, deadline, |patience| mutex.acquire(me, patience))
    }

    /// The lock is ours: may the caller have it?
    #[inline]
    fn admit(&self, py: Python<'_>, mutex: Mutex<'_>, got: Got) -> PyResult<()> {
        if got == Got::Free && self.on_death != RAISE {
            return Ok(());
        }
        let verdict = self.judge(py, mutex, got);
        if verdict.is_err() {
            // `with` will not release it for a caller who got an exception.
            let _ = mutex.release_mine(Me::current());
        }
        verdict
    }

    /// What a death means to whoever holds the lock next.
    #[cold]
    fn judge(&self, py: Python<'_>, mutex: Mutex<'_>, got: Got) -> PyResult<()> {
        match got {
            Got::Free if mutex.poison() == 0 => Ok(()),
            Got::Free => Err(poisoned(py, mutex.poison())),
            Got::Inherited(_) if self.on_death == IGNORE => Ok(()),
            Got::Inherited(dead) if self.on_death == RAISE => {
                mutex.set_poison(dead);
                Err(owner_died(py, dead))
            }
            Got::Inherited(dead) => warn(py, dead),
        }
    }

    #[inline]
    pub(crate) fn release(&self) -> PyResult<()> {
        let mutex = self.mutex()?;
        match self.kind {
            Kind::Plain if mutex.release_any() => Ok(()),
            Kind::Plain => Err(PyValueError::new_err("semaphore or lock released too many times")),
            Kind::Recursive if mutex.release_mine(Me::current()).is_some() => Ok(()),
            Kind::Recursive => {
                Err(PyAssertionError::new_err("attempt to release recursive lock not owned by thread"))
            }
        }
    }

    /// How many times this process holds it.
    fn count(&self) -> PyResult<u64> {
        let mutex = self.mutex()?;
        Ok(if mutex.holder() == Me::current().process { mutex.depth() } else { 0 })
    }

    fn is_locked(&self) -> PyResult<bool> {
        Ok(self.mutex()?.holder() != 0)
    }

    fn owner_pid(&self) -> PyResult<Option<u32>> {
        let holder = self.mutex()?.holder();
        Ok((holder != 0 && is_alive(holder)).then(|| pid_of(holder)))
    }

    /// Declares what the lock guards fit for use, after a death.
    fn clear_poison(&self) -> PyResult<()> {
        self.mutex()?.set_poison(0);
        Ok(())
    }
}

fn error_class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py.import("corral.errors")?.getattr(name)?.cast_into::<PyType>()?)
}

fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    match error_class(py, class) {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}

#[cold]
fn owner_died(py: Python<'_>, dead: u64) -> PyErr {
    let pid = pid_of(dead);
    let message = format!(
        "process {pid} died while it held this lock: what the lock guards may be half-written; \
         clear_poison() declares it fit for use"
    );
    raise(py, "OwnerDied", message)
}

#[cold]
fn poisoned(py: Python<'_>, dead: u64) -> PyErr {
    let pid = pid_of(dead);
    let message = format!(
        "process {pid} died while it held this lock, and nobody has called clear_poison() since: \
         what the lock guards may be half-written"
    );
    raise(py, "LockPoisoned", message)
}

fn warn(py: Python<'_>, dead: u64) -> PyResult<()> {
    let pid = pid_of(dead);
    let message = format!(
        "process {pid} died while it held this lock, which is granted again: what it guards may be half-written"
    );
    let message = std::ffi::CString::new(message)?;
    PyErr::warn(py, error_class(py, "OwnerDiedWarning")?.as_any(), &message, 1)
}

/// The classes have the same methods; a macro, since a native class can't inherit them at no cost.
macro_rules! lock_class {
    ($class:ident, $name:literal, $kind:expr, $number:literal, $doc:literal) => {
        #[doc = $doc]
        #[pyclass(frozen, subclass, name = $name, module = "corral._native")]
        pub(crate) struct $class {
            held: OnceLock<Held>,
        }

        impl $class {
            #[inline]
            pub(crate) fn held(&self) -> PyResult<&Held> {
                self.held.get().ok_or_else(unopened)
            }
        }

        #[pymethods]
        impl $class {
            #[new]
            #[pyo3(signature = (*_args, **_kwargs))]
            fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
                Self { held: OnceLock::new() }
            }

            /// Makes the lock, or finds that of `ref`.
            #[pyo3(signature = (heap, r#ref, on_owner_death = WARN))]
            fn _open(&self, heap: &Bound<'_, Heap>, r#ref: Option<u64>, on_owner_death: u64) -> PyResult<()> {
                let held = Held::open(heap, r#ref, on_owner_death, $kind)?;
                self.held.set(held).map_err(|_| PyValueError::new_err("the lock is initialised already"))
            }

            #[getter]
            fn _heap(&self, py: Python<'_>) -> PyResult<Py<Heap>> {
                Ok(self.held()?.housed.heap.clone_ref(py))
            }

            #[getter]
            fn _ref(&self) -> PyResult<u64> {
                Ok(self.held()?.housed.place.reference())
            }

            #[getter]
            fn _semlock(slf: Py<Self>) -> Py<Self> {
                slf
            }

            #[classattr]
            fn kind() -> u64 {
                $number
            }

            #[classattr]
            fn maxvalue() -> u64 {
                1
            }

            #[pyo3(signature = (block = Truth(true), timeout = None))]
            fn acquire(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<bool> {
                self.held()?.acquire(py, block.0, timeout)
            }

            fn release(&self) -> PyResult<()> {
                self.held()?.release()
            }

            fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
                self.held()?.acquire(py, true, None)
            }

            #[pyo3(signature = (_kind = None, _value = None, _traceback = None))]
            fn __exit__(
                &self,
                _kind: Option<&Bound<'_, PyAny>>,
                _value: Option<&Bound<'_, PyAny>>,
                _traceback: Option<&Bound<'_, PyAny>>,
            ) -> PyResult<()> {
                self.held()?.release()
            }

            fn locked(&self) -> PyResult<bool> {
                self.held()?.is_locked()
            }

            fn clear_poison(&self) -> PyResult<()> {
                self.held()?.clear_poison()
            }

            #[getter]
            fn owner_pid(&self) -> PyResult<Option<u32>> {
                self.held()?.owner_pid()
            }

            fn _is_mine(&self) -> PyResult<bool> {
                self.held()?.is_mine()
            }

            fn _count(&self) -> PyResult<u64> {
                self.held()?.count()
            }

            fn _get_value(&self) -> PyResult<u64> {
                Ok(u64::from(!self.held()?.is_locked()?))
            }

            fn _is_zero(&self) -> PyResult<bool> {
                self.held()?.is_locked()
            }
        }
    };
}

lock_class!(
    Lock,
    "Lock",
    Kind::Plain,
    1,
    "A lock that its holder can't take again, and that anybody may release."
);
lock_class!(
    RLock,
    "RLock",
    Kind::Recursive,
    0,
    "A lock that its holder may take again, and nobody else release."
);

/// Adds the classes to the module.
pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Lock>()?;
    module.add_class::<RLock>()?;
    let policies = [("warn", WARN), ("raise", RAISE), ("ignore", IGNORE)].into_py_dict(module.py())?;
    module.add("ON_OWNER_DEATH", policies)?;
    Ok(())
}
