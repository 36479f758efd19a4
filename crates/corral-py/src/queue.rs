//! Objects through a channel: what `put` and `get` of all queues do, without a Python frame where the object is plain.
//!
//! # Role in the flow
//!
//! `corral.queues` derives its classes from [`ObjectQueue`]. Numbers, text and bytes are written and read here; everything else goes
//! by way of the encoder and the decoder that the queue was opened with (`corral._channel.messages`).
//!
//! # Invariants
//!
//! INV-QUEUE-1: nobody else's code runs while a tenure is held: an object is encoded before, and decoded after.

use std::ops::Range;
use std::sync::Arc;

use corral_core::channel::layout::MAX_INLINE_BYTES;
use corral_core::channel::{Channel as CoreChannel, ChannelError, Item, Sink, Taken, Waiting};
use corral_core::frame::parts;
use corral_core::region::Damaged;
use corral_core::sync::{AtomicBool, Ordering};
use corral_core::wait::Deadline;
use pyo3::exceptions::{PyBrokenPipeError, PyEOFError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::away::away;
use crate::buffer::Pinned;
use crate::channel::{Channel, Failure, MOST_AT_ONCE, pack_parts, pin_all, send_item, send_parts, waiting};
use crate::heap::Block;
use crate::link::deadline_of;
use crate::plain::{read_plain, write_plain};

/// The payload of a message whose one buffer is the content of a bytes object; in a short message the content follows.
const RAW: &[u8] = b"\x01";
/// Bytes up to this length are copied into a pickle.
const MOST_PICKLED: usize = 1024;
/// Bytes of an item that need no memory of their own on their way.
const SCRATCH_BYTES: usize = 256;

/// Where a queue sends, and how.
struct Opened {
    core: Arc<CoreChannel>,
    encode: Py<PyAny>,
    decode: Py<PyAny>,
}

/// What queues have in common.
#[pyclass(frozen, subclass, module = "corral._native")]
pub(crate) struct ObjectQueue {
    opened: PyOnceLock<Opened>,
    closed: AtomicBool,
}

/// An object on its way out.
enum Encoded<'py> {
    /// It was appended to the scratch memory.
    Short,
    Raw(Bound<'py, PyBytes>),
    Message(Bound<'py, PyBytes>, Vec<Pinned>),
}

/// Memory for one item of usual length.
struct Scratch {
    small: [u8; SCRATCH_BYTES],
    large: Vec<u8>,
    length: usize,
}

impl Scratch {
    #[inline]
    fn new() -> Self {
        Self { small: [0; SCRATCH_BYTES], large: Vec::new(), length: 0 }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        if self.large.is_empty() { self.small.get(..self.length).unwrap_or_default() } else { &self.large }
    }
}

impl Sink for Scratch {
    #[inline]
    fn take(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Damaged>,
    ) -> Result<(), ChannelError> {
        self.length = length;
        match self.small.get_mut(..length) {
            Some(room) => Ok(fill(room)?),
            None => self.large.take(length, fill),
        }
    }
}

impl Opened {
    /// Encodes an object; a short one is appended to `scratch`.
    #[inline]
    fn encode<'py>(&self, object: &Bound<'py, PyAny>, scratch: &mut Vec<u8>) -> PyResult<Encoded<'py>> {
        if write_plain(object, scratch) {
            return Ok(Encoded::Short);
        }
        if let Ok(bytes) = object.cast_exact::<PyBytes>()
            && bytes.as_bytes().len() > MOST_PICKLED
        {
            if bytes.as_bytes().len() + RAW.len() > MAX_INLINE_BYTES {
                return Ok(Encoded::Raw(bytes.clone()));
            }
            scratch.extend_from_slice(RAW);
            scratch.extend_from_slice(bytes.as_bytes());
            return Ok(Encoded::Short);
        }
        let encoded = self.encode.bind(object.py()).call1((object,))?;
        let (payload, buffers) = encoded.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
        let payload = payload.cast_into::<PyBytes>()?;
        Ok(Encoded::Message(payload, pin_all(Some(&buffers))?))
    }

    /// Sends what was encoded; false: no room in time.
    #[inline]
    fn send(
        &self,
        py: Python<'_>,
        encoded: &Encoded<'_>,
        scratch: &[u8],
        deadline: impl FnOnce() -> PyResult<Deadline>,
    ) -> PyResult<bool> {
        match encoded {
            Encoded::Short => send_item(&self.core, py, Item::Bytes(scratch), deadline),
            Encoded::Message(payload, buffers)
                if buffers.is_empty() && payload.as_bytes().len() <= MAX_INLINE_BYTES =>
            {
                send_item(&self.core, py, Item::Bytes(payload.as_bytes()), deadline)
            }
            long => send_parts(&self.core, py, &long.parts(), deadline),
        }
    }

    /// Sends in order; how many were sent in time.
    fn send_all(
        &self,
        py: Python<'_>,
        encoded: &[(Encoded<'_>, Range<usize>)],
        scratch: &[u8],
        deadline: Deadline,
    ) -> PyResult<usize> {
        let mut items = Vec::with_capacity(encoded.len());
        let packed = encoded.iter().try_for_each(|(object, place)| -> PyResult<()> {
            items.push(match object {
                Encoded::Short => Item::Bytes(scratch.get(place.clone()).unwrap_or_default()),
                Encoded::Message(payload, buffers)
                    if buffers.is_empty() && payload.as_bytes().len() <= MAX_INLINE_BYTES =>
                {
                    Item::Bytes(payload.as_bytes())
                }
                long => Item::Block(pack_parts(&self.core, py, &long.parts())?),
            });
            Ok(())
        });
        let mut sent = 0;
        let outcome = packed.and_then(|()| {
            let send = |core: &CoreChannel, waiting: &mut Waiting<'_, Failure>| {
                core.send_many(&items, &mut sent, waiting)
            };
            waiting(&self.core, py, deadline, send).map_err(Failure::sending)
        });
        for item in items.iter().skip(sent) {
            if let Item::Block(block) = item {
                // Still ours: nobody has seen it.
                drop(self.core.heap().free(block.reference));
            }
        }
        outcome.map(|()| sent)
    }

    /// Rebuilds the object in what has come.
    #[inline]
    fn decode<'py>(&self, py: Python<'py>, taken: Taken, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        if let Taken::Block(block) = taken {
            return self.decode_block(py, Block::new(Arc::clone(self.core.heap()), block));
        }
        if let Some(value) = read_plain(py, bytes) {
            return Ok(value);
        }
        if let Some(content) = bytes.strip_prefix(RAW) {
            return Ok(PyBytes::new(py, content).into_any());
        }
        self.decode.bind(py).call1((PyBytes::new(py, bytes),))
    }

    fn decode_block<'py>(&self, py: Python<'py>, block: Block) -> PyResult<Bound<'py, PyAny>> {
        let content = block.content();
        let damaged = |what| Failure::Channel(ChannelError::Damaged(what)).receiving();
        let places = parts::read(content).map_err(damaged)?;
        if let [payload, buffer] = places.as_slice()
            && content.get(payload.offset..payload.end()) == Some(RAW)
        {
            let bytes = content.get(buffer.offset..buffer.end()).unwrap_or_default();
            return Ok(PyBytes::new(py, bytes).into_any());
        }
        self.decode.bind(py).call1((Bound::new(py, block)?,))
    }
}

