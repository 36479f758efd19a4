//! Other objects' buffers, as bytes to copy from.
//!
//! # Invariants
//!
//! INV-BUFFER-1: while a [`Pinned`] exists its object neither frees nor moves the memory (that is the buffer protocol's promise).
//! Another thread may write to it meanwhile, as to any buffer that is being sent: then what arrives is a mixture.

use std::ffi::c_int;

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// A buffer that stays where it is.
pub(crate) struct Pinned(PyUntypedBuffer);

impl Pinned {
    /// Pins the memory of `object`, which must be one stretch (in C or Fortran order).
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if buffer.is_c_contiguous() || buffer.is_fortran_contiguous() {
            Ok(Self(buffer))
        } else {
            Err(PyBufferError::new_err("only a contiguous buffer can be sent"))
        }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        let (start, length) = (self.0.buf_ptr().cast::<u8>(), self.0.len_bytes());
        if start.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: INV-BUFFER-1: contiguous, `length` bytes long, and pinned as long as `self`.
        unsafe { std::slice::from_raw_parts(start, length) }
    }
}

/// Memory that others may change at any time, read and written by copies.
///
/// # Invariants
///
/// INV-BUFFER-2: what two processes may touch at once is never the target of a reference: only copied from and to.
pub(crate) struct Shared(Box<ffi::Py_buffer>);

// SAFETY: INV-BUFFER-1: an address that stays good in every thread; what gives it back attaches to the interpreter.
unsafe impl Send for Shared {}
// SAFETY: INV-BUFFER-2: as above; it is only copied from and to.
unsafe impl Sync for Shared {}

impl Shared {
    /// Pins the memory of `object`, which must be writable (and is one stretch: no shape is asked for).
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        // In a box: exporters may let a view point into itself.
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the object is alive, and the view is ours, to be filled.
        let code = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_WRITABLE) };
        if code == 0 { Ok(Self(view)) } else { Err(PyErr::fetch(object.py())) }
    }

    /// Bytes.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.0.len.unsigned_abs()
    }

    #[inline]
    fn address<const N: usize>(&self, at: usize) -> Option<*mut u8> {
        if at > self.length() || N > self.length() - at {
            return None;
        }
        Some(self.0.buf.cast::<u8>().wrapping_add(at))
    }

    /// `N` bytes from `at`; None if they lie outside. An aligned word is read at once.
    #[inline]
    pub(crate) fn load<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let from = self.address::<N>(at)?;
        let mut bytes = [0; N];
        // SAFETY: INV-BUFFER-1: in bounds and pinned; INV-BUFFER-2: a copy, to an array that nobody else knows.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), N) };
        Some(bytes)
    }

    /// Sets the `N` bytes from `at`; None if they lie outside. An aligned word is written at once.
    #[inline]
    pub(crate) fn store<const N: usize>(&self, at: usize, bytes: [u8; N]) -> Option<()> {
        let to = self.address::<N>(at)?;
        // SAFETY: INV-BUFFER-1: in bounds, pinned, writable; INV-BUFFER-2: a copy, from an array that nobody else knows.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, N) };
        Some(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        Python::attach(|_| {
            // SAFETY: filled in `new`, and released once.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
        });
    }
}

/// Fills `view` as a request to `object` would have: the view is of `object`, and keeps it.
///
/// # Safety
///
/// `view` is the interpreter's, to be filled, as in `__getbuffer__`.
pub(crate) unsafe fn forward(
    object: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    // SAFETY: the caller's promise; the object is alive.
    let code = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view, flags) };
    if code == 0 { Ok(()) } else { Err(PyErr::fetch(object.py())) }
}
