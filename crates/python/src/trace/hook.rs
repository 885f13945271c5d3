//! Callables in the place of the standard library's functions.
//!
//! A [`Hook`] calls the function that it stands for and notes the span. It is no Python function: no frame of ours shows
//! in a traceback, and the cost is that of two clock readings and one record. What is to be said about a call is found out
//! natively on the hot seams (`Mode`), and by two Python functions, `before` and `after`, on the others.

use core::cell::Cell;

use breakeven_shm::trace::{self, Writer};
use breakeven_trace::{Flags, Record, RecordKind};
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyInt, PyList, PyString, PyTuple};

use super::call::{call, call1, method};
use super::task::{TaskCall, name_of};
use super::{cost, first_few, intern as intern_string, kind_of, number_of, open_record, site, state, type_name};

/// What a message says of itself.
#[derive(Debug, Clone, Copy, Default)]
struct Message {
    object: u64,
    link: u64,
}

thread_local! {
    /// The pool that the thread works for.
    static CONTEXT: Cell<u64> = const { Cell::new(0) };
    /// The link of the last object that this thread made bytes of, until they are sent.
    static PICKLED: Cell<u64> = const { Cell::new(0) };
    /// Messages that a queue's feeder has pickled; None: the thread is no feeder.
    static FED: Cell<Option<u64>> = const { Cell::new(None) };
    /// How deep the thread is in calls that have a place of their own, so that what they do needs none.
    static PLACED: Cell<u32> = const { Cell::new(0) };
    /// The pool and the number of the task that this thread submits to an executor of threads.
    static SUBMITTED: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    /// How deep the thread is in hooks that record their outermost call only.
    static OUTERMOST: Cell<u32> = const { Cell::new(0) };
}

pub(super) fn set_context(object: u64, feeder: bool) {
    CONTEXT.set(object);
    FED.set(feeder.then_some(0));
    // A thread of the standard library's has no place in the user's code.
    PLACED.set(u32::from(object != 0));
}

/// In a forked child: what the thread that forked was in is its parent's.
pub(super) fn after_fork() {
    set_context(0, false);
    PICKLED.set(0);
    OUTERMOST.set(0);
    SUBMITTED.set(None);
    IMPORTS.set(0);
}

/// The program's own code begins, in a thread that is not its own: what it calls has a place. Returns what was before.
pub(super) fn enter_program() -> u32 {
    PLACED.replace(0)
}

/// It has ended.
pub(super) fn leave_program(before: u32) {
    PLACED.set(before);
}

/// Whether the thread is in a call whose parts are not recorded.
pub(super) fn is_inside() -> bool {
    OUTERMOST.get() > 0
}

pub(super) fn context() -> u64 {
    CONTEXT.get()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// All that is to be said, `before` and `after` say.
    Plain,
    /// `dumps(obj)`
    Dump,
    /// `loads(bytes)`
    Load,
    /// `Connection._send_bytes(self, buf)`
    Send,
    /// `Connection._recv_bytes(self, maxsize)`
    Recv,
    /// `put(self, obj, ...)` of a queue
    Put,
    /// `get(self, ...)` of a queue
    Get,
    /// `next(self)` and the like: nothing is to be said
    Bare,
    /// `Pool.apply_async(self, func, args)`
    Apply,
    /// `ProcessPoolExecutor.submit(self, func, *args)`
    Submit,
    /// `ThreadPoolExecutor.submit(self, func, *args)`
    SubmitThread,
    /// `_WorkItem.__init__(self, future, fn, ...)` of `concurrent.futures.thread`
    WorkItem,
    /// `Future.result(self)`
    Future,
    /// `ApplyResult.get(self)` of a pool
    Result,
    /// `IMapIterator.next(self)` of a pool
    Next,
    /// `connection.wait(object_list)`
    Wait,
    /// `_callmethod(self, methodname, ...)` of a manager's proxy
    Call,
    /// `threading.Condition.wait(self)`, by which threads wait for each other; only the program's own waits are recorded
    ThreadWait,
}

