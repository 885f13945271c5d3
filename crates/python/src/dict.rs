//! Dicts of objects that live in shared memory. `breakeven/managers.py` makes them look like the standard library's proxies.
//!
//! Which keys are equal is Python's to say, and no Python code may run under the dict's lock. So keys are of three sorts:
//!
//! | key | its hash | who compares |
//! |---|---|---|
//! | None, bool, int, float, str, bytes, tuples of these | of its content, the same in every interpreter | bytes, or Python where bytes differ (1 and 1.0 in a tuple, NaN) |
//! | of their subclasses, and numbers of other types | likewise | Python |
//! | any other (*odd* ones: an Enum's member, a date) | Python's, which differs between interpreters | Python |
//!
//! Python compares outside of the lock: the operation is made again with the answer, if nothing has changed meanwhile. In
//! the dict's note stands in which interpreter's terms odd keys are hashed ([`seed`]). Where the processes' differ
//! ([`MIXED`]), looking for an odd key compares it with all keys: right, and slow. An odd key is not found to be equal to
//! one that is not odd.

use core::time::Duration;

use breakeven_shm::{Block, ContainerError, Dict, Item, Items, Key, Lookup, Unsure, Which};
use breakeven_wire::Kind;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple};

use crate::codec::{self, INLINE, ScalarSpace, SmallSpace, Space};
use crate::container::{self, Name, decode, decode_parts, equal, failed, is_scalar};
use crate::{arena, error};

/// The note of a dict whose odd keys are hashed in the terms of more than one interpreter.
const MIXED: u32 = u32::MAX;

/// A dict in shared memory. A handle on it is inherited by a forked child; for others see `lend` and `attach`, and for
/// processes that have the arena already, `name` and `open`.
///
/// It holds no Python object, hence no `__traverse__`.
#[pyclass(frozen, weakref, module = "breakeven._native")]
pub(crate) struct SharedDict {
    dict: Dict,
}

#[pymethods]
impl SharedDict {
    /// Makes an empty dict in this process's arena; see `SharedList`.
    #[new]
    #[pyo3(signature = (patron=0, group=0))]
    fn new(py: Python<'_>, patron: u32, group: u64) -> PyResult<Self> {
        let arena = arena::arena(py)?;
        let dict = Dict::create(&arena, patron, group).map_err(|e| error::memory(py, &e))?;
        Ok(SharedDict { dict })
    }

    /// Opens the dict of that name. Raises LookupError if this process has not got its arena, ValueError if it is gone.
    #[staticmethod]
    fn open(name: Name) -> PyResult<Self> {
        Ok(SharedDict { dict: container::open(name, Dict::open)? })
    }

    /// Opens the dict that `lend` described. Takes ownership of the descriptor.
    #[staticmethod]
    fn attach(arena_fd: i32, ticket: u128) -> PyResult<Self> {
        Ok(SharedDict { dict: container::attach(arena_fd, ticket, Dict::open)? })
    }

    /// What `open` takes, in any process that has the arena.
    fn name(&self) -> Name {
        container::name(&self.dict)
    }

    /// The descriptor of the arena. It stays this process's: duplicate it into the child.
    fn arena_fd(&self) -> PyResult<i32> {
        container::arena_fd(&self.dict)
    }

    /// What one child process needs, with the descriptor, to open the dict; see `SharedList`.
    fn lend(&self) -> PyResult<u128> {
        container::lend(&self.dict)
    }

