//! Shared values for Python: memory of a heap under a lock, with the numbers in it read and written here.
//!
//! # Role in the flow
//!
//! `corral.sharedctypes` makes a [`Stretch`] of memory, lays a ctypes object over it, and wraps that in a [`Cell`] or [`Cells`]
//! (or, for structures, a [`Guarded`] alone). Numbers of the plain C types are read and written here, with no Python frame on the
//! way; whatever else there is goes to the ctypes object.
//!
//! # Invariants
//!
//! INV-STRETCH-1: memory is given back by the process that made it, when nothing there refers to it any more: views and ctypes
//! objects hold a reference to the [`Stretch`].
//! INV-CELL-1: what is read or written is read or written under the object's lock, whatever way it takes.
//!
//! # Failure
//!
//! A process killed between two steps leaves whole numbers: each is stored at once.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use corral_core::heap::{BlockRef, Heap as CoreHeap, HeapError};
use corral_core::identity;
use corral_core::primitives::place::{CELL_BYTES, Place, WORDS_AT};
use corral_core::region::{Memory as _, Region};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyMemoryView};
use pyo3::{ffi, intern};

use crate::buffer::{Shared, forward};
use crate::heap::{Heap, heap_error, released_for};
use crate::sync::{Lock, RLock};

/// Says of a place that a value lies there.
const VALUE_TAG: u64 = u64::from_le_bytes(*b"corralSV");
/// What a place has room for; what is larger gets a block of its own.
const PLACE_BYTES: usize = CELL_BYTES - WORDS_AT;
/// In a reference, below the block, where [`Place`] has the number of a cell: a block of our own.
const BLOCK: u64 = 62;
const REFERENCE_BITS: u32 = 6;
const ZEROS: [u8; 4096] = [0; 4096];

/// Where a stretch lies.
enum Lying {
    /// Among others, in one block.
    Place(Place),
    /// In a block of its own, given back by the process of this identity; 0: another's.
    Block { heap: Arc<CoreHeap>, block: BlockRef, creator: u64 },
}

impl Lying {
    fn create(heap: &Arc<CoreHeap>, size: usize) -> Result<Self, HeapError> {
        if size <= PLACE_BYTES {
            // Zeroed, and the size stands in the options.
            return Place::create(heap, WORDS_AT + size, VALUE_TAG, size as u64).map(Self::Place);
        }
        let block = heap.alloc(size)?;
        let lying = Self::Block { heap: Arc::clone(heap), block, creator: identity::current() };
        // SAFETY: INV-MAP-1: the block is ours and lies in the mapping, which `heap` keeps.
        if let Some(region) = unsafe { Region::new(block.ptr, block.len) } {
            for at in (0..size).step_by(ZEROS.len()) {
                region.write(at, ZEROS.get(..size - at).unwrap_or(&ZEROS))?;
            }
        }
        Ok(lying)
    }

    fn attach(heap: &Arc<CoreHeap>, reference: u64) -> Result<Self, HeapError> {
        if reference & BLOCK != BLOCK || reference & 1 != 0 {
            return Place::attach(heap, reference, VALUE_TAG).map(Self::Place);
        }
        let reference = reference >> REFERENCE_BITS;
        let (ptr, len) = heap.slice(reference)?;
        Ok(Self::Block { heap: Arc::clone(heap), block: BlockRef { reference, ptr, len }, creator: 0 })
    }

    fn reference(&self) -> u64 {
        match self {
            Self::Place(place) => place.reference(),
            Self::Block { block, .. } => block.reference << REFERENCE_BITS | BLOCK,
        }
    }

    /// First byte and size.
    fn memory(&self) -> Result<(*mut u8, usize), HeapError> {
        match self {
            Self::Place(place) => {
                let size = usize::try_from(place.options()?).unwrap_or(usize::MAX);
                if size > PLACE_BYTES {
                    return Err(HeapError::Damaged("a value's size"));
                }
                Ok((place.region().start().as_ptr().wrapping_add(WORDS_AT), size))
            }
            Self::Block { block, .. } => Ok((block.ptr.as_ptr(), block.len)),
        }
    }
}

impl Drop for Lying {
    fn drop(&mut self) {
        if let Self::Block { heap, block, creator } = self
            && *creator == identity::current()
        {
            // Damaged: nothing to be done here.
            drop(heap.free(block.reference));
        }
    }
}

/// Memory of a heap: a writable buffer, that of its creator's object or another to the same.
#[pyclass(frozen, weakref, module = "corral._native")]
pub(crate) struct Stretch {
    heap: Py<Heap>,
    lying: Lying,
}