/// Stands for a function of the standard library's, and records its calls.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct Hook {
    function: Py<PyAny>,
    /// What is recorded; none: only `before` and `after` are called.
    kind: Option<RecordKind>,
    mode: Mode,
    /// Becomes a method when it is looked up on an instance, as a function does.
    binds: bool,
    cpu: bool,
    site: bool,
    /// Only the outermost of calls within calls of such hooks.
    outermost: bool,
    /// Shorter spans are not written.
    at_least: u64,
    flags: u16,
    /// What all its records are called.
    name: Option<Py<PyString>>,
    before: Option<Py<PyAny>>,
    after: Option<Py<PyAny>>,
}

/// What is known of a call.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    object: u64,
    link: u64,
    value: u64,
    name: u32,
}

#[pymethods]
impl Hook {
    #[new]
    #[pyo3(signature = (function, kind, mode="plain", *, binds=true, cpu=false, site=false, outermost=false, at_least=0,
                        flags=0, name=None, before=None, after=None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords, made at one place")]
    fn new(
        function: Py<PyAny>,
        kind: u16,
        mode: &str,
        binds: bool,
        cpu: bool,
        site: bool,
        outermost: bool,
        at_least: u64,
        flags: u16,
        name: Option<Py<PyString>>,
        before: Option<Py<PyAny>>,
        after: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let mode = match mode {
            "plain" => Mode::Plain,
            "dump" => Mode::Dump,
            "load" => Mode::Load,
            "send" => Mode::Send,
            "recv" => Mode::Recv,
            "put" => Mode::Put,
            "get" => Mode::Get,
            "bare" => Mode::Bare,
            "apply" => Mode::Apply,
            "submit" => Mode::Submit,
            "submit_thread" => Mode::SubmitThread,
            "work_item" => Mode::WorkItem,
            "future" => Mode::Future,
            "result" => Mode::Result,
            "next" => Mode::Next,
            "wait" => Mode::Wait,
            "call" => Mode::Call,
            "thread_wait" => Mode::ThreadWait,
            _ => return Err(PyValueError::new_err(format!("there is no mode {mode}"))),
        };
        let kind = if kind == 0 { None } else { Some(kind_of(kind)?) };
        Ok(Hook { function, kind, mode, binds, cpu, site, outermost, at_least, flags, name, before, after })
    }

    /// The function that this stands for.
    #[getter]
    fn __wrapped__(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: Option<&Bound<'py, PyAny>>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match instance {
            Some(instance) if slf.get().binds && !instance.is_none() => method(slf.as_any(), instance),
            _ => Ok(slf.clone().into_any()),
        }
    }

    /// Looks like the function.
    fn __getattribute__<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if matches!(name.to_string_lossy().as_ref(), "__module__" | "__doc__" | "__text_signature__") {
            return slf.get().function.bind(py).getattr(name);
        }
        state(py).generic_getattr.bind(py).call1((slf, name))
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.function.bind(py).getattr(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.function.bind(py).repr()?.to_string_lossy().into_owned())
    }

    /// Pickled by name, as functions are: the other process has a hook, or a function, of its own there.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py);
        if let Some(owner) = function.getattr_opt(intern!(py, "__self__"))? {
            let getattr = py.import("builtins")?.getattr("getattr")?;
            let call = PyTuple::new(py, [owner, function.getattr(intern!(py, "__name__"))?])?;
            return Ok(PyTuple::new(py, [getattr, call.into_any()])?.into_any());
        }
        function.getattr(intern!(py, "__qualname__"))
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py);
        let Some(writer) = trace::writer() else { return call(function, args, kwargs) };
        let entered = trace::monotonic_ns();
        let Some(kind) = self.kind else { return self.only_told(py, function, writer, args, kwargs, entered) };
        if self.outermost {
            let depth = OUTERMOST.get();
            if depth > 0 {
                return call(function, args, kwargs);
            }
            OUTERMOST.set(1);
        }
        let outcome = self.recorded(py, kind, function, writer, args, kwargs, entered);
        if self.outermost {
            OUTERMOST.set(0);
        }
        outcome
    }
}

