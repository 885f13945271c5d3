//! The native half of `breakeven why`'s recording: what the hooks of `breakeven/_why` write with, and what the supervisor
//! reads with.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod.rs` | this process's writer; points; places in the user's code |
//! | `call.rs` | calling Python functions |
//! | `hook.rs` | callables that stand in the place of the standard library's functions and record each call |
//! | `task.rs` | tasks as workers get them |
//! | `lock.rs` | locks |
//! | `serve.rs` | requests to a manager, as its server gets them |
//! | `collector.rs` | the supervisor: rings and `/proc` into a `Recording` |
//!
//! Nothing here shows in a traceback: the program's is as without us.

mod call;
mod collector;
mod hook;
mod lock;
mod serve;
mod task;

use breakeven_shm::trace::{self, Identity, Writer};
use breakeven_trace::{Flags, Record, RecordKind};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use collector::{TraceCollector, recording_to_json};
pub(crate) use hook::{Hook, ImportHook};
pub(crate) use lock::{LockMethod, TracedLock};
pub(crate) use serve::ServedConnection;
pub(crate) use task::{ProducedItems, TaskCall, TaskSource};

/// How many submissions of a place have their arguments noted.
const SUBMISSIONS: u32 = 3;

/// Nanoseconds: what a hook can take at most. What took longer was waiting for a core or for the interpreter's lock.
const MOST_NATIVE: u64 = 100_000;
const MOST_PYTHON: u64 = 2_000_000;

/// Nanoseconds: holding a lock, or making an item, for less is not worth a record.
const WORTH_A_RECORD: u64 = 20_000;

/// Python objects of the hooks, made when the module is imported: see `statics.rs`.
pub(crate) struct State {
    /// Text -> its number in this process's strings.
    strings: Py<PyDict>,
    /// Type -> the number of its name.
    types: Py<PyDict>,
    /// (file, line) -> the number of the place.
    sites: Py<PyDict>,
    /// File -> how far from the user's code it is: 0 it is, 1 an installed package's, 2 the standard library's or ours.
    files: Py<PyDict>,
    get_frame: Py<PyAny>,
    classify: Py<PyDict>,
    /// Place -> how many submissions of it have been looked at.
    submissions: Py<PyDict>,
    generic_getattr: Py<PyAny>,
    time_outs: Py<PyTuple>,
}

/// Whether this process, or the one that it was forked from, was started as an interpreter for a child.
static HAS_OWN_INTERPRETER: AtomicBool = AtomicBool::new(false);

static STATE: PyOnceLock<State> = PyOnceLock::new();

/// Called by the module's initialiser.
pub(crate) fn initialise(py: Python<'_>) -> PyResult<()> {
    let builtins = py.import("builtins")?;
    let queue = py.import("queue")?;
    let time_outs = PyTuple::new(
        py,
        [
            queue.getattr("Empty")?,
            queue.getattr("Full")?,
            builtins.getattr("TimeoutError")?,
            py.import("multiprocessing.context")?.getattr("TimeoutError")?,
        ],
    )?;
    let state = State {
        strings: PyDict::new(py).unbind(),
        types: PyDict::new(py).unbind(),
        sites: PyDict::new(py).unbind(),
        files: PyDict::new(py).unbind(),
        get_frame: py.import("sys")?.getattr("_getframe")?.unbind(),
        classify: PyDict::new(py).unbind(),
        submissions: PyDict::new(py).unbind(),
        generic_getattr: builtins.getattr("object")?.getattr("__getattribute__")?.unbind(),
        time_outs: time_outs.unbind(),
    };
    let _ = STATE.set(py, state);
    Ok(())
}

