//! The ends of a pipe for Python.
//!
//! # Role in the flow
//!
//! Converts, releases the GIL, maps errors; the algorithms are in `corral_core::pipe`. `corral.connection.Connection` is the
//! subclass that users have: it says how objects that aren't small and plain are encoded (`_encode`, `_decode`).
//!
//! # Invariants
//!
//! INV-PIPE-PY-1: nothing of Python's runs in a channel's turn, but for the making of a `bytes` object.

use std::ffi::c_int;
use std::os::fd::{AsRawFd as _, IntoRawFd as _};
use std::sync::Arc;
use std::time::Duration;

use corral_core::channel::layout::MAX_INLINE_BYTES;
use corral_core::channel::{ChannelError, Item, Sink, Taken, pack};
use corral_core::closable::{Closable, Use};
use corral_core::identity;
use corral_core::pipe::layout::Side;
use corral_core::pipe::{End, PipeError, Waited, create, notice_death};
use corral_core::region::Damaged;
use corral_core::sync::{AtomicBool, Ordering};
use corral_core::sys::descriptor::duplicate;
use corral_core::wait::Deadline;
use pyo3::exceptions::{PyBrokenPipeError, PyEOFError, PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::away::{away, check_signals};
use crate::buffer::Pinned;
use crate::heap::{Block, Heap, heap_error};
use crate::link::deadline_of;
use crate::plain::{read_plain, write_plain};

/// Copies of more bytes than this are made with the GIL released.
const LONG_COPY_BYTES: usize = 64 << 10;
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;
/// How long to wait for another receiver, with the GIL held, and then without.
const PATIENCE: Duration = Duration::from_micros(100);
/// How long a sender may take to commit and ring, before the receiver of its last message goes on.
const MUTING_LIMIT: Duration = Duration::from_millis(100);
/// A message this short is first taken into the stack: most of them are small plain values.
const SHORT_BYTES: usize = 64;

/// An error on the way between core and interpreter.
enum Failure {
    Pipe(PipeError),
    Python(PyErr),
}

impl From<PipeError> for Failure {
    fn from(error: PipeError) -> Self {
        Self::Pipe(error)
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        Self::Pipe(error.into())
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Python(error) => error,
            Failure::Pipe(PipeError::System(error)) => error.into(),
            Failure::Pipe(PipeError::Broken) => broken_pipe(),
            Failure::Pipe(PipeError::OneWay) => PyOSError::new_err("connection is one-way"),
            Failure::Pipe(PipeError::Channel(ChannelError::Heap(error))) => heap_error(error),
            Failure::Pipe(PipeError::Channel(error)) => PyValueError::new_err(error.to_string()),
        }
    }
}

fn pipe_error(error: impl Into<PipeError>) -> PyErr {
    Failure::Pipe(error.into()).into()
}

/// As the system says it: number and text.
fn broken_pipe() -> PyErr {
    const EPIPE: i32 = 32;
    PyBrokenPipeError::new_err((EPIPE, "Broken pipe"))
}

fn handle_is_closed() -> PyErr {
    PyOSError::new_err("handle is closed")
}