impl Hook {
    /// A call that is not recorded itself.
    fn only_told<'py>(
        &self,
        py: Python<'py>,
        function: &Bound<'py, PyAny>,
        writer: &'static Writer,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        entered: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut replaced = None;
        if let Some(before) = &self.before
            && let Some(said) = quiet(py, writer, call1(before.bind(py), told(args, kwargs)))?
            && !said.is_none()
        {
            let told = read_facts(writer, &said, &mut Facts::default(), &mut replaced);
            quiet(py, writer, told)?;
        }
        let begin = trace::monotonic_ns();
        let outcome = match &replaced {
            Some((args, kwargs)) => call(function, args, kwargs.as_ref()),
            None => call(function, args, kwargs),
        };
        let end = trace::monotonic_ns();
        if outcome.is_ok() && self.mode == Mode::WorkItem {
            quiet(py, writer, work_item(args))?;
        }
        if let (Ok(result), Some(after)) = (&outcome, &self.after) {
            quiet(py, writer, call1(after.bind(py), told_after(args, kwargs, result)))?;
        }
        cost(0, entered, begin, end, self.calls_python());
        outcome
    }

    /// Whether its calls call Python functions of ours.
    fn calls_python(&self) -> bool {
        match self.mode {
            Mode::Plain => self.before.is_some() || self.after.is_some(),
            mode => matches!(mode, Mode::Apply | Mode::Submit | Mode::SubmitThread), // the first few times
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a part of __call__")]
    fn recorded<'py>(
        &self,
        py: Python<'py>,
        kind: RecordKind,
        function: &Bound<'py, PyAny>,
        writer: &'static Writer,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
        entered: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut facts = Facts::default();
        let mut replaced = None;
        let placed = PLACED.get();
        match self.mode {
            // How the standard library's threads wait for something to do, or a part of what is recorded already.
            Mode::ThreadWait if placed > 0 => return call(function, args, kwargs),
            Mode::Plain => {
                if let Some(before) = &self.before {
                    let said = call1(before.bind(py), told(args, kwargs));
                    let Some(said) = quiet(py, writer, said)? else { return call(function, args, kwargs) };
                    if said.is_none() {
                        return call(function, args, kwargs);
                    }
                    let told = read_facts(writer, &said, &mut facts, &mut replaced);
                    quiet(py, writer, told)?;
                }
            }
            _ => {
                let told = self.facts_before(writer, args, kwargs);
                if let Some(told) = quiet(py, writer, told)? {
                    facts = told;
                }
            }
        }
        // Bytes that the program itself sends or receives, not by way of a queue or a pool.
        let bytes = matches!(self.mode, Mode::Send | Mode::Recv | Mode::Dump | Mode::Load) && placed == 0;
        // What the standard library's own loops put and get has none.
        let placeless = placed > 0 && matches!(self.mode, Mode::Put | Mode::Get);
        let mut site = match self.site && !placeless || bytes {
            true => quiet(py, writer, site(py, writer))?.unwrap_or(0),
            false => 0,
        };
        if self.site {
            PLACED.set(placed + 1);
        }
        let cpu = self.cpu.then(trace::proc::thread_cpu_ns);
        let begin = trace::monotonic_ns();
        writer.open(&open_record(writer, kind, begin, facts.object, facts.link, site, facts.name).to_words());
        let outcome = match &replaced {
            Some((args, kwargs)) => call(function, args, kwargs.as_ref()),
            None => call(function, args, kwargs),
        };
        let end = trace::monotonic_ns();
        if self.site {
            PLACED.set(placed);
        }
        let cpu = cpu.map_or(Record::NOT_MEASURED, |before| trace::proc::thread_cpu_ns().saturating_sub(before));
        // The process may have forked inside the call, or the recording ended.
        let Some(writer) = trace::writer() else { return outcome };
        let mut flags = self.flags;
        match &outcome {
            Ok(result) => {
                let told = match self.mode {
                    Mode::Plain => match &self.after {
                        Some(after) => call1(after.bind(py), told_after(args, kwargs, result)).and_then(|said| {
                            if said.is_none() { Ok(()) } else { read_facts(writer, &said, &mut facts, &mut None) }
                        }),
                        None => Ok(()),
                    },
                    Mode::ThreadWait if end - begin < self.at_least => Ok(()),
                    _ => self.facts_after(writer, args, kwargs, result, site, &mut facts),
                };
                if let Err(error) = told {
                    writer.close();
                    quiet::<()>(py, writer, Err(error))?;
                    return outcome;
                }
            }
            Err(error) => flags |= failure(py, error).0,
        }
        let mut worth = end - begin >= self.at_least;
        if worth && self.mode == Mode::ThreadWait {
            site = quiet(py, writer, self::site(py, writer))?.unwrap_or(0);
            worth = site != 0;
            if outcome.as_ref().is_ok_and(|result| result.is(PyBool::new(py, false))) {
                flags |= Flags::TIMED_OUT.0;
            }
        }
        if worth {
            let record = Record {
                begin,
                end,
                cpu,
                value: facts.value,
                object: facts.object,
                link: facts.link,
                thread: writer.thread(),
                kind,
                flags: Flags(flags),
                site,
                name: facts.name,
            };
            writer.push(&record.to_words());
        }
        writer.close();
        cost(kind.code(), entered, begin, end, self.calls_python());
        outcome
    }
}

