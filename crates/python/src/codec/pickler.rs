//! Pickling: protocol 5, with multiprocessing's registered reducers, long buffers out of band, and by-value pickling
//! (cloudpickle) for what pickle cannot name.

use core::marker::PhantomData;

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyTuple};

use crate::statics::{Statics, statics};

/// Buffers of fewer bytes stay inside the pickle stream: a block is at least a page, and a view on it costs more than
/// copying this much.
pub(crate) const OUT_OF_BAND_FROM: isize = 32 << 10;

/// Streams of at most so many bytes let their pickler be used again; the memo table of a longer one would stay large.
const KEEP_PICKLER_UP_TO: usize = 64 << 10;

/// Receives what a pickler writes, and the buffers that it offers. Everything is kept in Python lists, so that there is
/// no lock here that a fork could catch. Not tracked by the garbage collector: the lists are only reachable from here
/// and are emptied when pickling ends, whichever way.
#[pyclass(frozen, module = "breakeven._native", name = "_Collector")]
pub(crate) struct Collector {
    chunks: Py<PyList>,
    buffers: Py<PyList>,
}

#[pymethods]
impl Collector {
    /// The pickler's file: takes a piece of the stream, by reference.
    fn write(&self, chunk: &Bound<'_, PyAny>) -> PyResult<()> {
        self.chunks.bind(chunk.py()).append(chunk)
    }

    /// The pickler's `buffer_callback`: true to keep the buffer in the stream.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let out_of_band = match Held::new(buffer) {
            Ok(held) => held.contiguous() && held.len() as isize >= OUT_OF_BAND_FROM,
            // Whatever is wrong with it, the pickler has the better message.
            Err(_) => false,
        };
        if out_of_band {
            self.buffers.bind(buffer.py()).append(buffer)?;
        }
        Ok(!out_of_band)
    }
}

impl Collector {
    fn new(py: Python<'_>) -> PyResult<Bound<'_, Collector>> {
        Bound::new(py, Collector { chunks: PyList::empty(py).unbind(), buffers: PyList::empty(py).unbind() })
    }

    /// What was collected: pieces of the stream, and buffers.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<[Vec<Bound<'py, PyAny>>; 2]> {
        let take = |list: &Bound<'py, PyList>| {
            let items = list.iter().collect::<Vec<_>>();
            list.del_slice(0, list.len())?;
            PyResult::Ok(items)
        };
        Ok([take(self.chunks.bind(py))?, take(self.buffers.bind(py))?])
    }
}

/// Reducers of several registries in one dict, for a pickler's `dispatch_table`.
///
/// What is registered later must count too, and a table that looks things up in several dicts when asked (`ChainMap`) would
/// do that; but then every object that is in none of them costs the pickler a `KeyError`, from 0.2 us here to 1.5 us for a
/// `ChainMap`. In an exact dict the pickler looks without exceptions. So the dict is brought up to date before each pickle,
/// if anything has changed; to see that takes less than 0.1 us.
///
/// The registries are module-level dicts that outlive everything, hence no `__traverse__`.
#[pyclass(frozen, module = "breakeven._native", name = "_ReducerTable")]
pub(crate) struct ReducerTable {
    /// The first one's entries count most.
    registries: Vec<Py<PyDict>>,
    /// All registries' entries.
    #[pyo3(get)]
    table: Py<PyDict>,
    /// The keys and values from which `table` was made, in turn and in order.
    seen: Py<PyList>,
}

#[pymethods]
impl ReducerTable {
    #[new]
    #[pyo3(signature = (*registries))]
    fn new(py: Python<'_>, registries: Vec<Py<PyDict>>) -> PyResult<ReducerTable> {
        let made = ReducerTable { registries, table: PyDict::new(py).unbind(), seen: PyList::empty(py).unbind() };
        made.refresh(py)?;
        Ok(made)
    }

    /// Brings `table` up to date.
    pub(crate) fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_current(py) {
            return Ok(());
        }
        let fresh = PyDict::new(py);
        let seen = PyList::empty(py);
        for registry in self.registries.iter().rev() {
            fresh.update(registry.bind(py).as_mapping())?;
        }
        for registry in &self.registries {
            for (key, value) in registry.bind(py) {
                seen.append(key)?;
                seen.append(value)?;
            }
        }
        // Never emptied: another thread may be pickling with it.
        let table = self.table.bind(py);
        for key in table.keys() {
            if !fresh.contains(&key)? {
                table.del_item(key)?;
            }
        }
        table.update(fresh.as_mapping())?;
        let old = self.seen.bind(py);
        old.set_slice(0, old.len(), &seen)
    }
}

impl ReducerTable {
    fn is_current(&self, py: Python<'_>) -> bool {
        let seen = self.seen.bind(py);
        let (mut at, known) = (0, seen.len());
        for registry in &self.registries {
            let mut position = 0;
            let (mut key, mut value) = (core::ptr::null_mut(), core::ptr::null_mut());
            // SAFETY: a dict; key and value are borrowed, and only their addresses are looked at. What `seen` holds is
            // alive, so an address in it cannot have become another object's.
            unsafe {
                while ffi::PyDict_Next(registry.as_ptr(), &mut position, &mut key, &mut value) != 0 {
                    if at + 2 > known
                        || ffi::PyList_GET_ITEM(seen.as_ptr(), at as isize) != key
                        || ffi::PyList_GET_ITEM(seen.as_ptr(), at as isize + 1) != value
                    {
                        return false;
                    }
                    at += 2;
                }
            }
        }
        at == known
    }
}