#[pymethods]
impl Stretch {
    /// Makes `size` bytes of zeros.
    #[staticmethod]
    fn create(py: Python<'_>, heap: &Bound<'_, Heap>, size: usize) -> PyResult<Self> {
        let core = heap.get().core();
        let lying = released_for(py, size, || Lying::create(core, size)).map_err(heap_error)?;
        Ok(Self { heap: heap.clone().unbind(), lying })
    }

    /// Finds the memory that another object of `ref` stands for.
    #[staticmethod]
    #[pyo3(signature = (heap, r#ref))]
    fn attach(heap: &Bound<'_, Heap>, r#ref: u64) -> PyResult<Self> {
        let lying = Lying::attach(heap.get().core(), r#ref).map_err(heap_error)?;
        Ok(Self { heap: heap.clone().unbind(), lying })
    }

    #[getter]
    fn heap(&self, py: Python<'_>) -> Py<Heap> {
        self.heap.clone_ref(py)
    }

    #[getter]
    fn r#ref(&self) -> u64 {
        self.lying.reference()
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.lying.memory().map_err(heap_error)?.1)
    }

    /// What lies over it is sent by `corral.sharedctypes`, or, where that has made objects of the type too, by the
    /// standard library's module of that name.
    fn __reduce__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        slf.py().import("corral.sharedctypes")?.call_method1("reduce_stretch", (slf,))
    }

    /// The memory, as the standard library's rebuilding of a ctypes object asks for it.
    fn create_memoryview(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyMemoryView>> {
        PyMemoryView::from(slf.as_any())
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (start, size) = slf.get().lying.memory().map_err(heap_error)?;
        let start = start.cast::<c_void>();
        // SAFETY: `view` is the interpreter's, to be filled; the memory is valid as long as the view holds `slf` (INV-STRETCH-1).
        let code = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, size.cast_signed(), 0, flags) };
        if code == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// The lock of a value.
enum Guard {
    /// Ours, taken without a call of Python's.
    Plain(Py<Lock>),
    /// As above, the usual one.
    Recursive(Py<RLock>),
    /// Anything that has `acquire` and `release`.
    Other(Py<PyAny>),
}

impl Guard {
    fn new(lock: Bound<'_, PyAny>) -> PyResult<Self> {
        let py = lock.py();
        let name = intern!(py, "acquire");
        // A class that acquires in a way of its own is asked.
        let acquire = lock.get_type().getattr(name)?;
        if acquire.is(py.get_type::<RLock>().getattr(name)?) {
            return Ok(Self::Recursive(lock.cast_into::<RLock>()?.unbind()));
        }
        if acquire.is(py.get_type::<Lock>().getattr(name)?) {
            return Ok(Self::Plain(lock.cast_into::<Lock>()?.unbind()));
        }
        Ok(Self::Other(lock.unbind()))
    }

    fn object(&self) -> &Py<PyAny> {
        match self {
            Self::Plain(lock) => lock.as_any(),
            Self::Recursive(lock) => lock.as_any(),
            Self::Other(lock) => lock,
        }
    }

    #[inline]
    fn acquire(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Recursive(lock) => lock.get().held()?.acquire(py, true, None).map(drop),
            Self::Plain(lock) => lock.get().held()?.acquire(py, true, None).map(drop),
            Self::Other(lock) => lock.call_method0(py, intern!(py, "acquire")).map(drop),
        }
    }

    #[inline]
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Recursive(lock) => lock.get().held()?.release(),
            Self::Plain(lock) => lock.get().held()?.release(),
            Self::Other(lock) => lock.call_method0(py, intern!(py, "release")).map(drop),
        }
    }

    /// Runs `call` under the lock.
    #[inline]
    fn with<T>(&self, py: Python<'_>, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
        self.acquire(py)?;
        step("cell.locked");
        let outcome = call();
        step("cell.done");
        let released = self.release(py);
        outcome.and_then(|value| released.map(|()| value))
    }
}

/// A ctypes object and its lock.
#[pyclass(frozen, subclass, weakref, module = "corral._native")]
pub(crate) struct Guarded {
    object: Py<PyAny>,
    guard: Guard,
}

#[pymethods]
impl Guarded {
    #[new]
    fn new(object: Py<PyAny>, lock: Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { object, guard: Guard::new(lock)? })
    }

    fn get_obj(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }

    fn get_lock(&self, py: Python<'_>) -> Py<PyAny> {
        self.guard.object().clone_ref(py)
    }

    #[getter]
    fn _obj(&self, py: Python<'_>) -> Py<PyAny> {
        self.object.clone_ref(py)
    }

    #[getter]
    fn _lock(&self, py: Python<'_>) -> Py<PyAny> {
        self.guard.object().clone_ref(py)
    }

    #[getter]
    fn acquire(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard.object().getattr(py, intern!(py, "acquire"))
    }

    #[getter]
    fn release(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard.object().getattr(py, intern!(py, "release"))
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.guard.object().call_method0(py, intern!(py, "__enter__"))
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        self.guard.object().call_method1(py, intern!(py, "__exit__"), (kind, error, traceback))
    }

    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: `view` is the interpreter's, to be filled.
        unsafe { forward(slf.get().object.bind(slf.py()), view, flags) }
    }
}

