//! Channel for Python.
//!
//! # Role in the flow
//!
//! Converts, releases the GIL, maps errors; the algorithms are in `corral_core::channel`. What can be done at once is done with the
//! GIL held; whoever has to wait, or to copy much, releases it for the whole operation. Nothing of Python's runs while a
//! tenure is held.

use std::sync::Arc;

use corral_core::channel::layout::MAX_INLINE_BYTES;
use corral_core::channel::{Bounds, Channel as CoreChannel, ChannelError, Item, Taken, Waiting, pack};
use corral_core::heap::BlockRef;
use corral_core::wait::Deadline;
use pyo3::exceptions::{PyBrokenPipeError, PyEOFError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::buffer::Pinned;
use crate::heap::{Block, Heap, heap_error};
use crate::link::deadline_of;

/// Copies of more bytes than this are made with the GIL released.
const LONG_COPY_BYTES: usize = 64 << 10;
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;
/// Items taken at once, at most: so many stay in the hands of one process that dies.
const MOST_AT_ONCE: u64 = 1 << 16;

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
    fn sending(self) -> PyErr {
        match self {
            Self::Channel(ChannelError::Closed) => PyBrokenPipeError::new_err("the channel is closed"),
            other => other.receiving(),
        }
    }

    fn receiving(self) -> PyErr {
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
    fn new(core: CoreChannel) -> Self {
        Self { core: Arc::new(core) }
    }

    /// Waits without the GIL.
    fn waiting<T: Send>(
        &self,
        py: Python<'_>,
        deadline: Deadline,
        operation: impl FnOnce(&CoreChannel, &mut Waiting<'_, Failure>) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        py.detach(|| {
            let mut interrupted = || Python::attach(|py| py.check_signals()).map_err(Failure::Python);
            operation(&self.core, &mut Waiting { deadline, interrupted: &mut interrupted })
        })
    }

    /// Sends one item: `content` if it is short, else a block with it.
    fn send_parts(
        &self,
        py: Python<'_>,
        payload: &[u8],
        buffers: &[Pinned],
        timeout_s: Option<f64>,
    ) -> PyResult<bool> {
        if buffers.is_empty() && payload.len() <= MAX_INLINE_BYTES {
            return self.send_item(py, Item::Bytes(payload), timeout_s);
        }
        let block = self.pack(py, payload, buffers)?;
        let sent = self.send_item(py, Item::Block(block), timeout_s);
        if !matches!(sent, Ok(true)) {
            // Still ours: nobody has seen it.
            drop(self.core.heap().free(block.reference));
        }
        sent
    }

    fn pack(&self, py: Python<'_>, payload: &[u8], buffers: &[Pinned]) -> PyResult<BlockRef> {
        let mut parts = vec![payload];
        parts.extend(buffers.iter().map(Pinned::bytes));
        let is_long = parts.iter().map(|part| part.len()).sum::<usize>() > LONG_COPY_BYTES;
        let pack = || pack(self.core.heap(), &parts);
        let packed = if is_long { py.detach(pack) } else { pack() };
        packed.map_err(|error| Failure::Channel(error).sending())
    }

    fn send_item(&self, py: Python<'_>, item: Item<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        if self.core.try_send(item).map_err(|error| Failure::Channel(error).sending())? {
            return Ok(true);
        }
        let deadline = deadline_of(timeout_s)?;
        self.waiting(py, deadline, |core, waiting| core.send(item, waiting)).map_err(Failure::sending)
    }

    fn to_python<'py>(&self, py: Python<'py>, taken: Taken, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match taken {
            Taken::Bytes(_) => Ok(PyBytes::new(py, bytes).into_any()),
            Taken::Block(block) => {
                Ok(Bound::new(py, Block::new(Arc::clone(self.core.heap()), block))?.into_any())
            }
        }
    }
}

#[pymethods]
impl Channel {
    #[staticmethod]
    #[pyo3(signature = (heap, *, max_items = 0, capacity_bytes = 0))]
    fn create(heap: &Heap, max_items: u64, capacity_bytes: u64) -> PyResult<Self> {
        let bounds = Bounds { items: max_items, bytes: capacity_bytes };
        let core = CoreChannel::create(Arc::clone(heap.core()), bounds);
        Ok(Self::new(core.map_err(|error| Failure::Channel(error).sending())?))
    }

    #[staticmethod]
    #[pyo3(signature = (heap, r#ref))]
    fn attach(heap: &Heap, r#ref: u64) -> PyResult<Self> {
        let core = CoreChannel::attach(Arc::clone(heap.core()), r#ref);
        Ok(Self::new(core.map_err(|error| Failure::Channel(error).receiving())?))
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
            return self.send_parts(py, payload.as_bytes(), &buffers, timeout_s);
        }
        let payload = Pinned::new(payload)?;
        self.send_parts(py, payload.bytes(), &buffers, timeout_s)
    }

    #[pyo3(signature = (timeout_s = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout_s: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut bytes = Vec::new();
        let mut taken =
            self.core.try_recv(&mut bytes).map_err(|error| Failure::Channel(error).receiving())?;
        if taken.is_none() {
            let deadline = deadline_of(timeout_s)?;
            let received = self.waiting(py, deadline, |core, waiting| core.recv(&mut bytes, waiting));
            taken = received.map_err(Failure::receiving)?;
        }
        taken.map(|taken| self.to_python(py, taken, &bytes)).transpose()
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
            let received = self.waiting(py, deadline, |core, waiting| {
                core.recv_many(limit, &mut bytes, &mut |taken| found.push(taken), waiting)
            });
            received.map_err(Failure::receiving)?;
        }
        let items = PyList::empty(py);
        let mut start = 0;
        for taken in found {
            let end = if let Taken::Bytes(length) = taken { start + length } else { start };
            items.append(self.to_python(py, taken, bytes.get(start..end).unwrap_or_default())?)?;
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
        self.core.spin_ns() / NANOSECONDS_PER_MICROSECOND
    }

    #[setter]
    fn set_spin_us(&self, spin_us: u64) {
        self.core.set_spin_ns(spin_us.saturating_mul(NANOSECONDS_PER_MICROSECOND));
    }
}

fn pin_all(buffers: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Pinned>> {
    let Some(buffers) = buffers else { return Ok(Vec::new()) };
    buffers.try_iter()?.map(|buffer| Pinned::new(&buffer?)).collect()
}

/// Adds this room's class to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Channel>()
}