/// What `before` is called with.
fn told<'py>(args: &Bound<'py, PyTuple>, kwargs: Option<&Bound<'py, PyDict>>) -> [Bound<'py, PyAny>; 2] {
    let none = || args.py().None().into_bound(args.py());
    [args.clone().into_any(), kwargs.map_or_else(none, |kwargs| kwargs.clone().into_any())]
}

/// What `after` is called with.
fn told_after<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
    result: &Bound<'py, PyAny>,
) -> [Bound<'py, PyAny>; 3] {
    let [args, kwargs] = told(args, kwargs);
    [args, kwargs, result.clone()]
}

/// Which flag an exception means.
pub(super) fn failure(py: Python<'_>, error: &PyErr) -> Flags {
    let time_outs = state(py).time_outs.bind(py);
    if error.matches(py, time_outs).unwrap_or(false) { Flags::TIMED_OUT } else { Flags::FAILED }
}

/// What went wrong in a hook of ours is counted and forgotten, except for what is the program's own: an exception that a
/// signal handler raised while the hook ran.
pub(super) fn quiet<T>(py: Python<'_>, writer: &Writer, outcome: PyResult<T>) -> PyResult<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyException>(py) && is_ours(py, &error) => {
            writer.count_error();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether an exception was raised by our own code: its innermost frame is ours, or it has none.
fn is_ours(py: Python<'_>, error: &PyErr) -> bool {
    let Some(traceback) = error.traceback(py) else { return true };
    let mut entry = traceback.into_any();
    while let Ok(next) = entry.getattr(intern!(py, "tb_next"))
        && !next.is_none()
    {
        entry = next;
    }
    let file = entry
        .getattr(intern!(py, "tb_frame"))
        .and_then(|frame| frame.getattr(intern!(py, "f_code")))
        .and_then(|code| code.getattr(intern!(py, "co_filename")))
        .and_then(|file| file.extract::<String>());
    file.is_ok_and(|file| file.contains("breakeven/_why/"))
}

type Call<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Reads `(object, link, value, name)`, or that with the arguments to call with instead: `(..., args, kwargs)`.
fn read_facts<'py>(
    writer: &Writer,
    said: &Bound<'py, PyAny>,
    facts: &mut Facts,
    replaced: &mut Option<Call<'py>>,
) -> PyResult<()> {
    if let Ok(object) = said.cast::<PyInt>() {
        facts.object = object.extract()?; // the rest is as it was said before
        return Ok(());
    }
    let said = said.cast::<PyTuple>()?;
    if said.len() >= 6 {
        let kwargs = said.get_item(5)?;
        let kwargs = if kwargs.is_none() { None } else { Some(kwargs.cast_into::<PyDict>()?) };
        *replaced = Some((said.get_item(4)?.cast_into()?, kwargs));
    }
    facts.object = said.get_item(0)?.extract()?;
    facts.link = said.get_item(1)?.extract()?;
    facts.value = said.get_item(2)?.extract()?;
    facts.name = number_of(writer, &said.get_item(3)?)?;
    Ok(())
}

