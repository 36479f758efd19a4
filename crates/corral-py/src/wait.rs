//! Bell and WaitSet for Python.
//!
//! # Role in the flow
//!
//! Converts, releases the GIL, maps errors; the algorithms are in `corral_core::waitset`. A wait looks once with the GIL held: what is
//! there already costs no release.

use std::ffi::c_int;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use corral_core::bell::Bell as CoreBell;
use corral_core::waitset::{Outcome, WaitSet as CoreWaitSet};
use pyo3::prelude::*;

use crate::heap::{Heap, heap_error};
use crate::link::{Link, deadline_of, link_error};

/// The parent's doorbell.
#[pyclass(frozen, module = "corral._native")]
pub(crate) struct Bell {
    core: Arc<CoreBell>,
}

impl Bell {
    /// The bell itself, for the other rooms of this crate.
    pub(crate) fn core(&self) -> &Arc<CoreBell> {
        &self.core
    }
}

#[pymethods]
impl Bell {
    #[staticmethod]
    fn create(heap: &Heap) -> PyResult<Self> {
        let core = CoreBell::create(Arc::clone(heap.core())).map_err(heap_error)?;
        Ok(Self { core: Arc::new(core) })
    }

    fn fileno(&self) -> c_int {
        self.core.as_fd().as_raw_fd()
    }
}

/// What the parent of a pool waits for.
#[pyclass(frozen, module = "corral._native")]
pub(crate) struct WaitSet {
    core: CoreWaitSet,
}

#[pymethods]
impl WaitSet {
    #[new]
    fn new(bell: &Bell) -> PyResult<Self> {
        Ok(Self { core: CoreWaitSet::new(Arc::clone(&bell.core))? })
    }

    fn add_link(&self, token: u64, link: &Link) -> PyResult<()> {
        self.core.add_link(token, Arc::clone(link.parent()?)).map_err(link_error)
    }

    fn add_fd(&self, token: u64, fd: c_int) -> PyResult<()> {
        Ok(self.core.add_fd(token, fd)?)
    }

    fn remove(&self, token: u64) {
        self.core.remove(token);
    }

    #[pyo3(signature = (timeout_s, spin_us = 0))]
    fn wait(&self, py: Python<'_>, timeout_s: Option<f64>, spin_us: u64) -> PyResult<Vec<u64>> {
        if let Some(ready) = self.core.look().map_err(link_error)? {
            return Ok(ready);
        }
        let deadline = deadline_of(timeout_s)?;
        let mut spin_ns = spin_us.saturating_mul(1000);
        loop {
            match py.detach(|| self.core.wait(deadline, spin_ns)).map_err(link_error)? {
                Outcome::Ready(ready) => return Ok(ready),
                Outcome::Interrupted => py.check_signals()?,
            }
            spin_ns = 0;
        }
    }

    #[pyo3(signature = (timeout_s = None))]
    fn wait_background(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<Vec<u64>> {
        let deadline = deadline_of(timeout_s)?;
        loop {
            match py.detach(|| self.core.wait_background(deadline)).map_err(link_error)? {
                Outcome::Ready(ready) => return Ok(ready),
                Outcome::Interrupted => py.check_signals()?,
            }
        }
    }

    fn nudge(&self) {
        self.core.nudge();
    }

    fn kick(&self) -> PyResult<()> {
        Ok(self.core.kick()?)
    }
}

/// Adds this room's classes and functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Bell>()?;
    module.add_class::<WaitSet>()?;
    Ok(())
}
