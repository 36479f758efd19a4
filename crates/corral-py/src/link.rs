//! Link for Python: both sides of a ring pair.
//!
//! # Role in the flow
//!
//! Converts, releases the GIL, maps errors; the algorithms are in `corral_core::link`. A body goes from the ring straight into a
//! `bytes` object, and from one straight into the ring.

use std::ffi::c_int;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use corral_core::heap::Heap as CoreHeap;
use corral_core::identity;
use corral_core::link::{
    Arrived, Body, InRing, LinkError, ParentLink, Tag, Waited, WorkerLink, pack as core_pack,
};
use corral_core::sys::descriptor::duplicate;
use corral_core::wait::Deadline;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::buffer::Pinned;
use crate::heap::{Block, Heap, heap_error};
use crate::wait::Bell;

/// Copies of more bytes than this are made with the GIL released.
const LONG_COPY_BYTES: usize = 64 << 10;
/// How long a thread that finds another at the link stands back.
const GIVE_WAY: Duration = Duration::from_micros(200);
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// Maps a link's errors: misuse by threads is a `RuntimeError`, all else of the link's own a `ValueError`.
pub(crate) fn link_error(error: LinkError) -> PyErr {
    match error {
        LinkError::Heap(error) => heap_error(error),
        LinkError::Busy => PyRuntimeError::new_err(error.to_string()),
        LinkError::Damaged(_) | LinkError::Unfit(_) => PyValueError::new_err(error.to_string()),
    }
}

/// An error on the way between core and interpreter.
enum Failure {
    Link(LinkError),
    Python(PyErr),
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Link(error) => link_error(error),
            Failure::Python(error) => error,
        }
    }
}

/// One side of a link.
#[pyclass(frozen, module = "corral._native")]
pub(crate) struct Link {
    side: Side,
}

enum Side {
    Parent(Arc<ParentLink>),
    /// And the identity of the worker: a process that it has forked has a copy, which must touch nothing.
    Worker(Box<WorkerLink>, u64),
}

impl Link {
    /// The parent's side.
    #[inline]
    pub(crate) fn parent(&self) -> PyResult<&Arc<ParentLink>> {
        match &self.side {
            Side::Parent(link) => Ok(link),
            Side::Worker(..) => Err(PyRuntimeError::new_err("only the parent's side can do this")),
        }
    }

    #[inline]
    fn worker(&self) -> PyResult<&WorkerLink> {
        match &self.side {
            Side::Worker(link, worker) if *worker == identity::current() => Ok(link),
            Side::Worker(..) => {
                Err(PyRuntimeError::new_err("this link is that of the process which has forked this one"))
            }
            Side::Parent(_) => Err(PyRuntimeError::new_err("only the worker's side can do this")),
        }
    }
}

#[pymethods]
impl Link {
    #[staticmethod]
    #[pyo3(signature = (heap, bell, capacity_bytes = 1 << 18))]
    fn create(heap: &Heap, bell: &Bell, capacity_bytes: usize) -> PyResult<Self> {
        let core = Arc::clone(heap.core());
        let link = ParentLink::create(core, Arc::clone(bell.core()), capacity_bytes).map_err(link_error)?;
        Ok(Self { side: Side::Parent(Arc::new(link)) })
    }

    #[staticmethod]
    #[pyo3(signature = (heap, r#ref, bell_fd))]
    fn attach(heap: &Heap, r#ref: u64, bell_fd: c_int) -> PyResult<Self> {
        let event = duplicate(bell_fd)?;
        let link = WorkerLink::attach(Arc::clone(heap.core()), r#ref, event).map_err(link_error)?;
        Ok(Self { side: Side::Worker(Box::new(link), identity::current()) })
    }

    #[getter]
    fn r#ref(&self) -> u64 {
        match &self.side {
            Side::Parent(link) => link.reference(),
            Side::Worker(link, _) => link.reference(),
        }
    }

