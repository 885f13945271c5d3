//! Dicts: pairs of cells, key and value, in the order in which the keys came, and an index.
//!
//! The index is open addressing with steps of one. A slot is written once and never emptied: a
//! removed key stays as a dead entry, and what leads to it is passed over, until the next table
//! leaves it out. So a slot may be written before its entry counts, and be there without one, until
//! whoever takes the lock over writes the index anew. Dead entries at the end are not given out
//! again, or slots would be used up without an end.
//!
//! Which keys are equal the user says, by looking at their bytes; where bytes do not tell, the
//! operation is given up with the keys in question ([`Lookup::Unsure`]), and made again with the
//! answer ([`Key::decided`]), which holds for the version that the question was about.

use super::table::{Item, Items, Table, Value};
use super::{Container, ContainerError, Core};
use crate::arena::{Arena, Block, BlockRef};
use crate::channel::Ticket;
use crate::error::{AllocError, OpenError};
use crate::layout::kind;
use std::fmt;
use std::ops::Deref;

/// A handle on a dict. Usable from any thread.
#[derive(Debug)]
pub struct Dict(Container);

impl Deref for Dict {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.0
    }
}

/// Whether a key, shown as tag, payload, and whether it has blocks too, is the one that is looked
/// for; None where that does not tell. Runs under the lock: it must be quick, and must not use the
/// dict.
pub type Same<'a> = dyn Fn(u16, &[u8], bool) -> Option<bool> + Sync + 'a;

/// A key that is looked for.
pub struct Key<'a> {
    /// Equal keys have equal hashes. It should be spread over all 64 bits.
    pub hash: u64,
    /// Whether a key of the same hash is this one.
    pub same: &'a Same<'a>,
    /// The answer to [`Unsure`]: the version that it was about, and which entry it is.
    pub decided: Option<(u64, Option<u64>)>,
    /// The note that the dict must have; with another one the operation fails as `Changed`.
    pub note: Option<u32>,
}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("hash", &self.hash).field("decided", &self.decided).finish_non_exhaustive()
    }
}

/// What came of looking for a key.
#[derive(Debug)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It is not, or was not.
    Missing,
    /// That cannot be told from bytes; nothing was done.
    Unsure(Unsure),
}

/// Keys that may be the one that is looked for.
#[derive(Debug)]
pub struct Unsure {
    /// The dict's version.
    pub version: u64,
    /// Names for the keys below, which hold for this version.
    pub entries: Vec<u64>,
    /// The keys.
    pub keys: Items,
}

/// Something to be stored: tag, payload, blocks (which are empty once it was stored).
pub type Stored<'a> = (u16, &'a [u8], &'a mut Vec<Block>);

/// Which cells of the entries are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Keys only.
    Keys,
    /// Values only.
    Values,
    /// Keys and values, in turn.
    Both,
}

enum Place {
    At(u64),
    Nowhere,
}

impl Dict {
    /// Makes an empty dict; see [`List::create`](super::List::create).
    pub fn create(arena: &Arena, patron: u32, group: u64) -> Result<Dict, AllocError> {
        let first = |arena: &Arena, me| Table::create_indexed(arena, me, 0, 0);
        Container::create(arena, kind::DICT, patron, group, first).map(Dict)
    }

    /// Opens a dict that another process (or this one) made; see [`List::open`](super::List::open).
    pub fn open(arena: &Arena, ticket: Ticket) -> Result<Dict, OpenError> {
        Container::open(arena, kind::DICT, ticket).map(Dict)
    }

    /// How many keys there are.
    #[allow(clippy::len_without_is_empty, reason = "it can fail, and is out of date at once")]
    pub fn len(&self) -> Result<u64, ContainerError> {
        self.locked(|core, _, _| Ok(core.table()?.live()))
    }

    /// Reads a key's value. With `copy_blocks` unset a value that has blocks is not read, and the
    /// answer is `Found(false)`: copying them may take long.
    pub fn get(&self, key: &Key<'_>, copy_blocks: bool, item: &mut Item) -> Result<Lookup<bool>, ContainerError> {
        item.blocks.clear();
        self.locked(|core, me, _| {
            let table = core.table()?;
            core.at(&table, key, |entry| {
                let content = table.read(entry * 2 + 1)?;
                if content.blocks > 0 {
                    if !copy_blocks {
                        return Ok(false);
                    }
                    item.blocks = table.copy_blocks(me, &content)?;
                }
                item.set(content.tag, table.payload(&content)?);
                Ok(true)
            })
        })
    }