    /// From now on the dict's patron keeps it, until it calls `release_group` or ends.
    fn pin(&self) -> PyResult<()> {
        self.dict.pin().map_err(|e| container::gone(&e))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.dict.len().map_err(|e| failed(py, &e, ""))? as usize)
    }

    /// A key's value. Raises KeyError if the key is not there, unless a default is given.
    #[pyo3(signature = (key, *default))]
    fn get<'py>(&self, key: &Bound<'py, PyAny>, default: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        match self.value(key)? {
            Some(value) => Ok(value),
            None => missing(key, default),
        }
    }

    /// Whether a key is there.
    fn contains(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (wanted, _) = self.wanted(key)?;
        Ok(self.find(key, &wanted, false, |how| self.dict.contains(how))?.is_some())
    }

    /// Gives a key a value.
    fn set(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.store(key, value, true).map(drop)
    }

    /// Gives a key that is not there a value, and returns the value that it has.
    #[pyo3(signature = (key, default=None))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let none = key.py().None().into_bound(key.py());
        let default = default.unwrap_or(&none);
        loop {
            if let Some(value) = self.value(key)? {
                return Ok(value);
            }
            if !self.store(key, default, false)? {
                return Ok(default.clone());
            }
        }
    }

    /// Takes a key out and returns its value. Raises KeyError if it is not there, unless a default is given.
    #[pyo3(signature = (key, *default))]
    fn pop<'py>(&self, key: &Bound<'py, PyAny>, default: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let (wanted, _) = self.wanted(key)?;
        let mut item = Item::new();
        match self.find(key, &wanted, false, |how| self.dict.pop(how, &mut item))? {
            Some(()) => decode(key.py(), &mut item),
            None => missing(key, default),
        }
    }

    /// Takes the key out that came last, and returns it with its value.
    fn popitem<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (mut name, mut item) = (Item::new(), Item::new());
        if !self.dict.pop_last(&mut name, &mut item).map_err(|e| failed(py, &e, ""))? {
            return Err(PyKeyError::new_err("popitem(): dictionary is empty"));
        }
        Ok((decode(py, &mut name)?, decode(py, &mut item)?))
    }

    /// Gives many keys their values, in one step.
    fn update(&self, other: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = other.py();
        let (mut wanted, mut pairs) = (Vec::with_capacity(other.len()), Items::with_capacity(other.len() * 2));
        for (key, value) in other.iter() {
            wanted.push(self.encode_pair(&key, &value, &mut pairs)?);
        }
        if wanted.iter().any(|wanted| wanted.sort == Sort::Odd) {
            return self.merge(other);
        }
        let sames: Vec<_> = wanted.iter().map(|wanted| wanted.same()).collect();
        let key =
            |(wanted, same): (&Wanted, _)| -> Key<'_> { Key { hash: wanted.hash, same, decided: None, note: None } };
        let mut keys = Vec::with_capacity(wanted.len());
        for (wanted, same) in wanted.iter().zip(&sames) {
            keys.push(key((wanted, same)));
        }
        match self.dict.update(&keys, &mut pairs).map_err(|e| failed(py, &e, ""))? {
            Lookup::Unsure(_) => self.merge(other),
            Lookup::Found(()) | Lookup::Missing => Ok(()),
        }
    }

    /// All keys, in the order in which they came.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.list(py, Which::Keys)
    }

    /// All values, in the order in which their keys came.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.list(py, Which::Values)
    }

    /// All keys and values, as a dict.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        Ok(self.versioned(py)?.1)
    }

    /// Removes all keys.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let outcome = py.detach(|| self.dict.replace(&[], &mut Items::new(), None, None));
        outcome.map_err(|e| failed(py, &e, ""))
    }

    fn __repr__(&self) -> String {
        format!("<breakeven.SharedDict {:#x}>", self.dict.id().to_bits())
    }
}

impl SharedDict {
    fn wanted(&self, key: &Bound<'_, PyAny>) -> PyResult<(Wanted, Vec<Block>)> {
        Wanted::new(&self.dict, key)
    }

    fn encode_pair(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, pairs: &mut Items) -> PyResult<Wanted> {
        let (wanted, blocks) = self.wanted(key)?;
        pairs.push(wanted.tag, wanted.payload(), blocks);
        container::push(pairs, &self.dict.arena(), value)?;
        Ok(wanted)
    }

