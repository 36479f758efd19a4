//! Channel for Python.
//!
//! # Role in the flow
//!
//! Converts, releases the GIL, maps errors; the algorithms are in `corral_core::channel`. What can be done at once is done with the
//! GIL held; whoever has to wait, or to copy much, releases it for the whole operation. Nothing of Python's runs while a
//! tenure is held.

use std::ffi::c_int;
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, OnceLock};

use corral_core::channel::layout::MAX_INLINE_BYTES;
use corral_core::channel::{Bounds, Channel as CoreChannel, ChannelError, Item, Taken, Waiting, pack};
use corral_core::heap::BlockRef;
use corral_core::sys::descriptor::duplicate;
use corral_core::sys::event::create_eventfd;
use corral_core::wait::Deadline;
use pyo3::exceptions::{PyBrokenPipeError, PyEOFError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::away::{away, check_signals};
use crate::buffer::Pinned;
use crate::heap::{Block, Heap, heap_error};
use crate::link::deadline_of;

/// Copies of more bytes than this are made with the GIL released.
const LONG_COPY_BYTES: usize = 64 << 10;
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;
/// As long as waking somebody takes: whoever waits no longer is spared that.
const SPIN_US: u64 = 50;
/// Nobody has said, or found out, how long to spin.
const UNKNOWN_SPIN: u64 = u64::MAX;
/// Items taken at once, at most: so many stay in the hands of one process that dies.
pub(crate) const MOST_AT_ONCE: u64 = 1 << 16;

/// An error on the way between core and interpreter.
pub(crate) enum Failure {
    Channel(ChannelError),
    Python(PyErr),
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

impl Failure {
    pub(crate) fn sending(self) -> PyErr {
        match self {
            Self::Channel(ChannelError::Closed) => PyBrokenPipeError::new_err("the channel is closed"),
            other => other.receiving(),
        }
    }

    pub(crate) fn receiving(self) -> PyErr {
        match self {
            Self::Python(error) => error,
            Self::Channel(ChannelError::Closed) => PyEOFError::new_err("the channel is closed and empty"),
            Self::Channel(ChannelError::Heap(error)) => heap_error(error),
            Self::Channel(error) => PyValueError::new_err(error.to_string()),
        }
    }
}

/// Items from any number of producers to any number of consumers, in order.
#[pyclass(frozen, module = "corral._native")]
pub(crate) struct Channel {
    core: Arc<CoreChannel>,
}

impl Channel {
    fn over(core: CoreChannel) -> Self {
        core.set_spin_ns(UNKNOWN_SPIN);
        Self { core: Arc::new(core) }
    }

    /// The channel itself, for the other rooms of this crate.
    pub(crate) fn core(&self) -> &Arc<CoreChannel> {
        &self.core
    }
}

/// Does what has to wait, without the GIL.
pub(crate) fn waiting<T: Send>(
    core: &CoreChannel,
    py: Python<'_>,
    deadline: Deadline,
    operation: impl FnOnce(&CoreChannel, &mut Waiting<'_, Failure>) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    learn_to_spin(core);
    away(py, || {
        let mut interrupted = || check_signals().map_err(Failure::Python);
        operation(core, &mut Waiting { deadline, interrupted: &mut interrupted })
    })
}

/// Who waits for the first time spins if there is a processor for it.
fn learn_to_spin(core: &CoreChannel) {
    static SPIN_NS: OnceLock<u64> = OnceLock::new();
    if core.spin_ns() == UNKNOWN_SPIN {
        let spin_ns = SPIN_NS.get_or_init(|| {
            let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            if processors > 1 { SPIN_US * NANOSECONDS_PER_MICROSECOND } else { 0 }
        });
        core.set_spin_ns(*spin_ns);
    }
}

/// Sends an item; false: no room in time.
#[inline]
pub(crate) fn send_item(
    core: &CoreChannel,
    py: Python<'_>,
    item: Item<'_>,
    deadline: impl FnOnce() -> PyResult<Deadline>,
) -> PyResult<bool> {
    if core.try_send(item).map_err(|error| Failure::Channel(error).sending())? {
        return Ok(true);
    }
    let deadline = deadline()?;
    waiting(core, py, deadline, |core, waiting| core.send(item, waiting)).map_err(Failure::sending)
}

/// Sends a message in a block; false: no room in time.
pub(crate) fn send_parts(
    core: &CoreChannel,
    py: Python<'_>,
    parts: &[&[u8]],
    deadline: impl FnOnce() -> PyResult<Deadline>,
) -> PyResult<bool> {
    let block = pack_parts(core, py, parts)?;
    let sent = send_item(core, py, Item::Block(block), deadline);
    if !matches!(sent, Ok(true)) {
        // Still ours: nobody has seen it.
        drop(core.heap().free(block.reference));
    }
    sent
}

/// Copies a message into a block.
pub(crate) fn pack_parts(core: &CoreChannel, py: Python<'_>, parts: &[&[u8]]) -> PyResult<BlockRef> {
    let is_long = parts.iter().map(|part| part.len()).sum::<usize>() > LONG_COPY_BYTES;
    let pack = || pack(core.heap(), parts);
    let packed = if is_long { away(py, pack) } else { pack() };
    packed.map_err(|error| Failure::Channel(error).sending())
}

fn to_python<'py>(
    core: &CoreChannel,
    py: Python<'py>,
    taken: Taken,
    bytes: &[u8],
) -> PyResult<Bound<'py, PyAny>> {
    match taken {
        Taken::Bytes(_) => Ok(PyBytes::new(py, bytes).into_any()),
        Taken::Block(block) => Ok(Bound::new(py, Block::new(Arc::clone(core.heap()), block))?.into_any()),
    }
}

#[pymethods]
impl Channel {
    #[staticmethod]
    #[pyo3(signature = (heap, *, max_items = 0, capacity_bytes = 0, pollable = false, counted = false))]
    fn create(
        heap: &Heap,
        max_items: u64,
        capacity_bytes: u64,
        pollable: bool,
        counted: bool,
    ) -> PyResult<Self> {
        let bounds = Bounds { items: max_items, bytes: capacity_bytes };
        let core = CoreChannel::create(Arc::clone(heap.core()), bounds);
        let mut core = core.map_err(|error| Failure::Channel(error).sending())?;
        if counted {
            core.count_holders().map_err(|error| Failure::Channel(error).sending())?;
        }
        Ok(Self::over(if pollable { core.with_event(create_eventfd()?) } else { core }))
    }

    #[staticmethod]
    #[pyo3(signature = (heap, r#ref, event_fd = None))]
    fn attach(heap: &Heap, r#ref: u64, event_fd: Option<c_int>) -> PyResult<Self> {
        let event = event_fd.map(duplicate).transpose()?;
        let core = CoreChannel::attach(Arc::clone(heap.core()), r#ref);
        let core = core.map_err(|error| Failure::Channel(error).receiving())?;
        Ok(Self::over(match event {
            Some(event) => core.with_event(event),
            None => core,
        }))
    }

    #[getter]
    fn event_fd(&self) -> Option<c_int> {
        self.core.event().map(|event| event.as_raw_fd())
    }

    fn fileno(&self) -> PyResult<c_int> {
        let event = self.core.poll_event().map_err(|error| Failure::Channel(error).receiving())?;
        Ok(event.as_raw_fd())
    }

    #[getter]
    fn r#ref(&self) -> u64 {
        self.core.reference()
    }

    #[pyo3(signature = (payload, buffers = None, timeout_s = None))]
    fn send(
        &self,
        py: Python<'_>,
        payload: &Bound<'_, PyAny>,
        buffers: Option<&Bound<'_, PyAny>>,
        timeout_s: Option<f64>,
    ) -> PyResult<bool> {
        let buffers = pin_all(buffers)?;
        if let Ok(payload) = payload.cast::<PyBytes>() {
            return send(&self.core, py, payload.as_bytes(), &buffers, timeout_s);
        }
        let payload = Pinned::new(payload)?;
        send(&self.core, py, payload.bytes(), &buffers, timeout_s)
    }

    #[pyo3(signature = (timeout_s = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout_s: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut bytes = Vec::new();
        let mut taken =
            self.core.try_recv(&mut bytes).map_err(|error| Failure::Channel(error).receiving())?;
        if taken.is_none() {
            let deadline = deadline_of(timeout_s)?;
            let received = waiting(&self.core, py, deadline, |core, waiting| core.recv(&mut bytes, waiting));
            taken = received.map_err(Failure::receiving)?;
        }
        taken.map(|taken| to_python(&self.core, py, taken, &bytes)).transpose()
    }

    #[pyo3(signature = (limit, timeout_s = None))]
    fn recv_many<'py>(
        &self,
        py: Python<'py>,
        limit: u64,
        timeout_s: Option<f64>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        let deadline = deadline_of(timeout_s)?;
        let limit = limit.min(MOST_AT_ONCE);
        if limit > 0 {
            let received = waiting(&self.core, py, deadline, |core, waiting| {
                core.recv_many(limit, &mut bytes, &mut |taken| found.push(taken), waiting)
            });
            received.map_err(Failure::receiving)?;
        }
        let items = PyList::empty(py);
        let mut start = 0;
        for taken in found {
            let end = if let Taken::Bytes(length) = taken { start + length } else { start };
            items.append(to_python(&self.core, py, taken, bytes.get(start..end).unwrap_or_default())?)?;
            start = end;
        }
        Ok(items)
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.core.length()).unwrap_or(usize::MAX)
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn full(&self) -> bool {
        self.core.is_full()
    }

    #[getter]
    fn closed(&self) -> bool {
        self.core.is_closed()
    }

    fn close(&self) -> PyResult<()> {
        self.core.close().map_err(|error| Failure::Channel(error).sending())
    }

    #[getter]
    fn spin_us(&self) -> u64 {
        learn_to_spin(&self.core);
        self.core.spin_ns() / NANOSECONDS_PER_MICROSECOND
    }

    #[setter]
    fn set_spin_us(&self, spin_us: u64) {
        self.core.set_spin_ns(spin_us.saturating_mul(NANOSECONDS_PER_MICROSECOND));
    }
}

fn send(
    core: &CoreChannel,
    py: Python<'_>,
    payload: &[u8],
    buffers: &[Pinned],
    timeout_s: Option<f64>,
) -> PyResult<bool> {
    if buffers.is_empty() && payload.len() <= MAX_INLINE_BYTES {
        return send_item(core, py, Item::Bytes(payload), || deadline_of(timeout_s));
    }
    let mut parts = vec![payload];
    parts.extend(buffers.iter().map(Pinned::bytes));
    send_parts(core, py, &parts, || deadline_of(timeout_s))
}

pub(crate) fn pin_all(buffers: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Pinned>> {
    let Some(buffers) = buffers else { return Ok(Vec::new()) };
    buffers.try_iter()?.map(|buffer| Pinned::new(&buffer?)).collect()
}

/// Adds this room's class to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Channel>()
}