    #[pyo3(signature = (kind, id, aux, body, buffers = None))]
    fn send(
        &self,
        py: Python<'_>,
        kind: u8,
        id: u64,
        aux: u64,
        body: &Bound<'_, PyAny>,
        buffers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<i64> {
        let link = self.parent()?;
        let packet = Packet::new(py, link.heap(), link.max_inline_bytes(), body, buffers)?;
        match link.send(Tag { kind, id, aux }, packet.body()?).map_err(link_error)? {
            Some(position) => {
                packet.sent()?;
                Ok(position.cast_signed())
            }
            None => Ok(-1),
        }
    }

    fn revoke(&self, py: Python<'_>, position: i64, id: u64) -> PyResult<Option<Py<PyAny>>> {
        let link = self.parent()?;
        let body = link.revoke(position.cast_unsigned(), id, |body| to_python(py, link.heap(), body));
        let body = body.map_err(link_error)?.transpose()?;
        Ok(body.map(Bound::unbind))
    }

    fn taken(&self, position: i64, id: u64) -> PyResult<bool> {
        self.parent()?.is_taken(position.cast_unsigned(), id).map_err(link_error)
    }

    #[pyo3(signature = (limit = 256, frames = None))]
    fn recv_many<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        frames: Option<Bound<'py, PyList>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let link = self.parent()?;
        let frames = frames.unwrap_or_else(|| PyList::empty(py));
        link.collect(limit, |tag, body| -> Result<(), Failure> {
            let body = to_python(py, link.heap(), body)?;
            frames.append(to_frame(py, tag, body)?)?;
            Ok(())
        })?;
        Ok(frames)
    }

    fn settle(&self) -> PyResult<usize> {
        self.parent()?.settle().map_err(link_error)
    }

    #[pyo3(signature = (timeout_s = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout_s: Option<f64>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let link = self.worker()?;
        let receive = || -> PyResult<Option<Bound<'py, PyTuple>>> {
            let frame = link.try_receive(|tag, body| {
                let body = to_python(py, link.heap(), body)?;
                to_frame(py, tag, body)
            });
            frame.map_err(link_error)?.transpose()
        };
        if let Some(frame) = receive()? {
            return Ok(Some(frame));
        }
        let deadline = deadline_of(timeout_s)?;
        let mut may_spin = true;
        loop {
            let waited = py.detach(|| link.wait_frames(deadline, may_spin)).map_err(link_error)?;
            may_spin = waited != Waited::Interrupted;
            if !may_spin {
                py.check_signals()?;
            }
            if let Some(frame) = receive()? {
                return Ok(Some(frame));
            }
            if waited == Waited::TimedOut || deadline.has_passed() {
                return Ok(None);
            }
        }
    }

    #[pyo3(signature = (kind, id, aux, body, buffers = None))]
    fn reply(
        &self,
        py: Python<'_>,
        kind: u8,
        id: u64,
        aux: u64,
        body: &Bound<'_, PyAny>,
        buffers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let link = self.worker()?;
        let packet = Packet::new(py, link.heap(), link.max_inline_bytes(), body, buffers)?;
        let tag = Tag { kind, id, aux };
        loop {
            let waited = match link.try_reply(tag, packet.body()?) {
                Ok(true) => return packet.sent(),
                Ok(false) => {
                    let room = packet.room_bytes();
                    py.detach(|| link.wait_room(room))
                }
                Err(error) => Err(error),
            };
            match waited {
                Ok(Waited::Interrupted) => py.check_signals()?,
                Ok(_) => {}
                // Another thread of the worker waits for room, to tell what it has logged.
                Err(LinkError::Busy) => {
                    py.detach(|| sleep(GIVE_WAY));
                    py.check_signals()?;
                }
                Err(error) => return Err(link_error(error)),
            }
        }
    }

    fn elapsed_ns(&self) -> PyResult<u64> {
        Ok(self.worker()?.elapsed_ns())
    }

    fn enter(&self, phase: u64) -> PyResult<()> {
        self.worker()?.enter(phase).map_err(link_error)
    }

    fn phase(&self) -> PyResult<u64> {
        self.parent()?.phase().map_err(link_error)
    }

    fn begin(&self, id: u64, end: u64) -> PyResult<u64> {
        self.worker()?.begin(id, end).map_err(link_error)
    }

    fn asked(&self) -> PyResult<u64> {
        self.worker()?.asked().map_err(link_error)
    }

    fn progress(&self) -> PyResult<Option<(u64, u64, u64, u64)>> {
        let progress = self.parent()?.progress().map_err(link_error)?;
        Ok(progress.map(|entry| (entry.number, entry.id, entry.end, entry.since_ns)))
    }

    fn ask(&self, what: u64) -> PyResult<()> {
        self.parent()?.ask(what).map_err(link_error)
    }

    #[getter]
    fn spin_us(&self) -> PyResult<u64> {
        Ok(self.worker()?.spin_ns() / NANOSECONDS_PER_MICROSECOND)
    }

    #[setter]
    fn set_spin_us(&self, spin_us: u64) -> PyResult<()> {
        self.worker()?.set_spin_ns(spin_us.saturating_mul(NANOSECONDS_PER_MICROSECOND));
        Ok(())
    }
}