    fn value<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = key.py();
        let (wanted, _) = self.wanted(key)?;
        let mut item = Item::new();
        let mut read = self.find(key, &wanted, false, |how| self.dict.get(how, false, &mut item))?;
        if read == Some(false) {
            // It has blocks: copying them may take long.
            read = self.find(key, &wanted, false, |how| py.detach(|| self.dict.get(how, true, &mut item)))?;
        }
        read.map(|_| decode(py, &mut item)).transpose()
    }

    /// Returns whether the key was there.
    fn store(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, replace: bool) -> PyResult<bool> {
        let (wanted, mut names) = self.wanted(key)?;
        let mut scalar: ScalarSpace = [0; 16];
        let mut put = |tag, payload: &[u8], blocks: &mut Vec<Block>| {
            let outcome = self.find(key, &wanted, true, |how| {
                let name = (wanted.tag, wanted.payload(), &mut names);
                self.dict.set(how, name, (tag, payload, blocks), replace)
            });
            Ok(outcome?.is_some())
        };
        match codec::scalar(value, &mut scalar) {
            Some(len) => put(Kind::Value.tag(), &scalar[..len], &mut Vec::new()),
            None => {
                let mut space: Space = [0; INLINE];
                let (tag, len, mut blocks) = container::fill_stored(&self.dict.arena(), value, &mut space)?;
                put(tag, &space[..len], &mut blocks)
            }
        }
    }

    /// Makes an operation with a key, as often as it takes. None if the key is not there.
    #[inline]
    fn find<T>(
        &self,
        key: &Bound<'_, PyAny>,
        wanted: &Wanted,
        inserting: bool,
        mut operation: impl FnMut(&Key<'_>) -> Result<Lookup<T>, ContainerError>,
    ) -> PyResult<Option<T>> {
        let same = wanted.same();
        let mut decided = None;
        for attempt in 0.. {
            let mut note = None;
            if wanted.sort == Sort::Odd {
                let (mine, now) = self.terms(key.py(), inserting)?;
                note = Some(now);
                if now != mine && now != 0 && decided.is_none() {
                    let unsure = self.dict.ask().map_err(|e| failed(key.py(), &e, ""))?;
                    decided = Some(decide(key, unsure)?);
                }
            }
            match operation(&Key { hash: wanted.hash, same: &same, decided: decided.take(), note }) {
                Ok(Lookup::Found(value)) => return Ok(Some(value)),
                Ok(Lookup::Missing) => return Ok(None),
                Ok(Lookup::Unsure(unsure)) => decided = Some(decide(key, unsure)?),
                // Others are faster. Give way to them after a few times.
                Err(ContainerError::Changed) if attempt < 4 => {}
                Err(ContainerError::Changed) => {
                    key.py().check_signals()?;
                    key.py().detach(|| std::thread::sleep(Duration::from_micros(100)));
                }
                Err(error) => return Err(failed(key.py(), &error, "")),
            }
        }
        unreachable!("there is no last attempt")
    }

    /// In whose terms odd keys are hashed: this interpreter's and the dict's. One who inserts has a word in it.
    fn terms(&self, py: Python<'_>, inserting: bool) -> PyResult<(u32, u32)> {
        let mine = seed(py)?;
        loop {
            let now = self.dict.note();
            let then = match now {
                0 => mine,
                now if now == mine || now == MIXED => now,
                _ => MIXED,
            };
            if !inserting || now == then || self.dict.change_note(now, then).is_ok() {
                return Ok((mine, if inserting { then } else { now }));
            }
        }
    }

    /// As `update`, for keys that only Python can compare: makes the whole dict anew.
    fn merge(&self, other: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = other.py();
        for attempt in 0.. {
            let (version, merged) = self.versioned(py)?;
            merged.update(other.as_mapping())?;
            let (mut hashes, mut pairs, mut odd) = (Vec::with_capacity(merged.len()), Items::new(), false);
            for (key, value) in merged.iter() {
                let wanted = self.encode_pair(&key, &value, &mut pairs)?;
                hashes.push(wanted.hash);
                odd |= wanted.sort == Sort::Odd;
            }
            let note = if odd { Some(self.terms(py, true)?.1) } else { None };
            match py.detach(|| self.dict.replace(&hashes, &mut pairs, Some(version), note)) {
                Ok(()) => return Ok(()),
                Err(ContainerError::Changed) if attempt < 4 => {}
                Err(ContainerError::Changed) => {
                    py.check_signals()?;
                    py.detach(|| std::thread::sleep(Duration::from_micros(100)));
                }
                Err(error) => return Err(failed(py, &error, "")),
            }
        }
        unreachable!("there is no last attempt")
    }

    fn list<'py>(&self, py: Python<'py>, which: Which) -> PyResult<Bound<'py, PyList>> {
        let mut items = Items::new();
        py.detach(|| self.dict.read(which, &mut items)).map_err(|e| failed(py, &e, ""))?;
        let list = PyList::empty(py);
        items.take_each(|tag, payload, blocks| list.append(decode_parts(py, tag, payload, blocks)?))?;
        Ok(list)
    }

    fn versioned<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyDict>)> {
        let mut items = Items::new();
        let outcome = py.detach(|| self.dict.read(Which::Both, &mut items));
        let version = outcome.map_err(|e| failed(py, &e, ""))?;
        let (dict, mut key) = (PyDict::new(py), None);
        items.take_each(|tag, payload, blocks| {
            let object = decode_parts(py, tag, payload, blocks)?;
            match key.take() {
                None => key = Some(object),
                Some(key) => dict.set_item(key, object)?,
            }
            Ok::<(), PyErr>(())
        })?;
        Ok((version, dict))
    }
}