impl Encoded<'_> {
    fn parts(&self) -> Vec<&[u8]> {
        match self {
            Self::Short => Vec::new(),
            Self::Raw(content) => vec![RAW, content.as_bytes()],
            Self::Message(payload, buffers) => {
                let mut parts = vec![payload.as_bytes()];
                parts.extend(buffers.iter().map(Pinned::bytes));
                parts
            }
        }
    }
}

impl ObjectQueue {
    /// What the queue works on, unless it was closed here.
    #[inline]
    fn usable<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a Opened> {
        let this = slf.get();
        // Relaxed: a flag; threads that share the queue synchronise themselves.
        if this.closed.load(Ordering::Relaxed) {
            return Err(closed(slf));
        }
        this.opened(slf.py())
    }

    #[inline]
    fn opened(&self, py: Python<'_>) -> PyResult<&Opened> {
        self.opened.get(py).ok_or_else(|| PyValueError::new_err("the queue is not open"))
    }
}

#[pymethods]
impl ObjectQueue {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self { opened: PyOnceLock::new(), closed: AtomicBool::new(false) }
    }

    /// Begins: with this channel, `encode(object) -> (payload, buffers)` and `decode(bytes or Block) -> object`.
    fn _open(&self, py: Python<'_>, channel: &Channel, encode: Py<PyAny>, decode: Py<PyAny>) -> PyResult<()> {
        let opened = Opened { core: Arc::clone(channel.core()), encode, decode };
        self.opened.set(py, opened).map_err(|_| PyValueError::new_err("the queue is open already"))
    }

    /// Was it closed in this process?
    #[getter]
    fn _closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    #[setter(_closed)]
    fn set_closed(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    #[pyo3(signature = (obj, block = None, timeout = None))]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let opened = Self::usable(slf)?;
        let mut scratch = Vec::with_capacity(64);
        let encoded = match opened.encode(obj, &mut scratch) {
            Ok(encoded) => encoded,
            Err(error) => {
                return slf.call_method1("_encoding_failed", (error.into_value(py), obj)).map(drop);
            }
        };
        let sent = opened.send(py, &encoded, &scratch, || deadline_of_call(block, timeout));
        if sent.map_err(|error| ended(slf, error))? { Ok(()) } else { Err(full(py)) }
    }

    #[pyo3(signature = (block = None, timeout = None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let opened = Self::usable(slf)?;
        let core = &*opened.core;
        let mut scratch = Scratch::new();
        let mut taken = core.try_recv(&mut scratch).map_err(|error| Failure::Channel(error).receiving())?;
        if taken.is_none() {
            let deadline = deadline_of_call(block, timeout)?;
            let received = waiting(core, py, deadline, |core, waiting| core.recv(&mut scratch, waiting));
            taken = received.map_err(|failure| ended(slf, failure.receiving()))?;
        }
        if core.is_untidy() {
            away(py, || core.tidy());
        }
        match taken {
            Some(taken) => opened.decode(py, taken, scratch.bytes()),
            None => Err(empty(py)),
        }
    }

    /// Sends the objects of a list, in order; how many were sent in time.
    fn _put_many(
        slf: &Bound<'_, Self>,
        objects: &Bound<'_, PyList>,
        timeout_s: Option<f64>,
    ) -> PyResult<usize> {
        let opened = Self::usable(slf)?;
        let mut scratch = Vec::with_capacity(objects.len().saturating_mul(8));
        let mut encoded = Vec::with_capacity(objects.len());
        for object in objects {
            let start = scratch.len();
            let object = opened.encode(&object, &mut scratch)?;
            encoded.push((object, start..scratch.len()));
        }
        let sent = opened.send_all(slf.py(), &encoded, &scratch, deadline_of(timeout_s)?);
        sent.map_err(|error| ended(slf, error))
    }

    /// Receives what is there, at most `most` objects, waiting for the first.
    ///
    /// The objects, and what rebuilding one of them raised (the others are there all the same).
    fn _get_many<'py>(
        slf: &Bound<'py, Self>,
        most: u64,
        timeout_s: Option<f64>,
    ) -> PyResult<(Bound<'py, PyList>, Option<PyErr>)> {
        let py = slf.py();
        let opened = Self::usable(slf)?;
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        let deadline = deadline_of(timeout_s)?;
        let received = waiting(&opened.core, py, deadline, |core, waiting| {
            core.recv_many(most.min(MOST_AT_ONCE), &mut bytes, &mut |taken| found.push(taken), waiting)
        });
        received.map_err(|failure| ended(slf, failure.receiving()))?;
        let (objects, mut failure, mut start) = (PyList::empty(py), None, 0);
        for taken in found {
            let end = if let Taken::Bytes(length) = taken { start + length } else { start };
            match opened.decode(py, taken, bytes.get(start..end).unwrap_or_default()) {
                Ok(object) => objects.append(object)?,
                Err(error) => failure = failure.or(Some(error)),
            }
            start = end;
        }
        Ok((objects, failure))
    }

    fn _item_done(&self, py: Python<'_>) -> PyResult<bool> {
        let done = self.opened(py)?.core.item_done();
        done.map_err(|error| Failure::Channel(error).receiving())
    }

    fn _sign_off(&self, py: Python<'_>) -> PyResult<()> {
        let signed = self.opened(py)?.core.sign_off();
        signed.map_err(|error| Failure::Channel(error).receiving())
    }

    fn _unfinished(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.opened(py)?.core.unfinished())
    }

    #[pyo3(signature = (timeout_s = None))]
    fn _wait_done(&self, py: Python<'_>, timeout_s: Option<f64>) -> PyResult<bool> {
        let core = &self.opened(py)?.core;
        let done = waiting(core, py, deadline_of(timeout_s)?, |core, waiting| core.wait_done(waiting));
        done.map_err(Failure::receiving)
    }
}