/// An exported buffer. While it is held, its owner can neither free nor resize it.
pub(crate) struct Held<'py> {
    // Boxed because an exporter may point into the structure itself.
    view: Box<ffi::Py_buffer>,
    // Released with the interpreter attached.
    attached: PhantomData<Python<'py>>,
}

impl<'py> Held<'py> {
    pub(crate) fn new(obj: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `obj` is valid, `view` is writable and stays where it is.
        if unsafe { ffi::PyObject_GetBuffer(obj.as_ptr(), &mut *view, ffi::PyBUF_FULL_RO) } != 0 {
            return Err(PyErr::fetch(obj.py()));
        }
        Ok(Held { view, attached: PhantomData })
    }

    pub(crate) fn contiguous(&self) -> bool {
        // SAFETY: the view was filled by `PyObject_GetBuffer`. 'A': C or Fortran order.
        unsafe { ffi::PyBuffer_IsContiguous(&*self.view, b'A' as core::ffi::c_char) != 0 }
    }

    pub(crate) fn start(&self) -> *const u8 {
        self.view.buf.cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.view.len as usize
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: the view was filled by `PyObject_GetBuffer` and is released once, attached (the type is bound to 'py).
        unsafe { ffi::PyBuffer_Release(&mut *self.view) };
    }
}

/// A pickle.
pub(crate) struct Pickled<'py> {
    /// Pieces of the stream, in order.
    pub(crate) stream: Vec<Held<'py>>,
    pub(crate) stream_len: usize,
    /// Out-of-band buffers, in order.
    pub(crate) buffers: Vec<Held<'py>>,
}

/// Pickles `obj`: by name where that can work, else by value.
pub(crate) fn pickle<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let statics = statics(py);
    let by_name = match plain(obj, statics) {
        Ok(pickled) => {
            // In a notebook the receiver may have been started before the function was defined, or cannot import
            // `__main__` at all.
            if !crate::settings::main_by_value(py) || !names_main(&pickled, statics, py)? {
                return Ok(pickled);
            }
            None
        }
        Err(error) if !about_the_object(&error, statics, py) => return Err(error),
        Err(error) => Some(error),
    };
    match by_value(obj, statics) {
        Ok(pickled) => Ok(pickled),
        Err(second) => match by_name {
            Some(first) => Err(explain(obj, &first, &second, statics)),
            // It could be pickled by name, so do that.
            None => plain(obj, statics),
        },
    }
}

/// Errors with which pickle says that it cannot name or take apart an object; others are the object's own.
fn about_the_object(error: &PyErr, statics: &Statics, py: Python<'_>) -> bool {
    error.is_instance(py, statics.pickling_error.bind(py))
        || error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAttributeError>(py)
}

fn plain<'py>(obj: &Bound<'py, PyAny>, statics: &Statics) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let cache = statics.picklers.bind(py);
    // Pickling may pickle (a `__reduce__` that puts something on a queue), and threads do it side by side: whoever finds
    // the cache empty makes a new pair.
    statics.reducers.get().refresh(py)?;
    let pair = match cache.call_method0(&statics.pop) {
        Ok(pair) => pair.cast_into::<PyTuple>()?,
        Err(_) => {
            let collector = Collector::new(py)?;
            let pickler = statics.new_pickler.bind(py).call1((&collector,))?;
            PyTuple::new(py, [pickler.as_any(), collector.as_any()])?
        }
    };
    let pickler = pair.get_borrowed_item(0)?;
    let collector = pair.get_borrowed_item(1)?;
    let collector = collector.cast::<Collector>()?;
    pickler.call_method1(&statics.dump, (obj,))?;
    let pickled = collect(&collector)?;
    if pickled.stream_len <= KEEP_PICKLER_UP_TO {
        // The memo keeps every object alive that was pickled.
        pickler.call_method0(&statics.clear_memo)?;
        cache.append(&pair)?;
    }
    Ok(pickled)
}

fn by_value<'py>(obj: &Bound<'py, PyAny>, statics: &Statics) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let collector = Collector::new(py)?;
    let pickler = statics.new_cloud_pickler.bind(py).call1((&collector,))?;
    pickler.call_method1(&statics.dump, (obj,))?;
    collect(&collector)
}

fn collect<'py>(collector: &Bound<'py, Collector>) -> PyResult<Pickled<'py>> {
    let [chunks, buffers] = collector.get().take(collector.py())?;
    let stream = chunks.iter().map(Held::new).collect::<PyResult<Vec<_>>>()?;
    let buffers = buffers.iter().map(Held::new).collect::<PyResult<Vec<_>>>()?;
    let stream_len = stream.iter().map(Held::len).sum();
    Ok(Pickled { stream, stream_len, buffers })
}

/// Whether the stream refers to something in `__main__`.
fn names_main(pickled: &Pickled<'_>, statics: &Statics, py: Python<'_>) -> PyResult<bool> {
    for chunk in &pickled.stream {
        // SAFETY: the buffer is exported, so so many bytes are there; they are copied at once.
        let bytes = PyBytes::new(py, unsafe { core::slice::from_raw_parts(chunk.start(), chunk.len()) });
        if statics.names_main.bind(py).call1((bytes,))?.cast::<PyBool>()?.is_true() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The error to raise: it names the path to what cannot be pickled.
fn explain(obj: &Bound<'_, PyAny>, first: &PyErr, second: &PyErr, statics: &Statics) -> PyErr {
    let py = obj.py();
    match statics.explain.bind(py).call1((obj, first.value(py), second.value(py))) {
        Ok(error) => PyErr::from_value(error),
        // An explanation that fails must not hide what it was to explain.
        Err(_) => first.clone_ref(py),
    }
}
