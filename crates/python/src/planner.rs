//! The planner of `map`, and the probe of the interpreter's lock. `docs/design/map.md` says who calls what when.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::path::PathBuf;

use breakeven_plan as plan;
use breakeven_plan::{Command, Kind, MachineCharges, Strategy};
use breakeven_shm::trace::monotonic_ns;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

/// What this machine charges for parallelism, in seconds. Keyword arguments replace the defaults; `Charges().as_dict()`
/// names them all. ValueError for a charge that is negative or not finite, TypeError for one that does not exist.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct Charges(MachineCharges);

#[pymethods]
impl Charges {
    #[new]
    #[pyo3(signature = (**seconds))]
    fn new(seconds: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut charges = MachineCharges::default();
        if let Some(seconds) = seconds {
            set(&mut charges, seconds)?;
        }
        Ok(Charges(charges))
    }

    /// These charges with some replaced.
    #[pyo3(signature = (**seconds))]
    fn replace(&self, seconds: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut charges = self.0;
        if let Some(seconds) = seconds {
            set(&mut charges, seconds)?;
        }
        Ok(Charges(charges))
    }

    /// Seconds by name.
    fn as_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        as_dict(py, &self.0)
    }
}

fn set(charges: &mut MachineCharges, seconds: &Bound<'_, PyDict>) -> PyResult<()> {
    for (name, value) in seconds {
        let name: String = name.extract()?;
        let value: f64 = value.extract()?;
        if !(value.is_finite() && value >= 0.0) {
            return Err(PyValueError::new_err(format!("{name} must be finite and not negative, not {value}")));
        }
        match charges.charge(&name) {
            Some(charge) => *charge = value,
            None => return Err(PyTypeError::new_err(format!("there is no charge {name:?}"))),
        }
    }
    Ok(())
}

fn as_dict<'py>(py: Python<'py>, charges: &MachineCharges) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, seconds) in charges.named() {
        dict.set_item(name, seconds)?;
    }
    Ok(dict)
}

fn kind(name: &str) -> PyResult<Kind> {
    Kind::from_name(name).ok_or_else(|| {
        PyValueError::new_err(format!("there are helpers \"threads\", \"fork\" and \"warm\", not {name:?}"))
    })
}

fn estimate_from(dict: &Bound<'_, PyDict>) -> PyResult<plan::Estimate> {
    let field = |name: &str| -> PyResult<Option<f64>> {
        match dict.get_item(name)? {
            Some(value) => value.extract(),
            None => Ok(None),
        }
    };
    Ok(plan::Estimate {
        seconds: field("seconds")?,
        spread: field("spread")?,
        error: field("error")?,
        sleep_share: field("sleep_share")?,
        gil_share: field("gil_share")?,
        bytes_in: field("bytes_in")?,
        bytes_out: field("bytes_out")?,
    })
}