    /// Whether a key is there.
    pub fn contains(&self, key: &Key<'_>) -> Result<Lookup<()>, ContainerError> {
        self.locked(|core, _, _| core.at(&core.table()?, key, |_| Ok(())))
    }

    /// Gives a key a value; `name` is the key as it is to be stored where it is new. With `replace`
    /// unset a key that is there keeps its value. `Found` or `Missing` says what was. What was not
    /// stored stays with the caller.
    pub fn set(
        &self,
        key: &Key<'_>,
        name: Stored<'_>,
        value: Stored<'_>,
        replace: bool,
    ) -> Result<Lookup<()>, ContainerError> {
        let ((name_tag, name_payload, name_blocks), (tag, payload, blocks)) = (name, value);
        self.check(name_payload, name_blocks)?;
        self.check(payload, blocks)?;
        let outcome = self.locked(|core, me, gone| {
            let mut table = core.table()?;
            let value = Value::new(tag, payload, blocks);
            let place = match core.place(&table, key)? {
                Ok(place) => place,
                Err(unsure) => return Ok(Lookup::Unsure(unsure)),
            };
            let Place::At(mut entry) = place else {
                let name = Value::new(name_tag, name_payload, name_blocks);
                core.insert(me, table, 1, name.heap() + value.heap(), |_| (key.hash, name, value), gone)?;
                return Ok(Lookup::Missing);
            };
            if !replace {
                return Ok(Lookup::Found(()));
            }
            if value.heap() > table.heap_left() {
                let moved;
                (table, moved) = core.compact(me, &table, Room { entries: 0, heap: value.heap() }, gone)?;
                entry = moved(entry);
            }
            core.changing();
            table.own_blocks(me, &table.read(entry * 2 + 1)?, gone)?;
            table.assign(entry * 2 + 1, value); // commits
            Ok(Lookup::Found(()))
        })?;
        let new = matches!(outcome, Lookup::Missing);
        if new {
            name_blocks.drain(..).for_each(core::mem::forget);
        }
        if new || replace && matches!(outcome, Lookup::Found(())) {
            blocks.drain(..).for_each(core::mem::forget);
        }
        Ok(outcome)
    }

    /// Takes a key out. Its value goes to `item`, with its blocks, without a copy.
    pub fn pop(&self, key: &Key<'_>, item: &mut Item) -> Result<Lookup<()>, ContainerError> {
        item.blocks.clear();
        self.locked(|core, me, gone| {
            let table = core.table()?;
            core.at(&table, key, |entry| core.take(me, &table, entry, None, item, gone))
        })
    }

