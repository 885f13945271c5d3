//! The native module `breakeven._native`: PyO3 classes over `shm`, `wire`, `plan` and `trace`.
//!
//! Every wait passes `enter.rs`; every object that travels passes `codec/`. Nothing here starts a thread, and nothing
//! takes a lock that a forked child could find taken: state is atomics, shared memory, or Python objects made at import.

mod analyze;
mod arena;
mod blob;
mod channel;
mod closable;
mod codec;
mod container;
mod debug;
mod detached;
mod dict;
mod enter;
mod error;
mod fork;
mod list;
mod pages;
mod pipe;
mod place;
mod plan;
mod planner;
mod settings;
mod statics;
mod sync;
mod trace;
mod why;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    #[pymodule_export]
    use super::analyze::{analyze, report_words};
    #[pymodule_export]
    use super::arena::{arena_statistics, configure, count, counters, reap, trim};
    #[pymodule_export]
    use super::blob::{Blob, fetch, publish};
    #[pymodule_export]
    use super::channel::Channel;
    #[pymodule_export]
    use super::codec::{BlockView, Collector, Items, ReducerTable, Slice};
    #[pymodule_export]
    use super::container::{release_group, storing};
    #[pymodule_export]
    use super::debug::{_decode, _encode};
    #[pymodule_export]
    use super::detached::start_detached;
    #[pymodule_export]
    use super::dict::SharedDict;
    #[pymodule_export]
    use super::fork::{end_with_parent, fork_before, fork_child, fork_parent, note_child};
    #[pymodule_export]
    use super::list::SharedList;
    #[pymodule_export]
    use super::pages::{make_own, own_pages};
    #[pymodule_export]
    use super::pipe::{_parcel, PipeEnd};
    #[pymodule_export]
    use super::place::keep_apart;
    #[pymodule_export]
    use super::plan::{ChunkPolicy, static_chunks};
    #[pymodule_export]
    use super::planner::{Charges, Planner};
    #[pymodule_export]
    use super::settings::set_pickle_mode;
    #[pymodule_export]
    use super::sync::{Event, Mutex, Semaphore, Waiters};
    #[pymodule_export]
    use super::trace::{
        Hook, ImportHook, LockMethod, ProducedItems, ServedConnection, TaskCall, TaskSource, TraceCollector,
        TracedLock, recording_to_json, trace_active, trace_after_fork, trace_close, trace_context, trace_cost,
        trace_distance, trace_files, trace_finish, trace_identity, trace_inode, trace_intern, trace_now, trace_number,
        trace_open, trace_per_call, trace_point, trace_site, trace_span, trace_start, trace_stop, trace_thread,
    };

    #[pymodule_export]
    use super::why::{perfetto, read_report, render_html};

    /// How this module was built.
    #[pyfunction]
    fn build_info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let info = PyDict::new(py);
        info.set_item("version", env!("CARGO_PKG_VERSION"))?;
        info.set_item("profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
        info.set_item("free_threaded", cfg!(Py_GIL_DISABLED))?;
        Ok(info)
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        super::codec::check_interpreter(py)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::enter::initialise(py)?;
        super::statics::initialise(py)?;
        super::trace::initialise(py)?;
        let statics = super::statics::statics(py);
        module.add("MemoryLimitError", &statics.memory_limit_error)?;
        module.add("StaleBlob", &statics.stale_blob)?;
        module.add("CorruptMessage", &statics.corrupt_message)
    }
}