#[inline]
fn state(py: Python<'_>) -> &'static State {
    STATE.get(py).expect("the module's initialiser has run before any of its functions")
}

/// Begins to record this process, into the memory file at `path`. Raises OSError if it cannot be had.
#[pyfunction]
#[pyo3(signature = (path, parent=0, method="main", name=""))]
pub(crate) fn trace_start(py: Python<'_>, path: &str, parent: u32, method: &str, name: &str) -> PyResult<()> {
    let path = CString::new(path).map_err(|_| PyValueError::new_err("a path holds no null byte"))?;
    if trace::writer().is_none() {
        forget_numbers(py);
        HAS_OWN_INTERPRETER.store(method != "main", Ordering::Relaxed);
    }
    trace::start(&path, Identity { parent, method, name }).map_err(PyOSError::new_err)
}

fn forget_numbers(py: Python<'_>) {
    let state = state(py);
    for dict in [&state.strings, &state.types, &state.sites, &state.submissions] {
        dict.bind(py).clear();
    }
}

/// In a forked child: a place of its own in the recording. Returns whether it is recorded.
#[pyfunction]
pub(crate) fn trace_after_fork(py: Python<'_>, method: &str) -> bool {
    hook::after_fork();
    let recorded = trace::after_fork_in_child(method).unwrap_or(false);
    if !recorded {
        forget_numbers(py);
    }
    recorded
}

/// Ends the recording of this process.
#[pyfunction]
pub(crate) fn trace_stop() {
    // Without an interpreter lock another thread may be within a hook.
    trace::stop(!cfg!(Py_GIL_DISABLED));
}

/// Is this process recorded?
#[pyfunction]
pub(crate) fn trace_active() -> bool {
    trace::writer().is_some_and(|writer| !writer.is_stopped())
}

/// Sets which files are whose: beginnings of paths of the standard library and of breakeven, and of installed packages.
#[pyfunction]
pub(crate) fn trace_files(py: Python<'_>, stdlib: Vec<String>, packages: Vec<String>) -> PyResult<()> {
    let state = state(py);
    state.files.bind(py).clear();
    state.classify.bind(py).set_item("stdlib", stdlib)?;
    state.classify.bind(py).set_item("packages", packages)
}

/// The number of a text in this process's strings.
pub(super) fn intern(writer: &Writer, text: &Bound<'_, PyString>) -> PyResult<u32> {
    let strings = state(text.py()).strings.bind(text.py());
    if let Some(number) = strings.get_item(text)? {
        return number.extract();
    }
    let number = writer.intern(&text.to_string_lossy());
    strings.set_item(text, number)?;
    Ok(number)
}

/// As [`intern`], for a text, a number that is one already, or None.
fn number_of(writer: &Writer, name: &Bound<'_, PyAny>) -> PyResult<u32> {
    if name.is_none() {
        Ok(0)
    } else if let Ok(text) = name.cast::<PyString>() {
        intern(writer, text)
    } else {
        name.extract()
    }
}

/// The number of a type's name.
pub(super) fn type_name(writer: &Writer, kind: &Bound<'_, PyType>) -> PyResult<u32> {
    let types = state(kind.py()).types.bind(kind.py());
    if let Some(number) = types.get_item(kind)? {
        return number.extract();
    }
    let module = kind.module()?;
    let name = kind.qualname()?;
    let name = match module.to_string_lossy().as_ref() {
        "builtins" | "__main__" => name,
        module => PyString::new(
            kind.py(),
            &format!("{}.{}", module.split('.').next().unwrap_or(module), name.to_string_lossy()),
        ),
    };
    let number = intern(writer, &name)?;
    types.set_item(kind, number)?;
    Ok(number)
}

/// How far a file is from the user's code.
fn distance(py: Python<'_>, file: &Bound<'_, PyAny>) -> PyResult<u8> {
    let state = state(py);
    if let Some(known) = state.files.bind(py).get_item(file)? {
        return known.extract();
    }
    let text: String = file.extract()?;
    let begins = |key: &str| -> PyResult<bool> {
        let Some(paths) = state.classify.bind(py).get_item(key)? else { return Ok(false) };
        Ok(paths.extract::<Vec<String>>()?.iter().any(|path| text.starts_with(path.as_str())))
    };
    let distance = if text.starts_with("<frozen") {
        2
    } else if begins("packages")? {
        1
    } else {
        u8::from(begins("stdlib")?) * 2
    };
    state.files.bind(py).set_item(file, distance)?;
    Ok(distance)
}

/// The same for a frame: code that the standard library makes of strings (managers' proxies) is not the program's.
fn distance_of(py: Python<'_>, frame: &Bound<'_, PyAny>, file: &Bound<'_, PyAny>) -> PyResult<u8> {
    if let Some(known) = state(py).files.bind(py).get_item(file)? {
        return known.extract();
    }
    if !file.eq(intern!(py, "<string>"))? {
        return distance(py, file); // which is known from now on
    }
    if HAS_OWN_INTERPRETER.load(Ordering::Relaxed) {
        return Ok(2); // the line that multiprocessing starts it with
    }
    let globals = frame.getattr(intern!(py, "f_globals"))?;
    let name = globals.cast::<PyDict>()?.get_item(intern!(py, "__name__"))?;
    Ok(if name.is_some_and(|name| name.eq(intern!(py, "__main__")).unwrap_or(false)) { 0 } else { 2 })
}

/// The number of the place in the user's code that the calling thread is at; 0: there is none.
pub(super) fn site(py: Python<'_>, writer: &Writer) -> PyResult<u32> {
    let state = state(py);
    // Raises ValueError where there is no Python frame at all.
    let Ok(frame) = state.get_frame.bind(py).call1((0,)) else { return Ok(0) };
    let mut frame = frame;
    let mut second_best = None;
    for _ in 0..64 {
        let code = frame.getattr(intern!(py, "f_code"))?;
        let file = code.getattr(intern!(py, "co_filename"))?;
        match distance_of(py, &frame, &file)? {
            0 => return place(py, writer, &frame, &code, file),
            // What is below was the parent's, when it forked.
            2 if code.getattr(intern!(py, "co_name"))?.eq(intern!(py, "_bootstrap"))? => break,
            1 if second_best.is_none() => second_best = Some((frame.clone(), code, file)),
            _ => {}
        }
        let back = frame.getattr(intern!(py, "f_back"))?;
        if back.is_none() {
            break;
        }
        frame = back;
    }
    match second_best {
        Some((frame, code, file)) => place(py, writer, &frame, &code, file),
        None => Ok(0),
    }
}

fn place(
    py: Python<'_>,
    writer: &Writer,
    frame: &Bound<'_, PyAny>,
    code: &Bound<'_, PyAny>,
    file: Bound<'_, PyAny>,
) -> PyResult<u32> {
    let line = frame.getattr(intern!(py, "f_lineno"))?;
    let key = PyTuple::new(py, [&file, &line])?;
    let sites = state(py).sites.bind(py);
    if let Some(number) = sites.get_item(&key)? {
        return number.extract();
    }
    let function: String = code.getattr(intern!(py, "co_name"))?.extract()?;
    let mut text = format!("{file}:{line}");
    if function != "<module>" {
        text.push(' ');
        text.push_str(&function);
    }
    let number = writer.intern(&text);
    sites.set_item(key, number)?;
    Ok(number)
}

/// Notes what a hook of a kind (0: of none) has cost: from `entered` until now, without the call from `begin` to `end`.
#[inline]
pub(super) fn cost(kind: u16, entered: u64, begin: u64, end: u64, calls_python: bool) {
    if let Some(writer) = trace::writer() {
        let most = if calls_python { MOST_PYTHON } else { MOST_NATIVE };
        let took = begin.saturating_sub(entered) + trace::monotonic_ns().saturating_sub(end);
        writer.add_cost(kind, took.min(most));
    }
}

/// Whether a submission is one of the first few of its place, whose arguments are noted.
pub(super) fn first_few(py: Python<'_>, site: u32) -> PyResult<bool> {
    if site == 0 {
        return Ok(false);
    }
    let submissions = state(py).submissions.bind(py);
    let seen = submissions.get_item(site)?.map_or(Ok(0), |seen| seen.extract::<u32>())?;
    if seen < SUBMISSIONS {
        submissions.set_item(site, seen + 1)?;
    }
    Ok(seen < SUBMISSIONS)
}

fn kind_of(code: u16) -> PyResult<RecordKind> {
    RecordKind::from_code(code).ok_or_else(|| PyValueError::new_err(format!("there is no kind {code} of records")))
}

/// Writes a point.
#[pyfunction]
#[pyo3(signature = (kind, object=0, link=0, value=0, name=None, site=None, flags=0))]
#[expect(clippy::too_many_arguments, reason = "a record has that many fields")]
pub(crate) fn trace_point(
    py: Python<'_>,
    kind: u16,
    object: u64,
    link: u64,
    value: u64,
    name: Option<&Bound<'_, PyAny>>,
    site: Option<&Bound<'_, PyAny>>,
    flags: u16,
) -> PyResult<()> {
    let now = trace::monotonic_ns();
    trace_span(py, kind, now, now, object, link, value, name, site, flags, None)
}

/// Writes a span of the calling thread that was measured otherwise. Times in nanoseconds of the monotonic clock.
#[pyfunction]
#[pyo3(signature = (kind, begin, end, object=0, link=0, value=0, name=None, site=None, flags=0, cpu=None))]
#[expect(clippy::too_many_arguments, reason = "a record has that many fields")]
pub(crate) fn trace_span(
    _py: Python<'_>,
    kind: u16,
    begin: u64,
    end: u64,
    object: u64,
    link: u64,
    value: u64,
    name: Option<&Bound<'_, PyAny>>,
    site: Option<&Bound<'_, PyAny>>,
    flags: u16,
    cpu: Option<u64>,
) -> PyResult<()> {
    let Some(writer) = trace::writer() else { return Ok(()) };
    let record = Record {
        begin,
        end: end.max(begin),
        cpu: cpu.unwrap_or(Record::NOT_MEASURED),
        value,
        object,
        link,
        thread: writer.thread(),
        kind: kind_of(kind)?,
        flags: Flags(flags),
        site: site.map_or(Ok(0), |site| number_of(writer, site))?,
        name: name.map_or(Ok(0), |name| number_of(writer, name))?,
    };
    writer.push(&record.to_words());
    Ok(())
}

/// Says that the calling thread is in a span from now on, until `trace_close`. Returns the moment.
#[pyfunction]
#[pyo3(signature = (kind, object=0, name=None))]
pub(crate) fn trace_open(kind: u16, object: u64, name: Option<&Bound<'_, PyAny>>) -> PyResult<u64> {
    let begin = trace::monotonic_ns();
    if let Some(writer) = trace::writer() {
        let name = name.map_or(Ok(0), |name| number_of(writer, name))?;
        writer.open(&open_record(writer, kind_of(kind)?, begin, object, 0, 0, name).to_words());
    }
    Ok(begin)
}

/// Ends what `trace_open` began.
#[pyfunction]
pub(crate) fn trace_close() {
    if let Some(writer) = trace::writer() {
        writer.close();
    }
}

fn open_record(writer: &Writer, kind: RecordKind, begin: u64, object: u64, link: u64, site: u32, name: u32) -> Record {
    Record {
        begin,
        end: begin,
        cpu: Record::NOT_MEASURED,
        value: 0,
        object,
        link,
        thread: writer.thread(),
        kind,
        flags: Flags(0),
        site,
        name,
    }
}

/// The place in the user's code that the calling thread is at, as the number that records carry.
#[pyfunction]
pub(crate) fn trace_site(py: Python<'_>) -> PyResult<u32> {
    trace::writer().map_or(Ok(0), |writer| site(py, writer))
}

/// The calling thread's number and CPU nanoseconds.
#[pyfunction]
pub(crate) fn trace_thread() -> (u32, u64) {
    (trace::writer().map_or(0, Writer::thread), trace::proc::thread_cpu_ns())
}

/// Nanoseconds of the monotonic clock.
#[pyfunction]
pub(crate) fn trace_now() -> u64 {
    trace::monotonic_ns()
}

/// Changes what this process says of itself; None: as it was.
#[pyfunction]
#[pyo3(signature = (name=None, parent=None, method=None))]
pub(crate) fn trace_identity(
    name: Option<&Bound<'_, PyString>>,
    parent: Option<u32>,
    method: Option<&Bound<'_, PyString>>,
) -> PyResult<()> {
    let Some(writer) = trace::writer() else { return Ok(()) };
    if let Some(name) = name {
        writer.set_name(intern(writer, name)?);
    }
    if let (Some(parent), Some(method)) = (parent, method) {
        writer.set_origin(parent, intern(writer, method)?);
    }
    Ok(())
}

/// Writes down this process's account: it is about to end, with `exit_code` if that is known.
#[pyfunction]
#[pyo3(signature = (exit_code=None))]
pub(crate) fn trace_finish(exit_code: Option<i32>) {
    if let Some(writer) = trace::writer() {
        writer.finish(exit_code);
    }
}

/// Calls that went through a hook of a kind so far, and the nanoseconds that the hooks took of them.
#[pyfunction]
pub(crate) fn trace_cost(kind: u16) -> (u64, u64) {
    trace::writer().map_or((0, 0), |writer| writer.cost(kind))
}

/// Says what a hooked call costs beside what its hook measures, in nanoseconds; once for the run.
#[pyfunction]
pub(crate) fn trace_per_call(nanoseconds: u64) {
    if let Some(writer) = trace::writer() {
        writer.set_per_call(nanoseconds);
    }
}

/// The number that stands for a file descriptor in records: its inode; 0 if it is none.
#[pyfunction]
pub(crate) fn trace_inode(fd: i32) -> u64 {
    trace::inode(fd)
}

/// Sets what the calling thread's messages belong to where they do not say so themselves: a pool's number, or that of the
/// queue whose feeder it is.
#[pyfunction]
#[pyo3(signature = (object, feeder=false))]
pub(crate) fn trace_context(object: u64, feeder: bool) {
    hook::set_context(object, feeder);
}

/// The number of a queue in records, or of a connection.
#[pyfunction]
pub(crate) fn trace_number(thing: &Bound<'_, PyAny>) -> PyResult<u64> {
    if thing.hasattr(intern!(thing.py(), "_handle"))? {
        hook::connection_number(thing)
    } else {
        hook::queue_number(thing)
    }
}

/// The number of a text in this process's strings.
#[pyfunction]
pub(crate) fn trace_intern(text: &Bound<'_, PyString>) -> PyResult<u32> {
    trace::writer().map_or(Ok(0), |writer| intern(writer, text))
}

/// How far a file is from the user's code: 0 it is, 1 an installed package's, 2 the standard library's or ours.
#[pyfunction]
pub(crate) fn trace_distance(file: &Bound<'_, PyAny>) -> PyResult<u8> {
    distance(file.py(), file)
}