/// A body on its way out.
enum Packet<'a> {
    Bytes(&'a [u8]),
    /// Packed just now: freed again if it isn't sent.
    Packed(Block),
    Given(&'a Block),
}

impl<'a> Packet<'a> {
    #[inline]
    fn new(
        py: Python<'_>,
        heap: &Arc<CoreHeap>,
        max_inline_bytes: usize,
        body: &'a Bound<'_, PyAny>,
        buffers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let pinned = pin_all(buffers)?;
        if let Ok(bytes) = body.cast::<PyBytes>() {
            let bytes = bytes.as_bytes();
            if bytes.len() <= max_inline_bytes && pinned.is_empty() {
                return Ok(Self::Bytes(bytes));
            }
            return Ok(Self::Packed(pack_parts(py, heap, bytes, &pinned)?));
        }
        let Ok(block) = body.cast::<Block>() else {
            return Err(PyTypeError::new_err("a body is bytes or a Block"));
        };
        if pinned.is_empty() {
            Ok(Self::Given(block.get()))
        } else {
            Err(PyTypeError::new_err("a Block takes no further buffers"))
        }
    }

    #[inline]
    fn body(&self) -> PyResult<Body<'_>> {
        match self {
            Self::Bytes(bytes) => Ok(Body::Bytes(bytes)),
            Self::Packed(block) => Ok(Body::Block(block.block()?.reference)),
            Self::Given(block) => Ok(Body::Block(block.block()?.reference)),
        }
    }

    fn room_bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Packed(_) | Self::Given(_) => Body::BLOCK_BYTES,
        }
    }

    /// The block is the frame's now, and no object's.
    #[inline]
    fn sent(&self) -> PyResult<()> {
        match self {
            Self::Bytes(_) => Ok(()),
            Self::Packed(block) => block.hand_over().map(drop),
            Self::Given(block) => block.hand_over().map(drop),
        }
    }
}

#[inline]
fn pin_all(buffers: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<Pinned>> {
    let Some(buffers) = buffers else { return Ok(Vec::new()) };
    buffers.try_iter()?.map(|buffer| Pinned::new(&buffer?)).collect()
}

fn pack_parts(py: Python<'_>, heap: &Arc<CoreHeap>, payload: &[u8], buffers: &[Pinned]) -> PyResult<Block> {
    let mut parts = vec![payload];
    parts.extend(buffers.iter().map(Pinned::bytes));
    let is_long = parts.iter().map(|part| part.len()).sum::<usize>() > LONG_COPY_BYTES;
    let pack = || core_pack(heap, &parts).map(|block| Block::new(Arc::clone(heap), block));
    let packed = if is_long { py.detach(pack) } else { pack() };
    packed.map_err(heap_error)
}

#[inline]
fn to_python<'py>(py: Python<'py>, heap: &Arc<CoreHeap>, body: Arrived<'_>) -> PyResult<Bound<'py, PyAny>> {
    match body {
        Arrived::Bytes(bytes) => Ok(to_bytes(py, &bytes)?.into_any()),
        Arrived::Block(block) => Ok(Bound::new(py, Block::new(Arc::clone(heap), block))?.into_any()),
    }
}

#[inline]
fn to_bytes<'py>(py: Python<'py>, bytes: &InRing<'_>) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.length(), |target| {
        bytes.copy_to(target).map_err(|damage| link_error(damage.into()))
    })
}

#[inline]
fn to_frame<'py>(py: Python<'py>, tag: Tag, body: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    (tag.kind, tag.id, tag.aux, body).into_pyobject(py)
}

/// The deadline of a time-out in seconds: negative is over, None and infinity never.
pub(crate) fn deadline_of(timeout_s: Option<f64>) -> PyResult<Deadline> {
    let Some(seconds) = timeout_s else { return Ok(Deadline::NEVER) };
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a time-out is not a number"));
    }
    // What is too long for a Duration is for ever.
    Ok(Duration::try_from_secs_f64(seconds.max(0.0)).map_or(Deadline::NEVER, Deadline::after))
}

/// Copies a payload and its buffers, once, into a new block that can be sent as a body.
#[pyfunction]
#[pyo3(signature = (heap, payload, buffers = None))]
fn pack(
    py: Python<'_>,
    heap: &Heap,
    payload: &Bound<'_, PyBytes>,
    buffers: Option<&Bound<'_, PyAny>>,
) -> PyResult<Block> {
    let pinned = pin_all(buffers)?;
    pack_parts(py, heap.core(), payload.as_bytes(), &pinned)
}

/// Adds this room's classes and functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Link>()?;
    module.add_function(wrap_pyfunction!(pack, module)?)?;
    Ok(())
}