/// Where the bytes of a message go.
enum Received<'py> {
    Nothing(Python<'py>),
    Short([u8; SHORT_BYTES], usize),
    Bytes(Bound<'py, PyBytes>),
}

impl<'py> Received<'py> {
    fn into_bytes(self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match self {
            Self::Nothing(_) => PyBytes::new(py, b""),
            Self::Short(bytes, length) => PyBytes::new(py, bytes.get(..length).unwrap_or_default()),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Sink for Received<'_> {
    #[inline]
    fn take(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), Damaged>,
    ) -> Result<(), ChannelError> {
        let mut bytes = [0; SHORT_BYTES];
        if let Some(room) = bytes.get_mut(..length) {
            fill(room)?;
            *self = Self::Short(bytes, length);
            return Ok(());
        }
        let Self::Nothing(py) = *self else { return Err(ChannelError::Unfit("a second message")) };
        let mut damage = Ok(());
        let made = PyBytes::new_with(py, length, |room| {
            damage = fill(room);
            Ok(())
        });
        damage?;
        *self = Self::Bytes(made.map_err(|_| ChannelError::Unfit("no memory for what has come"))?);
        Ok(())
    }
}

/// A message that has come.
enum Message<'py> {
    Bytes(Received<'py>),
    Block(Bound<'py, Block>),
}

/// One end of a pipe.
#[pyclass(frozen, subclass, module = "corral._native")]
pub(crate) struct PipeEnd {
    end: Closable<End>,
    reads: AtomicBool,
    writes: bool,
}

impl PipeEnd {
    #[inline]
    fn enter(&self) -> PyResult<Use<'_, End>> {
        self.end.enter(identity::current()).ok_or_else(handle_is_closed)
    }

    #[inline]
    fn enter_to_write(&self) -> PyResult<Use<'_, End>> {
        let end = self.enter()?;
        if self.writes { Ok(end) } else { Err(PyOSError::new_err("connection is read-only")) }
    }

    #[inline]
    fn enter_to_read(&self) -> PyResult<Use<'_, End>> {
        let end = self.enter()?;
        // Relaxed: a flag for the thread that set it.
        if self.reads.load(Ordering::Relaxed) {
            Ok(end)
        } else {
            Err(PyOSError::new_err("connection is write-only"))
        }
    }

    fn send_parts(py: Python<'_>, end: &Use<'_, End>, payload: &[u8], buffers: &[Pinned]) -> PyResult<()> {
        if buffers.is_empty() && payload.len() <= MAX_INLINE_BYTES {
            return send_item(py, end, Item::Bytes(payload));
        }
        let mut parts = vec![payload];
        parts.extend(buffers.iter().map(Pinned::bytes));
        let is_long = parts.iter().map(|part| part.len()).sum::<usize>() > LONG_COPY_BYTES;
        let pack = || pack(end.heap(), &parts);
        let block = if is_long { py.detach(pack) } else { pack() }.map_err(pipe_error)?;
        let sent = send_item(py, end, Item::Block(block));
        if sent.is_err() {
            // Still ours, unless it was sent to nobody: then it isn't, and this fails.
            drop(end.heap().free(block.reference));
        }
        sent
    }

    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Message<'py>> {
        let end = self.enter_to_read()?;
        let mut received = Received::Nothing(py);
        let mut taken = end.try_recv(&mut received).map_err(pipe_error)?;
        while taken.is_none() {
            if end.has_message() {
                taken = end.recv_in_turn(&mut received, Deadline::after(PATIENCE)).map_err(pipe_error)?;
                if taken.is_none() {
                    away(py, || std::thread::sleep(PATIENCE));
                    py.check_signals()?;
                    check_closed(&end)?;
                }
                continue;
            }
            if wait(py, &end, Deadline::NEVER)? == Waited::Ended {
                return Err(PyEOFError::new_err(()));
            }
            taken = end.try_recv(&mut received).map_err(pipe_error)?;
        }
        let message = match taken {
            Some(Taken::Block(block)) => {
                Message::Block(Bound::new(py, Block::new(Arc::clone(end.heap()), block))?)
            }
            _ => Message::Bytes(received),
        };
        if end.must_mute() && !end.try_mute().map_err(pipe_error)? {
            mute_in_time(py, &end);
        }
        Ok(message)
    }

    /// A message over the limit was taken: as with a stream that is cut off there, nothing more can be read.
    fn refuse(&self) -> PyErr {
        if self.writes {
            self.reads.store(false, Ordering::Relaxed);
        } else {
            self.end.close(identity::current());
        }
        PyOSError::new_err("bad message length")
    }
}

#[inline]
fn send_item(py: Python<'_>, end: &Use<'_, End>, item: Item<'_>) -> PyResult<()> {
    if end.try_send(item).map_err(pipe_error)? {
        return Ok(());
    }
    away(py, || end.send(item, Deadline::NEVER, &mut || interrupted(end)))?;
    Ok(())
}

fn wait(py: Python<'_>, end: &Use<'_, End>, deadline: Deadline) -> PyResult<Waited> {
    Ok(away(py, || end.wait(deadline, &mut || interrupted(end)))?)
}

/// Sees to it that the socket says what there is, waiting for a sender that is inside.
fn mute(py: Python<'_>, end: &Use<'_, End>) -> PyResult<()> {
    if !end.try_mute().map_err(pipe_error)? {
        away(py, || end.mute(false, Deadline::NEVER, &mut || interrupted(end)))?;
    }
    Ok(())
}

/// As [`mute`], but no signal's handler comes between, and a stopped sender is not waited for: a message has just been taken, and must be
/// given to the caller.
fn mute_in_time(py: Python<'_>, end: &Use<'_, End>) {
    let deadline = Deadline::after(MUTING_LIMIT);
    // If that fails the socket is readable without a message, until the next is received.
    drop(away(py, || end.mute(false, deadline, &mut || Ok::<_, Failure>(()))));
}

