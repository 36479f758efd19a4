//! The Python module `corral._native`: converts, releases the GIL, maps errors; no algorithm.
//!
//! Each submodule adds its own classes and functions with a `register` function, so that this file
//! only lists the rooms.

use pyo3::prelude::*;

mod away;
mod buffer;
mod cells;
mod channel;
#[cfg(feature = "fault")]
mod fault;
mod heap;
mod link;
mod pipe;
mod plain;
mod queue;
mod sync;
mod wait;

/// What must be atomic across processes; private, typed in `_native.pyi`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    away::register(module)?;
    channel::register(module)?;
    #[cfg(feature = "fault")]
    fault::register(module)?;
    cells::register(module)?;
    heap::register(module)?;
    link::register(module)?;
    pipe::register(module)?;
    plain::register(module)?;
    queue::register(module)?;
    sync::register(module)?;
    wait::register(module)?;
    Ok(())
}