impl Hook {
    fn facts_before(
        &self,
        writer: &Writer,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Facts> {
        let py = args.py();
        let mut facts = Facts::default();
        match self.mode {
            Mode::Plain | Mode::WorkItem => {}
            Mode::Bare => {
                if let Some(name) = &self.name {
                    facts.name = intern_string(writer, name.bind(py))?;
                }
            }
            Mode::ThreadWait => {
                // As the numbers of locks between processes end in 1.
                facts.object = ((args.get_item(0)?.as_ptr() as u64) << 16 | 3) & 0xffff_ffff_ffff;
            }
            Mode::Call => {
                let proxy = args.get_borrowed_item(0)?;
                facts.object = self.pool_number(&proxy)?;
                let method = match args.len() {
                    0 | 1 => kwargs.and_then(|kwargs| kwargs.get_item("methodname").ok().flatten()),
                    _ => Some(args.get_item(1)?),
                };
                if let Some(method) = method {
                    facts.name = intern_string(writer, method.cast::<PyString>()?)?;
                }
            }
            Mode::Dump => {
                let obj = args.get_borrowed_item(0)?;
                let (mut message, name) = message_of(writer, &obj)?;
                if let Some(fed) = FED.get() {
                    FED.set(Some(fed + 1));
                    if message.link == 0 {
                        message.link = fed + 1;
                    }
                }
                facts = Facts { object: message.object, link: message.link, value: 0, name };
                PICKLED.set(message.link);
            }
            Mode::Load => {
                facts.object = context();
                facts.value = args.get_borrowed_item(0)?.len()? as u64;
            }
            Mode::Send => {
                facts.object = connection_number(&*args.get_borrowed_item(0)?)?;
                facts.value = args.get_borrowed_item(1)?.len()? as u64;
                facts.link = PICKLED.take();
            }
            Mode::Recv => facts.object = connection_number(&*args.get_borrowed_item(0)?)?,
            Mode::Put => {
                let queue = args.get_borrowed_item(0)?;
                facts.object = queue_number(&queue)?;
                facts.link = next_put(py, &queue)?;
                if args.len() > 1 {
                    facts.name = type_name(writer, &args.get_borrowed_item(1)?.get_type())?;
                }
            }
            Mode::Get => facts.object = queue_number(&*args.get_borrowed_item(0)?)?,
            Mode::Apply | Mode::Submit | Mode::SubmitThread => {
                let owner = args.get_borrowed_item(0)?;
                facts.object = self.pool_number(&owner)?;
                facts.value = 1;
                if let Some(function) = submitted_function(args, kwargs)? {
                    facts.name = intern_string(writer, &name_of(&function)?)?;
                }
                if self.mode == Mode::SubmitThread {
                    let key = intern!(py, "_breakeven_tasks");
                    facts.link = owner.getattr_opt(key)?.map_or(Ok(0), |last| last.extract::<u64>())? + 1;
                    owner.setattr(key, facts.link)?;
                    SUBMITTED.set(Some((facts.object, facts.link)));
                }
            }
            Mode::Future => {
                let future = args.get_borrowed_item(0)?;
                if let Some(task) = future.getattr_opt(intern!(py, "_breakeven_task"))? {
                    (facts.object, facts.link) = task.extract()?;
                }
            }
            Mode::Result | Mode::Next => {
                let result = args.get_borrowed_item(0)?;
                let pool = result.getattr(intern!(py, "_pool"))?;
                facts.object = if pool.is_none() { 0 } else { self.pool_number(&pool)? };
                facts.link = result_link(&result)?;
                if self.mode == Mode::Next {
                    facts.link |= taken(&result)?;
                }
            }
            Mode::Wait => {
                if let Ok(things) = args.get_item(0)?.cast_exact::<PyList>()
                    && things.len() == 1
                {
                    facts.object = waited_for(&things.get_item(0)?)?;
                }
            }
        }
        Ok(facts)
    }

    fn facts_after(
        &self,
        writer: &Writer,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
        result: &Bound<'_, PyAny>,
        site: u32,
        facts: &mut Facts,
    ) -> PyResult<()> {
        let py = result.py();
        match self.mode {
            Mode::Plain
            | Mode::Bare
            | Mode::Send
            | Mode::Put
            | Mode::WorkItem
            | Mode::Future
            | Mode::Result
            | Mode::Wait => {}
            Mode::Dump => facts.value = result.len()? as u64,
            Mode::Load => {
                let (message, name) = message_of(writer, result)?;
                *facts = Facts { object: message.object, link: message.link, name, ..*facts };
            }
            // A BytesIO that has just been written.
            Mode::Recv => facts.value = result.call_method0(intern!(py, "tell"))?.extract()?,
            Mode::Get => facts.name = type_name(writer, &result.get_type())?,
            // Who waited, and for what, say its frames.
            Mode::ThreadWait => {
                if let Some(after) = &self.after {
                    facts.name = number_of(writer, &after.bind(py).call0()?)?;
                }
            }
            Mode::Call => {
                let proxy = args.get_borrowed_item(0)?;
                let connection = proxy.getattr(intern!(py, "_tls"))?.getattr(intern!(py, "connection"))?;
                let key = intern!(py, "_breakeven_calls");
                let last: u64 = match (connection.getattr_opt(key)?, &self.after) {
                    (Some(last), _) => last.extract()?,
                    (None, Some(client)) => client.bind(py).call0()?.extract()?,
                    (None, None) => 0,
                };
                connection.setattr(key, last + 1)?;
                facts.link = last + 1;
            }
            Mode::Next => {
                let iterator = args.get_borrowed_item(0)?;
                iterator.setattr(intern!(py, "_breakeven_taken"), taken(&iterator)? + 1)?;
            }
            Mode::Apply | Mode::Submit | Mode::SubmitThread => {
                match self.mode {
                    Mode::Apply => facts.link = result_link(result)?,
                    Mode::Submit => {
                        facts.link = work_link(&*args.get_borrowed_item(0)?, result)?;
                        result.setattr(intern!(py, "_breakeven_task"), (facts.object, facts.link))?;
                    }
                    _ => {}
                }
                if let Some(after) = &self.after
                    && first_few(py, site)?
                    && let Some(function) = submitted_function(args, kwargs)?
                {
                    let given = match self.mode {
                        Mode::Apply => match args.len() {
                            0..=2 => kwargs.and_then(|kwargs| kwargs.get_item("args").ok().flatten()),
                            _ => Some(args.get_item(2)?),
                        },
                        _ => Some(args.get_slice(2, args.len()).into_any()),
                    };
                    after.bind(py).call1((facts.object, site, function, given))?;
                }
            }
        }
        Ok(())
    }

    /// The number of a pool or an executor. It is kept in the object; of one that was made before the recording began,
    /// `before` knows it.
    fn pool_number(&self, pool: &Bound<'_, PyAny>) -> PyResult<u64> {
        let py = pool.py();
        if let Some(number) = pool.getattr_opt(intern!(py, "_breakeven_number"))? {
            return number.extract();
        }
        match &self.before {
            Some(number) => number.bind(py).call1((pool,))?.extract(),
            None => Ok(0),
        }
    }
}

/// The function that is submitted by `submit(self, function, ...)` or `apply_async(self, func=function, ...)`.
fn submitted_function<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match (args.len(), kwargs) {
        (0 | 1, Some(kwargs)) => kwargs.get_item(intern!(args.py(), "func")),
        (0 | 1, None) => Ok(None), // raises
        _ => Ok(Some(args.get_item(1)?)),
    }
}