fn interrupted(end: &Use<'_, End>) -> Result<(), Failure> {
    check_signals().and_then(|()| check_closed(end)).map_err(Failure::Python)
}

fn check_closed(end: &Use<'_, End>) -> PyResult<()> {
    if end.is_closed() { Err(handle_is_closed()) } else { Ok(()) }
}

#[pymethods]
impl PipeEnd {
    #[new]
    #[pyo3(signature = (heap, r#ref, side, fd, spin_us = 0))]
    fn new(heap: &Heap, r#ref: u64, side: u8, fd: c_int, spin_us: u64) -> PyResult<Self> {
        let side = Side::of_number(side).ok_or_else(|| PyValueError::new_err("a pipe has two ends"))?;
        let spin_ns = spin_us.saturating_mul(NANOSECONDS_PER_MICROSECOND);
        let end = End::attach(Arc::clone(heap.core()), r#ref, side, duplicate(fd)?, spin_ns);
        let end = end.map_err(pipe_error)?;
        let (reads, writes) = (AtomicBool::new(end.reads()), end.writes());
        Ok(Self { end: Closable::new(end, identity::current()), reads, writes })
    }

    /// Whether this copy of the end was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.end.is_closed()
    }

    /// Whether this end can receive.
    #[getter]
    fn readable(&self) -> bool {
        self.reads.load(Ordering::Relaxed)
    }

    /// Whether this end can send.
    #[getter]
    fn writable(&self) -> bool {
        self.writes
    }

    /// Close this copy of the end; when the last is closed, the other end learns of it.
    ///
    /// Whoever waits in it in another thread gets an OSError within a tenth of a second.
    fn close(&self) {
        self.end.close(identity::current());
    }

    /// Return a descriptor that is readable if and only if there is something to receive, or the end.
    ///
    /// It is to be waited for, not to be read.
    ///
    /// Raises:
    ///     OSError: the connection is closed.
    fn fileno(&self, py: Python<'_>) -> PyResult<c_int> {
        let end = self.enter()?;
        if end.reads() {
            end.be_exact().map_err(pipe_error)?;
            mute(py, &end)?;
        }
        Ok(end.socket().as_raw_fd())
    }

    /// Send an object.
    ///
    /// Raises:
    ///     BrokenPipeError: the other end is closed, in all processes.
    ///     OSError: this end is closed, or only receives.
    ///     corral.errors.EncodeError: the object cannot be pickled; nothing was sent.
    ///
    /// Blocking: without the GIL, while more than a mebibyte is unread; signals' handlers run.
    fn send(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let end = slf.get().enter_to_write()?;
        let mut pickled = Vec::with_capacity(SHORT_BYTES);
        if write_plain(obj, &mut pickled) && pickled.len() <= MAX_INLINE_BYTES {
            return send_item(py, &end, Item::Bytes(&pickled));
        }
        let encoded = slf.call_method1(intern!(py, "_encode"), (obj,))?.cast_into::<PyTuple>()?;
        let payload = encoded.get_item(0)?.cast_into::<PyBytes>()?;
        let buffers = encoded.get_item(1)?.try_iter()?.map(|buffer| Pinned::new(&buffer?));
        Self::send_parts(py, &end, payload.as_bytes(), &buffers.collect::<PyResult<Vec<_>>>()?)
    }

