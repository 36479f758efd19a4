//! Bell and WaitSet for Python.

use pyo3::prelude::*;

/// Adds this room's classes and functions to the module.
#[allow(clippy::unnecessary_wraps, reason = "all rooms register in the same way")]
pub(crate) fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
