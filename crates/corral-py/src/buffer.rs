//! Other objects' buffers, as bytes to copy from.
//!
//! # Invariants
//!
//! INV-BUFFER-1: while a [`Pinned`] exists its object neither frees nor moves the memory (that is the buffer protocol's promise).
//! Another thread may write to it meanwhile, as to any buffer that is being sent: then what arrives is a mixture.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
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