    /// Receive an object.
    ///
    /// Raises:
    ///     EOFError: there is none, and the other end is closed, in all processes.
    ///     OSError: this end is closed, or only sends.
    ///
    /// Blocking: without the GIL, until there is one; signals' handlers run. What rebuilding the object raises is
    /// raised here, and the message is gone.
    fn recv<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let message = match slf.get().receive(py)? {
            Message::Bytes(received) => {
                if let Received::Short(bytes, length) = &received
                    && let Some(value) = bytes.get(..*length).and_then(|bytes| read_plain(py, bytes))
                {
                    return Ok(value);
                }
                received.into_bytes(py).into_any()
            }
            Message::Block(block) => block.into_any(),
        };
        slf.call_method1(intern!(py, "_decode"), (message,))
    }

    /// Send the bytes of a buffer, from byte `offset` on, `size` of them or all.
    ///
    /// Raises:
    ///     BrokenPipeError: the other end is closed, in all processes.
    ///     OSError: this end is closed, or only receives.
    ///     ValueError: that lies outside the buffer.
    ///
    /// Blocking: as `send`.
    #[pyo3(signature = (buf, offset = 0, size = None))]
    fn send_bytes(
        &self,
        py: Python<'_>,
        buf: &Bound<'_, PyAny>,
        offset: isize,
        size: Option<isize>,
    ) -> PyResult<()> {
        let end = self.enter_to_write()?;
        if let Ok(bytes) = buf.cast_exact::<PyBytes>() {
            return Self::send_parts(py, &end, cut(bytes.as_bytes(), offset, size)?, &[]);
        }
        let pinned = Pinned::new(buf)?;
        Self::send_parts(py, &end, cut(pinned.bytes(), offset, size)?, &[])
    }

    /// Receive a message of `send_bytes`.
    ///
    /// Raises:
    ///     EOFError: there is none, and the other end is closed, in all processes.
    ///     OSError: this end is closed, or only sends; or the message is longer than `maxlength` bytes: then it is
    ///         gone, and nothing more can be received here.
    ///
    /// Blocking: as `recv`.
    #[pyo3(signature = (maxlength = None))]
    fn recv_bytes<'py>(slf: &Bound<'py, Self>, maxlength: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let py = slf.py();
        let this = slf.get();
        this.enter_to_read()?;
        if maxlength.is_some_and(|most| most < 0) {
            return Err(PyValueError::new_err("negative maxlength"));
        }
        let bytes = match this.receive(py)? {
            Message::Bytes(received) => received.into_bytes(py),
            Message::Block(block) => {
                slf.call_method1(intern!(py, "_flatten"), (block,))?.cast_into::<PyBytes>()?
            }
        };
        let most = maxlength.map_or(usize::MAX, isize::unsigned_abs);
        if bytes.as_bytes().len() > most { Err(this.refuse()) } else { Ok(bytes) }
    }

    /// Tell whether there is something to receive, or the end, waiting for it at most `timeout` seconds.
    ///
    /// Args:
    ///     timeout: None: without an end; zero or less: only look.
    ///
    /// Raises:
    ///     OSError: this end is closed, or only sends.
    ///
    /// Blocking: without the GIL; signals' handlers run.
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let end = self.enter_to_read()?;
        if end.is_ready().map_err(pipe_error)? {
            return Ok(true);
        }
        let deadline = deadline_of(timeout)?;
        if deadline.has_passed() {
            return Ok(false);
        }
        Ok(wait(py, &end, deadline)? != Waited::TimedOut)
    }

    /// Is there something to receive? If not, the socket tells when there is, or the end.
    fn prepare_wait(&self, py: Python<'_>) -> PyResult<bool> {
        let end = self.enter_to_read()?;
        if !end.has_message() && !end.is_quiet() {
            mute(py, &end)?;
        }
        Ok(end.has_message())
    }

    /// The socket, for who looks at the messages as well.
    fn socket_fileno(&self) -> PyResult<c_int> {
        Ok(self.enter()?.socket().as_raw_fd())
    }

    /// What another process needs to have this end too, besides the socket: the heap's descriptor, the block, the side.
    fn whereabouts(&self) -> PyResult<(c_int, u64, u8)> {
        let end = self.enter()?;
        Ok((end.heap().as_fd().as_raw_fd(), end.reference(), end.side() as u8))
    }
}

/// The stretch of a buffer that is to be sent.
fn cut(bytes: &[u8], offset: isize, size: Option<isize>) -> PyResult<&[u8]> {
    let refuse = |why: &'static str| PyValueError::new_err(why);
    let start = usize::try_from(offset).map_err(|_| refuse("offset is negative"))?;
    let rest = bytes.get(start..).ok_or_else(|| refuse("buffer length < offset"))?;
    let Some(size) = size else { return Ok(rest) };
    let size = usize::try_from(size).map_err(|_| refuse("size is negative"))?;
    rest.get(..size).ok_or_else(|| refuse("buffer length < offset + size"))
}

/// Makes a pipe in a heap of its own: its block, and the descriptors of its ends' sockets, which are the caller's.
#[pyfunction]
#[pyo3(signature = (heap, duplex, capacity_bytes))]
fn create_pipe(heap: &Heap, duplex: bool, capacity_bytes: u64) -> PyResult<(u64, c_int, c_int)> {
    let (reference, first, second) = create(heap.core(), duplex, capacity_bytes).map_err(pipe_error)?;
    Ok((reference, first.into_raw_fd(), second.into_raw_fd()))
}

/// Says that a child of this process has died, which may have held the last copy of an end.
#[pyfunction]
fn notice_child_death() {
    notice_death();
}

/// Adds this room's class and functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PipeEnd>()?;
    module.add_function(wrap_pyfunction!(create_pipe, module)?)?;
    module.add_function(wrap_pyfunction!(notice_child_death, module)?)?;
    Ok(())
}