fn estimate_to<'py>(py: Python<'py>, known: &plan::Estimate) -> PyResult<Bound<'py, PyDict>> {
    let plan::Estimate { seconds, spread, error, sleep_share, gil_share, bytes_in, bytes_out } = *known;
    let dict = PyDict::new(py);
    for (name, value) in [
        ("seconds", seconds),
        ("spread", spread),
        ("error", error),
        ("sleep_share", sleep_share),
        ("gil_share", gil_share),
        ("bytes_in", bytes_in),
        ("bytes_out", bytes_out),
    ] {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

/// Who tries to take the interpreter's lock while items run, and how that went. Written by the probe's thread, read by the
/// planner's.
#[derive(Default)]
struct Probe {
    /// The thread shall end.
    stop: AtomicBool,
    /// It is running.
    running: AtomicBool,
    /// Since when it wants the lock, in monotonic nanoseconds; 0: it does not now.
    waiting: AtomicU64,
    /// Nanoseconds in which it looked, and for which it found the lock taken.
    total: AtomicU64,
    held: AtomicU64,
    /// The thread's number; 0: there was none.
    thread: AtomicU64,
}

/// Between two looks.
const NAP: Duration = Duration::from_micros(100);

/// Whoever has to wait longer for the lock found it taken. A free one is there in a microsecond or two.
const TAKEN_NS: u64 = 50_000;

/// It ends by itself after this long.
const PROBE_NS: u64 = 40_000_000;

impl Probe {
    fn run(&self, py: Python<'_>) {
        if self.running.swap(true, Ordering::AcqRel) {
            return;
        }
        self.thread.store(thread_number(), Ordering::Release);
        let begun = monotonic_ns();
        while !self.stop.load(Ordering::Acquire) && monotonic_ns() - begun < PROBE_NS {
            let (slept, asked) = py.detach(|| {
                let before = monotonic_ns();
                std::thread::sleep(NAP);
                let asked = monotonic_ns();
                self.waiting.store(asked, Ordering::Release);
                (asked - before, asked)
            });
            let waited = monotonic_ns() - asked;
            self.waiting.store(0, Ordering::Release);
            self.total.fetch_add(slept + waited, Ordering::AcqRel);
            if waited > TAKEN_NS {
                self.held.fetch_add(slept + waited, Ordering::AcqRel);
            }
        }
        self.running.store(false, Ordering::Release);
    }

    /// Seconds for which the lock was found taken, and of looking in all, a wait that has not ended included.
    fn read(&self) -> (f64, f64) {
        let waiting = match self.waiting.load(Ordering::Acquire) {
            0 => 0,
            since => monotonic_ns().saturating_sub(since),
        };
        let held = self.held.load(Ordering::Acquire) + if waiting > TAKEN_NS { waiting } else { 0 };
        let total = self.total.load(Ordering::Acquire) + waiting;
        (held as f64 * 1e-9, total as f64 * 1e-9)
    }

    /// Ends the thread and waits until the kernel has forgotten it: a fork must not find it.
    fn end(&self, py: Python<'_>) {
        self.stop.store(true, Ordering::Release);
        if self.thread.load(Ordering::Acquire) == 0 {
            return;
        }
        wait_until_gone(py, &self.thread, || self.running.load(Ordering::Acquire));
        self.thread.store(0, Ordering::Release);
    }
}

/// A thread that has been ordered, and whose number is not known yet.
const COMING: u64 = u64::MAX;

/// Waits until a thread that is about to end is not there any more, detached; a second at most. `thread` has its number,
/// and is 0 afterwards.
fn wait_until_gone(py: Python<'_>, thread: &AtomicU64, running: impl Fn() -> bool + Send + Sync) {
    if thread.load(Ordering::Acquire) == 0 {
        return;
    }
    py.detach(|| {
        for _ in 0..50_000 {
            let task = PathBuf::from(format!("/proc/self/task/{}", thread.load(Ordering::Acquire)));
            if !running() && !task.exists() {
                break;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    });
    thread.store(0, Ordering::Release);
}

/// The kernel's number of the calling thread; 0 where there is no /proc.
fn thread_number() -> u64 {
    let link = std::fs::read_link("/proc/thread-self").ok();
    link.and_then(|path| path.file_name()?.to_str()?.parse().ok()).unwrap_or(0)
}

/// Decides how the items of one map are run. Not for use by two threads at the same time, but for `probe`: that raises
/// RuntimeError.
#[pyclass(frozen, module = "breakeven._native")]
pub(crate) struct Planner {
    busy: AtomicBool,
    planner: UnsafeCell<plan::Planner>,
    probe: Probe,
    /// The number of the thread that looked after the caller; 0: there was none.
    scout: AtomicU64,
}

// SAFETY: `planner` is only reached through `with`, by the one thread that has set `busy`; `probe` is atomics.
unsafe impl Sync for Planner {}

impl Planner {
    fn with<T>(&self, act: impl FnOnce(&mut plan::Planner) -> T) -> PyResult<T> {
        if self.busy.swap(true, Ordering::Acquire) {
            return Err(PyRuntimeError::new_err("Planner is in use by another thread"));
        }
        // SAFETY: `busy` was false and is now ours, so nobody else is here.
        let result = act(unsafe { &mut *self.planner.get() });
        self.busy.store(false, Ordering::Release);
        Ok(result)
    }
}

#[pymethods]
impl Planner {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    #[pyo3(signature = (
        total, *, charges=None, cores=1, workers=None, kinds=None, gil=true, here=true, must=false, chunksize=None,
        bytes_in=None, function_bytes=0.0, stream=false, idle=0, prior=None
    ))]
    fn new(
        total: Option<u64>,
        charges: Option<&Bound<'_, Charges>>,
        cores: u32,
        workers: Option<u32>,
        kinds: Option<Vec<String>>,
        gil: bool,
        here: bool,
        must: bool,
        chunksize: Option<u64>,
        bytes_in: Option<f64>,
        function_bytes: f64,
        stream: bool,
        idle: u32,
        prior: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let mut config = plan::Config {
            total,
            cores: cores.max(1),
            workers,
            gil,
            here,
            must,
            chunk: chunksize,
            bytes_in,
            function_bytes,
            stream,
            idle,
            ..plan::Config::default()
        };
        if let Some(charges) = charges {
            config.charges = charges.get().0;
        }
        if let Some(names) = kinds {
            config.kinds = names.iter().map(|name| kind(name)).collect::<PyResult<_>>()?;
        }
        if let Some(prior) = prior {
            config.prior = Some(estimate_from(prior)?);
        }
        if workers == Some(0) || chunksize == Some(0) {
            return Err(PyValueError::new_err("workers and chunksize must be at least 1"));
        }
        if !here && config.kinds.is_empty() {
            return Err(PyValueError::new_err("somebody has to run the items: here=False needs kinds"));
        }
        Ok(Planner {
            busy: AtomicBool::new(false),
            planner: UnsafeCell::new(plan::Planner::new(config)),
            probe: Probe::default(),
            scout: AtomicU64::new(0),
        })
    }

    /// What to do now, as a tuple of which the first element says what. `now`: seconds of a monotonic clock.
    fn next<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Bound<'py, PyTuple>> {
        let command = self.with(|planner| {
            if self.probe.running.load(Ordering::Acquire) || self.probe.thread.load(Ordering::Acquire) != 0 {
                let (held, total) = self.probe.read();
                if planner.probed(held, total, now) {
                    self.probe.stop.store(true, Ordering::Release);
                }
            } else {
                planner.probed(0.0, 0.0, now);
            }
            planner.next(now)
        })?;
        if let Command::Start(Kind::Fork, _) = command {
            self.probe.end(py);
            wait_until_gone(py, &self.scout, || self.scout.load(Ordering::Acquire) == COMING);
        }
        to_tuple(py, command)
    }

    /// Whether somebody should look after the caller while it is in its first batch (`breakeven._map_scout`).
    fn watch(&self) -> PyResult<bool> {
        let wanted = self.with(|planner| planner.watch())?;
        if wanted {
            self.scout.store(COMING, Ordering::Release);
        }
        Ok(wanted)
    }

    /// For that somebody, in a thread of its own: notes which thread it is, so that no fork finds it.
    fn enlist(&self) {
        self.scout.store(thread_number(), Ordering::Release);
    }

    /// The caller has been in its first item for so long, and the interpreter's lock was free meanwhile.
    fn long(&self, wall: f64, cpu: f64) -> PyResult<()> {
        self.with(|planner| planner.long(wall, cpu))
    }

    /// What can be done while the caller is in its batch: a command to start or to send, or None.
    fn meanwhile<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.with(|planner| planner.meanwhile(now))?.map(|command| to_tuple(py, command)).transpose()
    }

    /// A batch of `items` ran in the caller: seconds on the wall clock, and of the thread's CPU clock.
    fn ran_here(&self, items: u64, wall: f64, cpu: f64) -> PyResult<()> {
        self.with(|planner| planner.ran_here(items, wall, cpu))
    }

    /// A chunk went out: its items, encoded bytes, and the caller's seconds for it.
    #[pyo3(signature = (kind, items, nbytes=0, seconds=0.0))]
    fn sent(&self, kind: &str, items: u64, nbytes: u64, seconds: f64) -> PyResult<()> {
        let kind = self::kind(kind)?;
        self.with(|planner| planner.sent(kind, items, nbytes, seconds))
    }

    /// A chunk of so many items came back unclaimed; 0: there was none.
    fn took_back(&self, kind: &str, items: u64) -> PyResult<()> {
        let kind = self::kind(kind)?;
        self.with(|planner| planner.took_back(kind, items))
    }

    /// So many items of a chunk will not be run by whom it was sent to.
    fn gave_back(&self, kind: &str, items: u64) -> PyResult<()> {
        let kind = self::kind(kind)?;
        self.with(|planner| planner.gave_back(kind, items))
    }

    /// A helper can take chunks.
    fn helper_up(&self, kind: &str, now: f64) -> PyResult<()> {
        let kind = self::kind(kind)?;
        self.with(|planner| planner.helper_up(kind, now))
    }

    /// A helper died or could not be started.
    fn helper_gone(&self, kind: &str) -> PyResult<()> {
        let kind = self::kind(kind)?;
        self.with(|planner| planner.helper_gone(kind))
    }

    /// A chunk's results are in: items, the helper's seconds, bytes of results, the caller's seconds for taking them.
    #[pyo3(signature = (kind, items, wall, cpu, nbytes=0, seconds=0.0))]
    fn ran(&self, kind: &str, items: u64, wall: f64, cpu: f64, nbytes: u64, seconds: f64) -> PyResult<()> {
        let kind = self::kind(kind)?;
        self.with(|planner| planner.ran(kind, items, wall, cpu, nbytes, seconds))
    }

    /// An input of unknown length has ended.
    fn exhausted(&self) -> PyResult<()> {
        self.with(plan::Planner::exhausted)
    }

    /// Bytes of an item and of a result, as guessed without encoding them.
    #[pyo3(signature = (bytes_in=None, bytes_out=None))]
    fn sampled(&self, bytes_in: Option<f64>, bytes_out: Option<f64>) -> PyResult<()> {
        self.with(|planner| planner.sampled(bytes_in, bytes_out))
    }

    /// For a thread of its own: tries to take the interpreter's lock while items run. Returns when enough is known.
    fn probe(&self, py: Python<'_>) {
        self.probe.run(py);
    }

    /// Ends the probe's thread and waits until it is gone. The planner can still be asked afterwards.
    fn close(&self, py: Python<'_>) {
        self.probe.end(py);
    }

    /// What is known of an item: `seconds`, `spread`, `error`, `sleep_share`, `gil_share`, `bytes_in`, `bytes_out`, each
    /// None while unknown.
    fn estimate<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        estimate_to(py, &self.with(|planner| planner.estimate())?)
    }

    /// The charges as this map saw them.
    fn observed(&self) -> PyResult<Charges> {
        Ok(Charges(self.with(|planner| planner.observed())?))
    }

    /// Everything that there is to say of this map, for `breakeven._plan.Plan`.
    #[pyo3(signature = (items=None))]
    fn plan<'py>(&self, py: Python<'py>, items: Option<u64>) -> PyResult<Bound<'py, PyDict>> {
        self.with(|planner| plan_dict(py, planner, items))?
    }
}