/// The deadline of a call with the standard library's arguments.
fn deadline_of_call(
    block: Option<&Bound<'_, PyAny>>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Deadline> {
    if let Some(block) = block
        && !block.is_truthy()?
    {
        return Ok(Deadline::PASSED);
    }
    deadline_of(timeout.map(|timeout| timeout.extract()).transpose()?)
}

/// What the standard library raises.
fn full(py: Python<'_>) -> PyErr {
    raised(py, "queue", "Full")
}

fn empty(py: Python<'_>) -> PyErr {
    raised(py, "_queue", "Empty")
}

#[cold]
fn raised(py: Python<'_>, module: &str, name: &str) -> PyErr {
    let class = py.import(module).and_then(|module| module.getattr(name));
    class.and_then(|class| class.call0()).map_or_else(|error| error, PyErr::from_value)
}

#[cold]
fn closed(queue: &Bound<'_, PyAny>) -> PyErr {
    let raise = || -> PyResult<PyErr> {
        let class = queue.py().import("corral.errors")?.getattr("ChannelClosed")?;
        let message = format!("{} is closed", queue.repr()?);
        Ok(PyErr::from_value(class.call1((message,))?))
    };
    raise().unwrap_or_else(|error| error)
}

/// A channel that was closed for all is to its queues as one that was closed here.
#[cold]
fn ended(queue: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
    let py = queue.py();
    let is_end = error.is_instance_of::<PyEOFError>(py) || error.is_instance_of::<PyBrokenPipeError>(py);
    if is_end { closed(queue) } else { error }
}

/// Adds this room's class to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ObjectQueue>()
}
