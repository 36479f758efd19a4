//! Heap, Block and process identity for Python.
//!
//! # Role in the flow
//!
//! Converts and maps errors; the algorithms are in `corral_core::heap`. The only file of this crate with unsafe code: the buffer protocol.
//!
//! # Invariants
//!
//! INV-BLOCK-1: a block's memory is freed only when no buffer of it is exported: exports hold a reference to the [`Block`], and
//! `release()` is refused while there are some.
//! INV-BLOCK-2: only the process that owns the block frees it: a copy of the object in a forked child does not (the
//! heap compares the owner with the child's own identity).

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use corral_core::frame::parts;
use corral_core::heap::{BlockRef, DEFAULT_RESERVE_BYTES, Heap as CoreHeap, HeapError, POPULATE_BYTES};
use corral_core::sync::{AtomicUsize, Ordering};
use corral_core::sys::descriptor::duplicate;
use corral_core::{deathwatch, identity as core_identity};
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict as _, PyDict, PyMemoryView, PySlice};

/// Maps the heap's errors: no room is a `MemoryError`, a failed call an `OSError`, all else a `ValueError`.
pub(crate) fn heap_error(error: HeapError) -> PyErr {
    match error {
        HeapError::Full { .. } => PyMemoryError::new_err(error.to_string()),
        HeapError::System(source) => source.into(),
        HeapError::Damaged(_)
        | HeapError::NotOwned { .. }
        | HeapError::OwnerAlive { .. }
        | HeapError::NotAHeap(_) => PyValueError::new_err(error.to_string()),
    }
}

/// A shared heap: of what one process makes, or of one queue or pipe.
#[pyclass(frozen, weakref, module = "corral._native")]
pub(crate) struct Heap {
    core: Arc<CoreHeap>,
}

impl Heap {
    /// The heap itself, for the other rooms of this crate.
    pub(crate) fn core(&self) -> &Arc<CoreHeap> {
        &self.core
    }
}

#[pymethods]
impl Heap {
    #[staticmethod]
    #[pyo3(signature = (reserve_bytes = DEFAULT_RESERVE_BYTES))]
    fn create(reserve_bytes: u64) -> PyResult<Self> {
        let core = CoreHeap::create(reserve_bytes).map_err(heap_error)?;
        Ok(Self { core: Arc::new(core) })
    }

    #[staticmethod]
    fn attach(fd: c_int) -> PyResult<Self> {
        let core = CoreHeap::attach(duplicate(fd)?).map_err(heap_error)?;
        Ok(Self { core: Arc::new(core) })
    }

    fn fileno(&self) -> c_int {
        self.core.as_fd().as_raw_fd()
    }

    #[pyo3(signature = (size, *, sparse = false))]
    fn alloc(&self, py: Python<'_>, size: usize, sparse: bool) -> PyResult<Block> {
        let core = &self.core;
        let block =
            if sparse { core.alloc_sparse(size) } else { released_for(py, size, || core.alloc(size)) };
        Ok(Block::new(Arc::clone(core), block.map_err(heap_error)?))
    }

    #[pyo3(signature = (r#ref, owner))]
    fn adopt(&self, r#ref: u64, owner: u64) -> PyResult<Block> {
        let block = self.core.adopt(r#ref, owner).map_err(heap_error)?;
        Ok(Block::new(Arc::clone(&self.core), block))
    }

    fn recover(&self, py: Python<'_>, owner: u64) -> PyResult<u64> {
        py.detach(|| self.core.recover(owner)).map_err(heap_error)
    }

    #[pyo3(signature = (idle_s = 0.0))]
    fn trim(&self, py: Python<'_>, idle_s: f64) -> PyResult<u64> {
        let idle =
            Duration::try_from_secs_f64(idle_s).map_err(|error| PyValueError::new_err(error.to_string()))?;
        py.detach(|| self.core.trim(idle)).map_err(heap_error)
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.core.stats()).map_err(heap_error)?;
        let named = [
            ("blocks_used", stats.blocks_used),
            ("blocks_free", stats.blocks_free),
            ("bytes_used", stats.bytes_used),
            ("bytes_free", stats.bytes_free),
            ("bytes_resident", stats.bytes_resident),
            ("bytes_reserved", stats.bytes_reserved),
        ];
        named.into_py_dict(py)
    }

    fn __repr__(&self) -> String {
        format!("<Heap fd={}>", self.fileno())
    }
}

/// Runs `call` without the GIL when it may have to map the pages of a large block.
pub(crate) fn released_for<T: Send>(py: Python<'_>, size: usize, call: impl FnOnce() -> T + Send) -> T {
    if size >= POPULATE_BYTES { py.detach(call) } else { call() }
}

/// What [`Block::uses`] holds once the block is no longer this object's; below it counts exported buffers.
const GONE: usize = usize::MAX;

/// A block of the shared heap that this object owns: a writable buffer.
#[pyclass(frozen, module = "corral._native")]
pub(crate) struct Block {
    heap: Arc<CoreHeap>,
    block: BlockRef,
    uses: AtomicUsize,
}

impl Block {
    /// Takes charge of a block that this process owns.
    pub(crate) fn new(heap: Arc<CoreHeap>, block: BlockRef) -> Self {
        Self { heap, block, uses: AtomicUsize::new(0) }
    }

