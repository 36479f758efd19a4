//! The pickle of small plain values, written here: numbers, text, bytes, and tuples of them.
//!
//! Most calls carry nothing else, and for them `pickle.dumps` spends most of its time on getting started. What is written is
//! ordinary pickle, protocol 5 (PEP 574; opcodes as in the standard library's `pickletools`), without frame and memo: all of it is
//! immutable, so that a value met twice may arrive as two.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};

/// More than this is left to `pickle`, which is as fast then.
const MOST_BYTES: usize = 1024;
const DEPTH: usize = 3;
/// Protocol 5.
const HEAD: &[u8] = b"\x80\x05";
const STOP: u8 = b'.';

/// The pickle of `value`; None if it is anything but small and plain.
#[pyfunction]
pub(crate) fn pickle_plain<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(64);
    write_plain(value, &mut out).then(|| PyBytes::new(value.py(), &out))
}

/// Appends the pickle of `value`; false, and nothing of it stays, if it is anything but small and plain.
#[inline]
pub(crate) fn write_plain(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(HEAD);
    if write(value, out, start + MOST_BYTES, DEPTH).is_none() {
        out.truncate(start);
        return false;
    }
    out.push(STOP);
    true
}

/// The value of which [`write_plain`] has written the pickle, if it is a single number, text or the like; None: ask `pickle`.
#[inline]
pub(crate) fn read_plain<'py>(py: Python<'py>, pickled: &[u8]) -> Option<Bound<'py, PyAny>> {
    let (&opcode, rest) = pickled.strip_prefix(HEAD)?.strip_suffix(&[STOP])?.split_first()?;
    let integer = |value: i64| PyInt::new(py, value).into_any();
    Some(match (opcode, rest) {
        (b'K', &[byte]) => integer(byte.into()),
        (b'M', rest) => integer(u16::from_le_bytes(rest.try_into().ok()?).into()),
        (b'J', rest) => integer(i32::from_le_bytes(rest.try_into().ok()?).into()),
        (0x8a, [8, rest @ ..]) => integer(i64::from_le_bytes(rest.try_into().ok()?)),
        (b'G', rest) => PyFloat::new(py, f64::from_be_bytes(rest.try_into().ok()?)).into_any(),
        (b'N', []) => py.None().into_bound(py),
        (0x88, []) => PyBool::new(py, true).to_owned().into_any(),
        (0x89, []) => PyBool::new(py, false).to_owned().into_any(),
        (b'C', [length, rest @ ..]) if rest.len() == usize::from(*length) => {
            PyBytes::new(py, rest).into_any()
        }
        (0x8c, [length, rest @ ..]) if rest.len() == usize::from(*length) => {
            PyString::new(py, str::from_utf8(rest).ok()?).into_any()
        }
        _ => return None,
    })
}

fn write(value: &Bound<'_, PyAny>, out: &mut Vec<u8>, most: usize, depth: usize) -> Option<()> {
    if out.len() > most {
        return None;
    }
    if value.is_exact_instance_of::<PyInt>() {
        return write_int(value, out);
    }
    if let Ok(tuple) = value.cast_exact::<PyTuple>() {
        return write_tuple(tuple, out, most, depth.checked_sub(1)?);
    }
    if value.is_none() {
        out.push(b'N');
        return Some(());
    }
    if let Ok(text) = value.cast_exact::<PyString>() {
        // Lone surrogates are not UTF-8: pickle knows what to do.
        return write_sized(text.to_str().ok()?.as_bytes(), [0x8c, b'X'], out);
    }
    if let Ok(number) = value.cast_exact::<PyFloat>() {
        out.push(b'G');
        out.extend_from_slice(&number.value().to_be_bytes());
        return Some(());
    }
    if let Ok(truth) = value.cast_exact::<PyBool>() {
        out.push(if truth.is_true() { 0x88 } else { 0x89 });
        return Some(());
    }
    write_sized(value.cast_exact::<PyBytes>().ok()?.as_bytes(), [b'C', b'B'], out)
}

fn write_int(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<()> {
    let number: i64 = value.extract().ok()?;
    if let Ok(small) = u8::try_from(number) {
        out.extend_from_slice(&[b'K', small]);
    } else if let Ok(small) = u16::try_from(number) {
        out.push(b'M');
        out.extend_from_slice(&small.to_le_bytes());
    } else if let Ok(medium) = i32::try_from(number) {
        out.push(b'J');
        out.extend_from_slice(&medium.to_le_bytes());
    } else {
        out.extend_from_slice(&[0x8a, 8]);
        out.extend_from_slice(&number.to_le_bytes());
    }
    Some(())
}

/// Bytes behind their length: of one byte after the first opcode, of four after the second.
fn write_sized(bytes: &[u8], opcodes: [u8; 2], out: &mut Vec<u8>) -> Option<()> {
    if bytes.len() > MOST_BYTES {
        return None;
    }
    let [short, long] = opcodes;
    if let Ok(length) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[short, length]);
    } else {
        out.push(long);
        out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    }
    out.extend_from_slice(bytes);
    Some(())
}

fn write_tuple(tuple: &Bound<'_, PyTuple>, out: &mut Vec<u8>, most: usize, depth: usize) -> Option<()> {
    let end = match tuple.len() {
        0 => b')',
        1 => 0x85,
        2 => 0x86,
        3 => 0x87,
        _ => {
            out.push(b'(');
            b't'
        }
    };
    for item in tuple.iter_borrowed() {
        write(&item, out, most, depth)?;
    }
    out.push(end);
    Some(())
}

/// Adds what this file offers to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(pickle_plain, module)?)
}