/// Which of the keys in question is equal to `key`, as `Key::decided`.
#[cold]
fn decide(key: &Bound<'_, PyAny>, mut unsure: Unsure) -> PyResult<(u64, Option<u64>)> {
    let (mut nth, mut found) = (0, None);
    unsure.keys.take_each(|tag, payload, blocks| {
        if found.is_none() && decode_parts(key.py(), tag, payload, blocks)?.eq(key)? {
            found = Some(unsure.entries[nth]);
        }
        nth += 1;
        Ok::<(), PyErr>(())
    })?;
    Ok((unsure.version, found))
}

/// The default for a key that is not there; KeyError without one.
#[cold]
fn missing<'py>(key: &Bound<'py, PyAny>, default: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    match default.len() {
        // Not by `new_err`, which takes None for no argument and a tuple for several.
        0 => Err(PyErr::from_value(key.py().get_type::<PyKeyError>().call1((key,))?)),
        1 => default.get_item(0),
        more => Err(PyTypeError::new_err(format!("expected at most 2 arguments, got {}", more + 1))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Equal if its bytes are.
    Plain,
    /// Python compares; the hash is of its content.
    Compared,
    /// Python compares; the hash is Python's.
    Odd,
}

/// A key, encoded.
struct Wanted {
    hash: u64,
    sort: Sort,
    tag: u16,
    len: usize,
    small: SmallSpace,
    /// Instead of `small`, if it is not empty.
    long: Vec<u8>,
    has_blocks: bool,
}

impl Wanted {
    /// The blocks come beside it: the operation that stores the key takes them.
    #[inline]
    fn new(dict: &Dict, key: &Bound<'_, PyAny>) -> PyResult<(Wanted, Vec<Block>)> {
        let (hash, sort) = hash_of(key)?;
        let mut wanted =
            Wanted { hash, sort, tag: Kind::Value.tag(), len: 0, small: [0; 128], long: Vec::new(), has_blocks: false };
        if let Some(len) = codec::small(key, &mut wanted.small) {
            wanted.len = len;
            return Ok((wanted, Vec::new()));
        }
        let mut space: Space = [0; INLINE];
        let (tag, len, blocks) = container::fill_stored(&dict.arena(), key, &mut space)?;
        wanted.tag = tag;
        wanted.long = space[..len].to_vec();
        wanted.has_blocks = !blocks.is_empty();
        Ok((wanted, blocks))
    }

    fn payload(&self) -> &[u8] {
        if self.long.is_empty() { &self.small[..self.len] } else { &self.long }
    }

    /// Whether a stored key is this one, as far as that can be told from its bytes.
    #[inline]
    fn same(&self) -> impl Fn(u16, &[u8], bool) -> Option<bool> + Sync {
        let (tag, payload) = (self.tag, self.payload());
        let plain = self.sort == Sort::Plain && !self.has_blocks;
        move |other_tag, other, blocks| {
            if !plain || blocks {
                return None;
            }
            if other_tag == tag && other == payload {
                return Some(true);
            }
            let wanted = codec::first_token(tag, payload).filter(is_scalar)?;
            equal(&wanted, &codec::first_token(other_tag, other)?)
        }
    }
}

/// A key's hash, and its sort. Raises TypeError for what is no key.
#[inline]
fn hash_of(key: &Bound<'_, PyAny>) -> PyResult<(u64, Sort)> {
    if let Some((hash, sort)) = hash_of_content(key)? {
        return Ok((spread(hash), sort));
    }
    Ok((spread(key.hash()? as u64 ^ 0x6f64_6400), Sort::Odd))
}

/// A hash that is the same in every interpreter; None if there is none.
fn hash_of_content(key: &Bound<'_, PyAny>) -> PyResult<Option<(u64, Sort)>> {
    let py = key.py();
    if let Ok(text) = key.cast::<PyString>() {
        if !hashes_as::<PyString>(key) {
            return Ok(None);
        }
        // Not with surrogates, which are no text in UTF-8.
        return Ok(text.to_str().ok().map(|text| (hash_of_bytes(text.as_bytes(), 1), sort::<PyString>(key))));
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        let hash = hashes_as::<PyBytes>(key).then(|| hash_of_bytes(bytes.as_bytes(), 2));
        return Ok(hash.map(|hash| (hash, sort::<PyBytes>(key))));
    }
    // SAFETY: `key` is valid.
    let is_int = unsafe { ffi::PyLong_Check(key.as_ptr()) != 0 };
    if is_int {
        if !hashes_as::<pyo3::types::PyInt>(key) {
            return Ok(None);
        }
        // SAFETY: as above. A bool is a plain key as well.
        let plain = unsafe { ffi::PyLong_CheckExact(key.as_ptr()) != 0 || ffi::PyBool_Check(key.as_ptr()) != 0 };
        return Ok(Some((key.hash()? as u64, if plain { Sort::Plain } else { Sort::Compared })));
    }
    if let Ok(float) = key.cast::<PyFloat>() {
        if !hashes_as::<PyFloat>(key) {
            return Ok(None);
        }
        if float.value().is_nan() {
            // Not even equal to itself. (Its hash goes by where it lies.)
            return Ok(Some((0, Sort::Compared)));
        }
        return Ok(Some((key.hash()? as u64, sort::<PyFloat>(key))));
    }
    if key.is_none() {
        return Ok(Some((0x6e6f_6e65, Sort::Plain)));
    }
    if let Ok(tuple) = key.cast::<PyTuple>() {
        if !hashes_as::<PyTuple>(key) {
            return Ok(None);
        }
        let (mut all, mut least) = (tuple.len() as u64 ^ 0x7475_706c, sort::<PyTuple>(key));
        for item in tuple.iter() {
            let Some((hash, sort)) = hash_of_content(&item)? else { return Ok(None) };
            all = spread(all.rotate_left(5) ^ hash);
            if sort != Sort::Plain {
                least = Sort::Compared;
            }
        }
        return Ok(Some((all, least)));
    }
    if key.is_instance(&py.import("numbers")?.getattr("Number")?)? {
        return Ok(Some((key.hash()? as u64, Sort::Compared)));
    }
    Ok(None)
}

/// Whether an object of `T` or a subclass has T's hash.
#[inline]
fn hashes_as<T: pyo3::type_object::PyTypeInfo>(key: &Bound<'_, PyAny>) -> bool {
    let base = T::type_object_raw(key.py());
    // SAFETY: both are types, which live as long as what they are the types of.
    unsafe {
        let kind = ffi::Py_TYPE(key.as_ptr());
        kind == base || (*kind).tp_hash.map(|f| f as usize) == (*base).tp_hash.map(|f| f as usize)
    }
}

#[inline]
fn sort<T: pyo3::type_object::PyTypeInfo>(key: &Bound<'_, PyAny>) -> Sort {
    if key.is_exact_instance_of::<T>() { Sort::Plain } else { Sort::Compared }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[inline]
fn spread(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[inline]
fn hash_of_bytes(bytes: &[u8], kind: u64) -> u64 {
    let mut hash = kind ^ (bytes.len() as u64) << 8;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = spread(hash ^ u64::from_le_bytes(word.try_into().expect("eight bytes")));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    spread(hash ^ u64::from_le_bytes(last))
}

/// A number for the terms in which this interpreter hashes text, and so most of what is not a number; neither 0 nor
/// [`MIXED`].
fn seed(py: Python<'_>) -> PyResult<u32> {
    let hash = PyString::new(py, "breakeven").hash()? as u64;
    Ok(((hash ^ hash >> 32) as u32).clamp(1, MIXED - 1))
}