/// A command as Python sees it.
fn to_tuple(py: Python<'_>, command: Command) -> PyResult<Bound<'_, PyTuple>> {
    let name = |kind: Kind| match kind {
        Kind::Threads => intern!(py, "threads"),
        Kind::Fork => intern!(py, "fork"),
        Kind::Warm => intern!(py, "warm"),
    };
    match command {
        Command::Here(items) => (intern!(py, "here"), items).into_pyobject(py),
        Command::Send(kind, items) => (intern!(py, "send"), name(kind), items).into_pyobject(py),
        Command::Start(kind, helpers) => (intern!(py, "start"), name(kind), helpers).into_pyobject(py),
        Command::Take(kind) => (intern!(py, "take"), name(kind)).into_pyobject(py),
        Command::Stop(kind) => (intern!(py, "stop"), name(kind)).into_pyobject(py),
        Command::Probe => (intern!(py, "probe"),).into_pyobject(py),
        Command::Wait(seconds) => (intern!(py, "wait"), seconds).into_pyobject(py),
        Command::Done => (intern!(py, "done"),).into_pyobject(py),
    }
}

fn strategy_dict<'py>(py: Python<'py>, strategy: Strategy) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let (name, helpers) = match strategy {
        Strategy::Serial => ("serial", 0),
        Strategy::Helped { kind, helpers, .. } => (kind.name(), helpers),
    };
    dict.set_item("strategy", name)?;
    dict.set_item("helpers", helpers)?;
    Ok(dict)
}