/// The link of the tasks of a pool's result object.
fn result_link(result: &Bound<'_, PyAny>) -> PyResult<u64> {
    Ok((result.getattr(intern!(result.py(), "_job"))?.extract::<u64>()? + 1) << 32)
}

/// How many items were taken from an `imap`.
fn taken(iterator: &Bound<'_, PyAny>) -> PyResult<u64> {
    iterator.getattr_opt(intern!(iterator.py(), "_breakeven_taken"))?.map_or(Ok(0), |taken| taken.extract())
}

/// The link of the task whose future an executor of processes has just made.
fn work_link(executor: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = executor.py();
    let count: u64 = executor.getattr(intern!(py, "_queue_count"))?.extract()?;
    // Another thread may have submitted since; a task that is done already is no more among the pending.
    let pending = executor.getattr(intern!(py, "_pending_work_items"))?;
    let pending = pending.cast::<PyDict>()?;
    for link in (count.saturating_sub(64) + 1..=count).rev() {
        if let Some(item) = pending.get_item(link - 1)?
            && item.getattr(intern!(py, "future"))?.is(future)
        {
            return Ok(link);
        }
    }
    Ok(count)
}

/// Gives the work item that this thread has just made for an executor of threads its number, and its function a record.
fn work_item(args: &Bound<'_, PyTuple>) -> PyResult<()> {
    let py = args.py();
    let Some((object, link)) = SUBMITTED.take() else { return Ok(()) };
    let item = args.get_borrowed_item(0)?;
    item.getattr(intern!(py, "future"))?.setattr(intern!(py, "_breakeven_task"), (object, link))?;
    if let Some(function) = item.getattr_opt(intern!(py, "fn"))? {
        item.setattr(intern!(py, "fn"), Bound::new(py, TaskCall::of(function.unbind(), object, link))?)?;
    }
    Ok(())
}