    /// Where the block is, as long as it is this object's.
    pub(crate) fn block(&self) -> PyResult<BlockRef> {
        // Relaxed: the flag orders nothing; threads that share the object synchronise themselves.
        if self.uses.load(Ordering::Relaxed) == GONE {
            return Err(PyValueError::new_err("the block was released or handed over"));
        }
        Ok(self.block)
    }

    /// The bytes of the block; its memory lasts as long as this object, and is this process's as long as it was not handed over.
    pub(crate) fn content(&self) -> &[u8] {
        // SAFETY: INV-HEAP-4: the block lies in the mapping, which `heap` keeps; it is ours, so nobody of our tree writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.block.ptr.as_ptr(), self.block.len) }
    }

    /// Lets go without freeing: the block now belongs to a frame. Buffers already exported stay valid memory, but
    /// their contents are the receiver's.
    pub(crate) fn hand_over(&self) -> PyResult<BlockRef> {
        let block = self.block()?;
        self.uses.store(GONE, Ordering::Relaxed);
        Ok(block)
    }

    fn acquire(&self) -> PyResult<()> {
        self.uses
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |uses| (uses != GONE).then(|| uses + 1))
            .map(drop)
            .map_err(|_| PyBufferError::new_err("the block was released or handed over"))
    }
}

#[pymethods]
impl Block {
    #[getter]
    fn r#ref(&self) -> u64 {
        self.block.reference
    }

    #[getter]
    fn size(&self) -> usize {
        self.block.len
    }

    fn __len__(&self) -> usize {
        self.block.len
    }

    fn __repr__(&self) -> String {
        format!("<Block ref={} size={}>", self.block.reference, self.block.len)
    }

    /// The parts of a block frame, as views that keep the block alive.
    fn parts<'py>(slf: &Bound<'py, Self>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let py = slf.py();
        slf.get().block()?;
        let parts = parts::read(slf.get().content()).map_err(|what| heap_error(HeapError::Damaged(what)))?;
        let view = PyMemoryView::from(slf.as_any())?;
        parts
            .into_iter()
            .map(|part| {
                let bounds = PySlice::new(py, part.offset.cast_signed(), part.end().cast_signed(), 1);
                view.get_item(bounds)
            })
            .collect()
    }

    fn release(&self) -> PyResult<()> {
        // Relaxed: the heap orders the release of the memory.
        match self.uses.compare_exchange(0, GONE, Ordering::Relaxed, Ordering::Relaxed) {
            // Not being the owner is no error: a forked child may let go of its copy.
            Ok(_) => ignore_not_owned(self.heap.free(self.block.reference)),
            Err(GONE) => Ok(()),
            Err(_) => Err(PyBufferError::new_err("the block has exported buffers")),
        }
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        this.acquire()?;
        let block = this.block;
        let length = block.len.cast_signed();
        let address = block.ptr.as_ptr().cast::<c_void>();
        // SAFETY: `view` is the interpreter's, to be filled; the memory is valid as long as the view holds `slf` (INV-BLOCK-1).
        let code = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), address, length, 0, flags) };
        if code == 0 {
            return Ok(());
        }
        this.uses.fetch_sub(1, Ordering::Relaxed);
        Err(PyErr::fetch(slf.py()))
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        // A block handed over meanwhile stays gone.
        let _ = self.uses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |uses| {
            (uses != GONE).then(|| uses.saturating_sub(1))
        });
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if *self.uses.get_mut() != GONE {
            // Not owned: adopted by another process, or we are a forked child. Damaged: nothing to be done here.
            drop(self.heap.free(self.block.reference));
        }
    }
}

fn ignore_not_owned(outcome: Result<(), HeapError>) -> PyResult<()> {
    match outcome {
        Ok(()) | Err(HeapError::NotOwned { .. }) => Ok(()),
        Err(error) => Err(heap_error(error)),
    }
}

/// The identity of this process.
#[pyfunction]
fn identity() -> u64 {
    core_identity::current()
}

/// The identity of the process that has this pid, 0 if there is none.
#[pyfunction]
fn identity_of(pid: u32) -> u64 {
    core_identity::of_pid(pid)
}

/// Is the process of this identity alive?
#[pyfunction]
fn is_alive(identity: u64) -> bool {
    core_identity::is_alive(identity)
}

/// Ends this process when the descriptor becomes readable or hangs up.
#[pyfunction]
#[pyo3(signature = (fd, exit_signal = 9))]
fn die_with(fd: c_int, exit_signal: c_int) -> PyResult<()> {
    Ok(deathwatch::die_with(duplicate(fd)?, exit_signal)?)
}

/// Kills this process when `creator`, which created it from its main thread, ends.
#[pyfunction]
fn die_with_creator(creator: u32) -> PyResult<()> {
    Ok(deathwatch::die_with_creator(creator)?)
}

/// Adds this room's classes and functions to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Heap>()?;
    module.add_class::<Block>()?;
    module.add_function(wrap_pyfunction!(identity, module)?)?;
    module.add_function(wrap_pyfunction!(identity_of, module)?)?;
    module.add_function(wrap_pyfunction!(is_alive, module)?)?;
    module.add_function(wrap_pyfunction!(die_with, module)?)?;
    module.add_function(wrap_pyfunction!(die_with_creator, module)?)?;
    Ok(())
}