fn plan_dict<'py>(py: Python<'py>, planner: &plan::Planner, items: Option<u64>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    let ran = PyDict::new(py);
    ran.set_item("here", planner.done_here())?;
    for kind in Kind::ALL {
        ran.set_item(kind.name(), planner.done_there(kind))?;
    }
    let done = planner.done_here() + Kind::ALL.iter().map(|kind| planner.done_there(*kind)).sum::<u64>();
    let items = items.or(planner.config().total).unwrap_or(done);
    dict.set_item("items", items)?;
    dict.set_item("ran", ran)?;
    dict.set_item("elapsed", planner.elapsed())?;
    dict.set_item("cores", planner.config().cores)?;
    dict.set_item("estimate", estimate_to(py, &planner.estimate())?)?;
    dict.set_item("charges", as_dict(py, &planner.observed())?)?;
    let comparison = planner.compare(items);
    let candidates = PyList::empty(py);
    for (strategy, prediction) in &comparison.candidates {
        let entry = strategy_dict(py, *strategy)?;
        entry.set_item("seconds", prediction.seconds)?;
        entry.set_item("low", prediction.low)?;
        entry.set_item("high", prediction.high)?;
        candidates.append(entry)?;
    }
    dict.set_item("candidates", candidates)?;
    dict.set_item("chosen", comparison.chosen)?;
    dict.set_item("reason", comparison.reason)?;
    let decisions = PyList::empty(py);
    for decision in planner.decisions() {
        let entry = strategy_dict(py, decision.strategy)?;
        entry.set_item("after", decision.now - planner.started_at().unwrap_or(decision.now))?;
        entry.set_item("items", decision.items)?;
        entry.set_item("serial_seconds", decision.serial)?;
        entry.set_item("seconds", decision.seconds)?;
        decisions.append(entry)?;
    }
    dict.set_item("decisions", decisions)?;
    let curve = PyList::empty(py);
    for point in &comparison.curve {
        curve.append(point)?;
    }
    dict.set_item("curve", curve)?;
    dict.set_item("break_even_items", comparison.break_even)?;
    Ok(dict)
}