/// A named point at which a test has the process killed.
#[inline]
fn step(_name: &'static str) {
    #[cfg(feature = "fault")]
    corral_core::steps::pass(_name);
}

/// Numbers of one C type in memory; a code that is none of them means that ctypes must be asked.
struct Numbers {
    memory: Shared,
    code: u8,
    width: usize,
}

/// Calls `$call!(type)` for the type that a code of ctypes names (on the systems where a C long has 64 bits).
macro_rules! for_number {
    ($code:expr, $call:ident) => {
        match $code {
            b'b' => $call!(i8),
            b'B' => $call!(u8),
            b'h' => $call!(i16),
            b'H' => $call!(u16),
            b'i' => $call!(i32),
            b'I' => $call!(u32),
            b'l' | b'q' => $call!(i64),
            b'L' | b'Q' => $call!(u64),
            _ => None,
        }
    };
}

impl Numbers {
    fn new(object: &Bound<'_, PyAny>, code: &str) -> PyResult<Self> {
        let code = code.bytes().next().unwrap_or(0);
        let width = match code {
            b'b' | b'B' | b'c' | b'?' => 1,
            b'h' | b'H' => 2,
            b'i' | b'I' | b'f' => 4,
            b'l' | b'L' | b'q' | b'Q' | b'd' => 8,
            // Of no use: ctypes is asked.
            0 => 1,
            _ => return Err(PyValueError::new_err("not a type code")),
        };
        Ok(Self { memory: Shared::new(object)?, code, width })
    }

    fn count(&self) -> usize {
        self.memory.length() / self.width
    }

    /// The number at `index`; None: ask ctypes.
    #[inline]
    fn get(&self, py: Python<'_>, index: usize) -> Option<Py<PyAny>> {
        let at = index * self.width;
        macro_rules! integer {
            ($type:ty) => {
                Some(object_of(py, <$type>::from_ne_bytes(self.memory.load(at)?)))
            };
        }
        match self.code {
            b'd' => Some(PyFloat::new(py, f64::from_ne_bytes(self.memory.load(at)?)).into_any().unbind()),
            b'f' => {
                let number = f32::from_ne_bytes(self.memory.load(at)?);
                Some(PyFloat::new(py, f64::from(number)).into_any().unbind())
            }
            b'?' => Some(PyBool::new(py, self.memory.load(at)? != [0_u8]).to_owned().into_any().unbind()),
            b'c' => Some(PyBytes::new(py, &self.memory.load::<1>(at)?).into_any().unbind()),
            code => for_number!(code, integer),
        }
    }

    /// Sets the number at `index`, as C would: what is too large loses its upper bits. None: ask ctypes.
    #[inline]
    fn set(&self, index: usize, value: &Bound<'_, PyAny>) -> Option<()> {
        let at = index * self.width;
        if matches!(self.code, b'd' | b'f') {
            let number = value.cast_exact::<PyFloat>().ok()?.value();
            #[expect(clippy::cast_possible_truncation, reason = "as in C")]
            return match self.code {
                b'd' => self.memory.store(at, number.to_ne_bytes()),
                _ => self.memory.store(at, (number as f32).to_ne_bytes()),
            };
        }
        if self.code == b'?' {
            let truth = value.cast_exact::<PyBool>().ok()?.is_true();
            return self.memory.store(at, [u8::from(truth)]);
        }
        let number: i64 = value.cast_exact::<PyInt>().ok()?.extract().ok()?;
        macro_rules! integer {
            ($type:ty) => {{
                #[expect(clippy::allow_attributes, reason = "not every type can lose something")]
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    clippy::unnecessary_cast,
                    reason = "as in C"
                )]
                self.memory.store(at, (number as $type).to_ne_bytes())
            }};
        }
        for_number!(self.code, integer)
    }
}

#[inline]
fn object_of<'py, T>(py: Python<'py>, number: T) -> Py<PyAny>
where
    T: IntoPyObject<'py, Target = PyInt, Output = Bound<'py, PyInt>, Error = std::convert::Infallible>,
{
    let Ok(object) = number.into_pyobject(py);
    object.into_any().unbind()
}

/// One number, or another simple ctypes object, under its lock.
#[pyclass(frozen, subclass, extends = Guarded, module = "corral._native")]
pub(crate) struct Cell {
    numbers: Numbers,
}

impl Cell {
    fn read(&self, whole: &Guarded, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.numbers.get(py, 0) {
            Some(number) => Ok(number),
            None => whole.object.getattr(py, intern!(py, "value")),
        }
    }

