//! The Python objects that hot paths need, looked up once, when the module is imported.
//!
//! Nothing here is initialised later: a lock in the middle of its first use would be inherited, locked, by a child
//! forked at that instant. After the import a look-up is one atomic load.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::codec::ReducerTable;

pub(crate) struct Statics {
    pub(crate) queue_full: Py<PyAny>,
    pub(crate) queue_empty: Py<PyAny>,
    pub(crate) memory_limit_error: Py<PyAny>,
    pub(crate) stale_blob: Py<PyAny>,
    pub(crate) corrupt_message: Py<PyAny>,
    pub(crate) range: Py<PyAny>,
    /// `itertools.chain.from_iterable`
    pub(crate) chain: Py<PyAny>,
    pub(crate) pickle_loads: Py<PyAny>,
    pub(crate) pickling_error: Py<PyAny>,
    /// Pairs of pickler and collector that are not in use. A list, because its `pop` and `append` are atomic.
    pub(crate) picklers: Py<PyList>,
    /// What the picklers in use look reducers up in.
    pub(crate) reducers: Py<ReducerTable>,
    pub(crate) new_pickler: Py<PyAny>,
    pub(crate) new_cloud_pickler: Py<PyAny>,
    pub(crate) names_main: Py<PyAny>,
    pub(crate) explain: Py<PyAny>,
    pub(crate) pop: Py<PyString>,
    pub(crate) dump: Py<PyString>,
    pub(crate) clear_memo: Py<PyString>,
    pub(crate) buffers_keyword: Py<PyTuple>,
}

static STATICS: PyOnceLock<Statics> = PyOnceLock::new();

/// Called by the module's initialiser.
pub(crate) fn initialise(py: Python<'_>) -> PyResult<()> {
    let queue = py.import("queue")?;
    let errors = py.import("breakeven._errors")?;
    let pickling = py.import("breakeven._pickling")?;
    let reducers = pickling.call_method1("initialise", (py.get_type::<ReducerTable>(),))?;
    let pickle = py.import("pickle")?;
    let statics = Statics {
        queue_full: queue.getattr("Full")?.unbind(),
        queue_empty: queue.getattr("Empty")?.unbind(),
        memory_limit_error: errors.getattr("MemoryLimitError")?.unbind(),
        stale_blob: errors.getattr("StaleBlob")?.unbind(),
        corrupt_message: errors.getattr("CorruptMessage")?.unbind(),
        range: py.import("builtins")?.getattr("range")?.unbind(),
        chain: py.import("itertools")?.getattr("chain")?.getattr("from_iterable")?.unbind(),
        pickle_loads: pickle.getattr("loads")?.unbind(),
        pickling_error: pickle.getattr("PicklingError")?.unbind(),
        picklers: PyList::empty(py).unbind(),
        reducers: reducers.cast_into()?.unbind(),
        new_pickler: pickling.getattr("new_pickler")?.unbind(),
        new_cloud_pickler: pickling.getattr("new_cloud_pickler")?.unbind(),
        names_main: pickling.getattr("names_main")?.unbind(),
        explain: pickling.getattr("explain")?.unbind(),
        pop: PyString::intern(py, "pop").unbind(),
        dump: PyString::intern(py, "dump").unbind(),
        clear_memo: PyString::intern(py, "clear_memo").unbind(),
        buffers_keyword: PyTuple::new(py, ["buffers"])?.unbind(),
    };
    // A second import (after the module was deleted from sys.modules) keeps the first one's objects.
    let _ = STATICS.set(py, statics);
    Ok(())
}

#[inline]
pub(crate) fn statics(py: Python<'_>) -> &'static Statics {
    STATICS.get(py).expect("the module's initialiser has run before any of its functions")
}