/// The number of what `connection.wait` waits for.
fn waited_for(thing: &Bound<'_, PyAny>) -> PyResult<u64> {
    if let Ok(fd) = thing.cast_exact::<PyInt>() {
        return Ok(trace::inode(fd.extract()?));
    }
    match thing.hasattr(intern!(thing.py(), "_handle"))? {
        true => connection_number(thing),
        false => Ok(0),
    }
}

/// The number of the pipe or socket that a connection object is an end of. Kept in the object: asking the kernel costs
/// more than all the rest.
pub(super) fn connection_number(connection: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = connection.py();
    let key = intern!(py, "_breakeven_number");
    if let Some(number) = connection.getattr_opt(key)? {
        return number.extract();
    }
    let handle = connection.getattr(intern!(py, "_handle"))?;
    let number = if handle.is_none() { 0 } else { trace::inode(handle.extract()?) };
    if number != 0 {
        connection.setattr(key, number)?;
    }
    Ok(number)
}

/// The number of a queue: its pipe's.
pub(super) fn queue_number(queue: &Bound<'_, PyAny>) -> PyResult<u64> {
    match queue.getattr_opt(intern!(queue.py(), "_reader"))? {
        Some(reader) => connection_number(&reader),
        None => Ok(0),
    }
}

/// Counts the puts of this process on a queue.
fn next_put(py: Python<'_>, queue: &Bound<'_, PyAny>) -> PyResult<u64> {
    let key = intern!(py, "_breakeven_puts");
    let next = match queue.getattr_opt(key)? {
        Some(last) => last.extract::<u64>()? + 1,
        None => 1,
    };
    queue.setattr(key, next)?;
    Ok(next)
}

/// Which task or result a message is, and the name of the type of what it carries.
fn message_of(writer: &Writer, obj: &Bound<'_, PyAny>) -> PyResult<(Message, u32)> {
    let py = obj.py();
    let mut payload = obj.clone();
    let mut message = Message { object: context(), link: 0 };
    if let Ok(tuple) = obj.cast_exact::<PyTuple>() {
        // Pool's task (job, i, func, args, kwds) and result (job, i, (success, value)).
        if (tuple.len() == 5 || tuple.len() == 3)
            && let Some(link) = job_link(&*tuple.get_borrowed_item(0)?, &*tuple.get_borrowed_item(1)?)
        {
            if tuple.len() == 3 {
                if let Ok(pair) = tuple.get_item(2)?.cast_exact::<PyTuple>()
                    && pair.len() == 2
                {
                    message.link = link;
                    payload = pair.get_item(1)?;
                }
            } else if let Ok(args) = tuple.get_item(3)?.cast_exact::<PyTuple>() {
                message.link = link;
                payload = first_argument(args)?;
            }
        }
    } else if obj.get_type().is_exact_instance_of::<pyo3::types::PyType>() {
        // An executor's call or result item.
        match obj.get_type().name()?.to_string_lossy().as_ref() {
            "_CallItem" => {
                message.link = executor_link(&obj.getattr(intern!(py, "work_id"))?);
                if let Ok(args) = obj.getattr(intern!(py, "args"))?.cast_exact::<PyTuple>() {
                    payload = first_argument(args)?;
                }
            }
            "_ResultItem" => {
                message.link = executor_link(&obj.getattr(intern!(py, "work_id"))?);
                payload = obj.getattr(intern!(py, "result"))?;
            }
            _ => {}
        }
    }
    let name = type_name(writer, &payload.get_type())?;
    Ok((message, name))
}