    fn write(&self, whole: &Guarded, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.numbers.set(0, value) {
            Some(()) => Ok(()),
            None => whole.object.bind(value.py()).setattr(intern!(value.py(), "value"), value),
        }
    }
}

#[pymethods]
impl Cell {
    /// `code`: the type code of ctypes, empty for what is left to ctypes.
    #[new]
    fn new(
        object: Bound<'_, PyAny>,
        lock: Bound<'_, PyAny>,
        code: &str,
    ) -> PyResult<PyClassInitializer<Self>> {
        let numbers = Numbers::new(&object, code)?;
        Ok(PyClassInitializer::from(Guarded::new(object.unbind(), lock)?).add_subclass(Self { numbers }))
    }

    #[getter]
    fn get_value(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let (py, whole) = (slf.py(), slf.as_super().get());
        whole.guard.with(py, || slf.get().read(whole, py))
    }

    #[setter]
    fn set_value(slf: &Bound<'_, Self>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let whole = slf.as_super().get();
        whole.guard.with(slf.py(), || slf.get().write(whole, value))
    }

    /// Adds, in one step under the lock; the new value.
    fn add(slf: &Bound<'_, Self>, n: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let (py, whole, cell) = (slf.py(), slf.as_super().get(), slf.get());
        whole.guard.with(py, || {
            let sum = cell.read(whole, py)?.bind(py).add(n)?;
            cell.write(whole, &sum)?;
            cell.read(whole, py)
        })
    }
}

/// An array under its lock.
#[pyclass(frozen, subclass, extends = Guarded, module = "corral._native")]
pub(crate) struct Cells {
    numbers: Numbers,
    length: usize,
}

impl Cells {
    /// The position that an index means, if it is an integer of the usual size and inside.
    #[inline]
    fn position(&self, index: &Bound<'_, PyAny>) -> Option<usize> {
        let index: isize = index.cast_exact::<PyInt>().ok()?.extract().ok()?;
        let position =
            if index < 0 { self.length.checked_sub(index.unsigned_abs())? } else { index.unsigned_abs() };
        (position < self.length).then_some(position)
    }

    #[inline]
    fn at(slf: &Bound<'_, Self>, position: usize) -> PyResult<Py<PyAny>> {
        let (py, whole) = (slf.py(), slf.as_super().get());
        whole.guard.with(py, || match slf.get().numbers.get(py, position) {
            Some(number) => Ok(number),
            None => Ok(whole.object.bind(py).get_item(position)?.unbind()),
        })
    }
}

#[pymethods]
impl Cells {
    /// `code`: the type code of the items in ctypes, empty for what is left to ctypes.
    #[new]
    fn new(
        object: Bound<'_, PyAny>,
        lock: Bound<'_, PyAny>,
        code: &str,
    ) -> PyResult<PyClassInitializer<Self>> {
        let length = object.len()?;
        let numbers = Numbers::new(&object, code)?;
        if !code.is_empty() && numbers.count() < length {
            return Err(PyValueError::new_err("the array is longer than its memory"));
        }
        Ok(PyClassInitializer::from(Guarded::new(object.unbind(), lock)?)
            .add_subclass(Self { numbers, length }))
    }

    fn __len__(&self) -> usize {
        self.length
    }

    fn __getitem__(slf: &Bound<'_, Self>, index: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        if let Some(position) = slf.get().position(index) {
            return Self::at(slf, position);
        }
        let (py, whole) = (slf.py(), slf.as_super().get());
        whole.guard.with(py, || Ok(whole.object.bind(py).get_item(index)?.unbind()))
    }

    fn __setitem__(
        slf: &Bound<'_, Self>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (py, whole, cells) = (slf.py(), slf.as_super().get(), slf.get());
        let position = cells.position(index);
        whole.guard.with(py, || match position.and_then(|position| cells.numbers.set(position, value)) {
            Some(()) => Ok(()),
            None => whole.object.bind(py).set_item(index, value),
        })
    }

    fn __iter__(slf: &Bound<'_, Self>) -> CellsIterator {
        CellsIterator { cells: slf.clone().unbind(), next: 0 }
    }
}

/// Goes over an array, item by item, each under the lock.
#[pyclass(module = "corral._native")]
pub(crate) struct CellsIterator {
    cells: Py<Cells>,
    next: usize,
}

#[pymethods]
impl CellsIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let cells = self.cells.bind(py);
        if self.next >= cells.get().length {
            return Ok(None);
        }
        let item = Cells::at(cells, self.next)?;
        self.next += 1;
        Ok(Some(item))
    }

    fn __length_hint__(&self) -> usize {
        self.cells.get().length - self.next
    }
}

/// Adds this room's classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Stretch>()?;
    module.add_class::<Guarded>()?;
    module.add_class::<Cell>()?;
    module.add_class::<Cells>()
}