    /// Takes the key out that came last. False if there is none.
    pub fn pop_last(&self, name: &mut Item, item: &mut Item) -> Result<bool, ContainerError> {
        name.blocks.clear();
        item.blocks.clear();
        self.locked(|core, me, gone| {
            let table = core.table()?;
            for entry in (0..table.tail().min(table.entries()?)).rev() {
                if !table.read(entry * 2)?.dead {
                    core.take(me, &table, entry, Some(name), item, gone)?;
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Copies keys, values, or both into `items`, in the order in which the keys came. Returns the
    /// dict's version.
    pub fn read(&self, which: Which, items: &mut Items) -> Result<u64, ContainerError> {
        self.locked(|core, me, _| {
            items.clear();
            let table = core.table()?;
            let mut cell = |nth| {
                let content = table.read(nth)?;
                let blocks = if content.blocks > 0 { table.copy_blocks(me, &content)? } else { Vec::new() };
                items.push(content.tag, table.payload(&content)?, blocks);
                Ok::<(), ContainerError>(())
            };
            for entry in 0..table.entries()? {
                if table.read(entry * 2)?.dead {
                    continue;
                }
                if which != Which::Values {
                    cell(entry * 2)?;
                }
                if which != Which::Keys {
                    cell(entry * 2 + 1)?;
                }
            }
            Ok(core.version())
        })
    }

    /// Gives many keys their values, all in one step. `pairs` are keys and values in turn, no key
    /// twice; `keys` say how to find them. `Found` if all is done, and `pairs` is empty then.
    pub fn update(&self, keys: &[Key<'_>], pairs: &mut Items) -> Result<Lookup<()>, ContainerError> {
        assert_eq!(pairs.len(), keys.len() * 2, "a key and a value each");
        for blocks in &pairs.blocks {
            self.check(&[], blocks)?;
        }
        if keys.is_empty() {
            return Ok(Lookup::Found(()));
        }
        let mut replaced = Vec::new();
        let outcome = self.locked(|core, me, gone| {
            let table = core.table()?;
            let (mut found, mut new) = (Vec::new(), Vec::new());
            for (nth, key) in keys.iter().enumerate() {
                match core.place(&table, key)? {
                    Ok(Place::At(entry)) => found.push((entry, nth)),
                    Ok(Place::Nowhere) => new.push(nth),
                    Err(unsure) => return Ok(Lookup::Unsure(unsure)),
                }
            }
            found.sort_unstable();
            let value = |nth: usize| pairs.value(nth * 2 + 1);
            let heap = new.iter().map(|&nth| pairs.value(nth * 2).heap() + value(nth).heap()).sum::<u64>();
            let entry = |nth: usize| (keys[new[nth]].hash, pairs.value(new[nth] * 2), value(new[nth]));
            if found.is_empty() {
                core.insert(me, table, new.len() as u64, heap, entry, gone)?;
                return Ok(Lookup::Found(()));
            }
            // Values are assigned one by one; that all change in one step takes a new table.
            let room = Room { entries: new.len() as u64, heap };
            core.changing();
            core.renew(me, &table, &found, Some(&value), room, gone, |next| {
                for nth in 0..new.len() {
                    next.add(entry(nth))?;
                }
                Ok(())
            })?;
            replaced = found.iter().map(|&(_, nth)| nth).collect();
            Ok(Lookup::Found(()))
        })?;
        if matches!(outcome, Lookup::Found(())) {
            // The keys of those that were there are not in the dict; their blocks stay ours.
            pairs.given_but(replaced.iter().map(|nth| nth * 2));
        }
        Ok(outcome)
    }

    /// All keys, as ones of which it cannot be told whether they are the one that is looked for.
    pub fn ask(&self) -> Result<Unsure, ContainerError> {
        self.locked(|core, _, _| {
            let table = core.table()?;
            let mut alive = Vec::new();
            for entry in 0..table.entries()? {
                if !table.read(entry * 2)?.dead {
                    alive.push(entry);
                }
            }
            core.ask(&table, alive)
        })
    }

    /// Puts other pairs in the place of all, in one step; only if the dict is still of version
    /// `expected` and has the `note`, where one is given. `pairs` are keys and values in turn, no
    /// key twice, and empty after that.
    pub fn replace(
        &self,
        hashes: &[u64],
        pairs: &mut Items,
        expected: Option<u64>,
        note: Option<u32>,
    ) -> Result<(), ContainerError> {
        assert_eq!(pairs.len(), hashes.len() * 2, "a key and a value each");
        for blocks in &pairs.blocks {
            self.check(&[], blocks)?;
        }
        self.locked(|core, me, gone| {
            core.expect(expected)?;
            core.expect_note(note)?;
            let table = core.table()?;
            core.changing();
            let (block, next) = Table::create_indexed(&core.arena, me, hashes.len() as u64, pairs.heap())?;
            for (nth, &hash) in hashes.iter().enumerate() {
                next.add((hash, pairs.value(nth * 2), pairs.value(nth * 2 + 1)))?;
            }
            let mut leaving = Vec::new();
            for content in table.contents_with_blocks() {
                table.own_blocks(me, &content, &mut leaving)?;
            }
            core.replace(me, &table, block, &next, &mut leaving)?;
            gone.append(&mut leaving);
            Ok(())
        })?;
        pairs.given();
        Ok(())
    }
}

/// Room that a new table is to have beside what the entries need.
#[derive(Clone, Copy)]
struct Room {
    entries: u64,
    heap: u64,
}

/// Hash, key, value.
type Entry<'v> = (u64, Value<'v>, Value<'v>);

impl Core {
    /// Where a key is, or which ones it might be.
    #[inline]
    fn place(&self, table: &Table, key: &Key<'_>) -> Result<Result<Place, Unsure>, ContainerError> {
        let entries = table.entries()?;
        self.expect_note(key.note)?;
        if let Some((version, entry)) = key.decided {
            self.expect(Some(version))?;
            let alive = |entry: u64| entry < entries && table.read(entry * 2).is_ok_and(|key| !key.dead);
            return match entry {
                Some(entry) if alive(entry) => Ok(Ok(Place::At(entry))),
                Some(_) => Err(ContainerError::Range),
                None => Ok(Ok(Place::Nowhere)),
            };
        }
        let mut unsure = Vec::new();
        for slot in table.probe(key.hash) {
            let Some(entry) = table.slot(slot) else { break };
            if entry >= entries || table.hash(entry) != key.hash {
                continue;
            }
            let content = table.read(entry * 2)?;
            if content.dead {
                continue;
            }
            match (key.same)(content.tag, table.payload(&content)?, content.blocks > 0) {
                Some(true) => return Ok(Ok(Place::At(entry))),
                Some(false) => {}
                None => unsure.push(entry),
            }
        }
        if unsure.is_empty() { Ok(Ok(Place::Nowhere)) } else { self.ask(table, unsure).map(Err) }
    }

    #[inline]
    fn expect_note(&self, note: Option<u32>) -> Result<(), ContainerError> {
        match note {
            Some(note) if note != self.note() => Err(ContainerError::Changed),
            _ => Ok(()),
        }
    }

    #[cold]
    fn ask(&self, table: &Table, mut entries: Vec<u64>) -> Result<Unsure, ContainerError> {
        let me = self.arena.inner.me.get();
        let mut keys = Items::new();
        // An entry that was refilled may be reached by two slots.
        entries.sort_unstable();
        entries.dedup();
        for entry in &entries {
            let content = table.read(entry * 2)?;
            let blocks = if content.blocks > 0 { table.copy_blocks(me, &content)? } else { Vec::new() };
            keys.push(content.tag, table.payload(&content)?, blocks);
        }
        Ok(Unsure { version: self.version(), entries, keys })
    }

    /// Does something with a key's entry.
    #[inline]
    fn at<T>(
        &self,
        table: &Table,
        key: &Key<'_>,
        then: impl FnOnce(u64) -> Result<T, ContainerError>,
    ) -> Result<Lookup<T>, ContainerError> {
        Ok(match self.place(table, key)? {
            Ok(Place::At(entry)) => Lookup::Found(then(entry)?),
            Ok(Place::Nowhere) => Lookup::Missing,
            Err(unsure) => Lookup::Unsure(unsure),
        })
    }

    /// Adds entries, in one step.
    fn insert<'v>(
        &self,
        me: u32,
        mut table: Table,
        count: u64,
        heap: u64,
        entry: impl Fn(usize) -> Entry<'v>,
        gone: &mut Vec<BlockRef>,
    ) -> Result<(), ContainerError> {
        let mut entries = table.entries()?;
        if (entries + count) * 2 > table.capacity || heap > table.heap_left() {
            (table, _) = self.compact(me, &table, Room { entries: count, heap }, gone)?;
            entries = table.entries()?;
        }
        self.changing();
        for nth in 0..count {
            table.stage_entry(entries + nth, entry(nth as usize))?;
        }
        table.set_tail(entries + count);
        table.set_span(0, (entries + count) * 2); // commits
        table.set_live(table.live() + count);
        Ok(())
    }

    /// Ends an entry; what it held comes out, without a copy.
    fn take(
        &self,
        me: u32,
        table: &Table,
        entry: u64,
        name: Option<&mut Item>,
        item: &mut Item,
        gone: &mut Vec<BlockRef>,
    ) -> Result<(), ContainerError> {
        let (key, value) = (table.read(entry * 2)?, table.read(entry * 2 + 1)?);
        item.set(value.tag, table.payload(&value)?);
        self.changing();
        let (mut taken, mut leaving) = (Vec::new(), Vec::new());
        table.own_blocks(me, &value, &mut taken)?;
        table.own_blocks(me, &key, &mut leaving)?;
        let block = |reference: &BlockRef| self.arena.block(reference.index, me, reference.len as usize);
        let payload = table.payload(&key)?.to_vec();
        table.set_dead(entry); // commits
        table.set_live(table.live().saturating_sub(1));
        item.blocks = taken.iter().map(block).collect();
        match name {
            Some(name) => {
                name.set(key.tag, &payload);
                name.blocks = leaving.iter().map(block).collect();
            }
            None => gone.append(&mut leaving),
        }
        if entry + 1 == table.tail() {
            let mut tail = entry;
            while tail > 0 && table.read((tail - 1) * 2)?.dead {
                tail -= 1;
            }
            table.set_tail(tail);
        }
        Ok(())
    }

    /// Puts a table without the dead entries in the place of `table`; see `renew`. Returns it, and
    /// where the entries are in it.
    fn compact(
        &self,
        me: u32,
        table: &Table,
        room: Room,
        gone: &mut Vec<BlockRef>,
    ) -> Result<(Table, impl Fn(u64) -> u64 + use<>), ContainerError> {
        let mut dead = Vec::new();
        for entry in 0..table.entries()? {
            if table.read(entry * 2)?.dead {
                dead.push(entry);
            }
        }
        let next = self.renew(me, table, &[], None, room, gone, |_| Ok(()))?;
        Ok((next, move |entry| entry - dead.partition_point(|&dead| dead < entry) as u64))
    }

    /// Puts a table in the place of `table` that has its entries without the dead, with the values
    /// of `found` (entry, and what `value` is to be asked for; sorted) replaced, and what `more`
    /// adds. The lock is held. What leaves the dict (the old table too) is made this process's and
    /// added to `gone`.
    #[allow(clippy::too_many_arguments, reason = "the parts of one step")]
    fn renew<'v>(
        &self,
        me: u32,
        table: &Table,
        found: &[(u64, usize)],
        value: Option<&dyn Fn(usize) -> Value<'v>>,
        room: Room,
        gone: &mut Vec<BlockRef>,
        more: impl Fn(&Table) -> Result<(), ContainerError>,
    ) -> Result<Table, ContainerError> {
        let entries = table.entries()?;
        let replacement = |entry: u64| {
            let nth = found.binary_search_by_key(&entry, |&(entry, _)| entry).ok()?;
            value.map(|value| value(found[nth].1))
        };
        let (mut live, mut heap) = (0, 0);
        for entry in 0..entries {
            let key = table.read(entry * 2)?;
            if key.dead {
                continue;
            }
            live += 1;
            heap += key.record_len();
            heap += match replacement(entry) {
                Some(value) => value.heap(),
                None => table.read(entry * 2 + 1)?.record_len(),
            };
        }
        // As with lists: a full heap costs a new table, so it should take long to fill.
        let needed = heap + room.heap;
        let heap = if needed == 0 { 0 } else { needed + needed.max(256).max(live * 16) };
        let (block, next) = Table::create_indexed(&self.arena, me, (live + room.entries) * 2, heap)?;
        let (mut at, mut leaving) = (0, Vec::new());
        for entry in 0..entries {
            let key = table.read(entry * 2)?;
            if key.dead {
                continue;
            }
            next.put_slot(at, table.hash(entry))?;
            next.take_over(at * 2, table, &key)?;
            let old = table.read(entry * 2 + 1)?;
            match replacement(entry) {
                Some(value) => {
                    next.fill(at * 2 + 1, value);
                    table.own_blocks(me, &old, &mut leaving)?;
                }
                None => next.take_over(at * 2 + 1, table, &old)?,
            }
            at += 1;
        }
        next.set_tail(at);
        next.set_span(0, at * 2);
        next.set_live(at);
        more(&next)?;
        self.replace(me, table, block, &next, &mut leaving)?;
        gone.append(&mut leaving);
        Ok(next)
    }
}

impl Table {
    /// Leads a hash to an entry, whose key is told its hash.
    fn put_slot(&self, entry: u64, hash: u64) -> Result<(), ContainerError> {
        let free = self.probe(hash).find(|&slot| self.slot(slot).is_none()).ok_or(ContainerError::Corrupt)?;
        self.set_hash(entry, hash);
        self.set_slot(free, entry);
        Ok(())
    }

    /// Writes an entry outside the span.
    fn stage_entry(&self, at: u64, (hash, key, value): Entry<'_>) -> Result<(), ContainerError> {
        self.put_slot(at, hash)?;
        self.fill(at * 2, key);
        self.fill(at * 2 + 1, value);
        Ok(())
    }

    /// Adds an entry to a table that nobody else knows.
    fn add(&self, entry: Entry<'_>) -> Result<(), ContainerError> {
        let entries = self.entries()?;
        if (entries + 1) * 2 > self.capacity {
            return Err(ContainerError::Corrupt);
        }
        self.stage_entry(entries, entry)?;
        self.set_tail(entries + 1);
        self.set_span(0, (entries + 1) * 2);
        self.set_live(entries + 1);
        Ok(())
    }
}