/// What a task is given: of a chunk the first item.
fn first_argument<'py>(args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let mut payload = if args.is_empty() { args.clone().into_any() } else { args.get_item(0)? };
    // mapstar's and starmapstar's one argument: (function, items)
    if let Ok(pair) = payload.cast_exact::<PyTuple>()
        && args.len() == 1
        && pair.len() == 2
        && pair.get_item(0)?.is_callable()
        && let Ok(items) = pair.get_item(1)?.cast_exact::<PyTuple>()
        && !items.is_empty()
    {
        payload = items.get_item(0)?;
    }
    Ok(payload)
}

/// The link of a pool's task: job and index in one, never 0.
pub(super) fn job_link(job: &Bound<'_, PyAny>, index: &Bound<'_, PyAny>) -> Option<u64> {
    let job = job.cast_exact::<PyInt>().ok()?.extract::<u32>().ok()?;
    // The index is None for apply's one task on some paths, and an int else.
    let index = if index.is_none() { 0 } else { index.cast_exact::<PyInt>().ok()?.extract::<u32>().ok()? };
    Some((u64::from(job) + 1) << 32 | u64::from(index))
}

/// The link of an executor's task: its work id, from 1.
pub(super) fn executor_link(work_id: &Bound<'_, PyAny>) -> u64 {
    work_id.extract::<u64>().map_or(0, |id| id + 1)
}

/// Stands for `importlib._bootstrap._find_and_load`: records the outermost imports, and tells of modules that have hooks.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct ImportHook {
    function: Py<PyAny>,
    /// Name of a module -> what to call with the module when it has been imported.
    seams: Py<PyDict>,
    at_least: u64,
}

#[pymethods]
impl ImportHook {
    #[new]
    fn new(function: Py<PyAny>, seams: Py<PyDict>, at_least: u64) -> Self {
        ImportHook { function, seams, at_least }
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.function.bind(py).getattr(name)
    }

    fn __call__<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        import_: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let function = self.function.bind(py);
        let Some(writer) = trace::writer() else { return call1(function, [name.clone(), import_.clone()]) };
        let depth = IMPORTS.get();
        let begin = trace::monotonic_ns();
        let cpu = if depth == 0 {
            writer.open(&open_record(writer, RecordKind::Import, begin, 0, 0, 0, 0).to_words());
            trace::proc::thread_cpu_ns()
        } else {
            0
        };
        IMPORTS.set(depth + 1);
        let outcome = call1(function, [name.clone(), import_.clone()]);
        let seam = match &outcome {
            Ok(_) => self.seams.bind(py).get_item(name)?,
            Err(_) => None,
        };
        if let (Ok(module), Some(seam)) = (&outcome, seam) {
            let told = call1(&seam, [module.clone()]);
            IMPORTS.set(depth);
            quiet(py, writer, told)?;
        }
        IMPORTS.set(depth);
        let Some(writer) = trace::writer() else { return outcome };
        if depth == 0 {
            let end = trace::monotonic_ns();
            if end - begin >= self.at_least {
                let cpu = trace::proc::thread_cpu_ns().saturating_sub(cpu);
                let place = quiet(py, writer, site(py, writer))?.unwrap_or(0);
                let text = quiet(py, writer, number_of(writer, name))?.unwrap_or(0);
                let record = open_record(writer, RecordKind::Import, begin, 0, 0, place, text);
                let flags = if outcome.is_err() { Flags::FAILED } else { Flags::default() };
                writer.push(&Record { end, cpu, flags, ..record }.to_words());
            }
            writer.close();
        }
        outcome
    }
}

thread_local! {
    /// How deep the thread is in imports.
    static IMPORTS: Cell<u32> = const { Cell::new(0) };
}
