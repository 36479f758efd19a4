//! Faults at named steps, for tests; only in a build with the feature `fault`.

use std::collections::BTreeMap;

use corral_core::steps;
use pyo3::prelude::*;

use crate::heap::{Heap, heap_error};

/// Has this process send itself `signal` at the `nth` passing of `step` from now; `nth` 0 disarms.
#[pyfunction]
fn arm_fault(step: &str, nth: u64, signal: i32) {
    steps::arm(step, nth, signal);
}

/// How often each step was passed in this process.
#[pyfunction]
fn passed_steps() -> BTreeMap<&'static str, u64> {
    steps::passed()
}

/// Writes garbage into a block, whoever owns it.
#[pyfunction]
#[pyo3(signature = (heap, r#ref, offset, garbage))]
fn scribble(heap: &Heap, r#ref: u64, offset: usize, garbage: &[u8]) -> PyResult<()> {
    steps::scribble(heap.core(), r#ref, offset, garbage).map_err(heap_error)
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(arm_fault, module)?)?;
    module.add_function(wrap_pyfunction!(passed_steps, module)?)?;
    module.add_function(wrap_pyfunction!(scribble, module)?)?;
    Ok(())
}
