//! Lists: the elements are the table's cells within its span.

use super::table::{FEWEST_CELLS, Item, Items, Table, Value};
use super::{Container, ContainerError, Core};
use crate::arena::{Arena, Block, BlockRef};
use crate::channel::Ticket;
use crate::error::{AllocError, OpenError};
use crate::layout::kind;
use std::ops::Deref;

/// Where an element of a list as it is to be comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Elements `from..to` of the list as it is. Each may be kept once.
    Keep(u64, u64),
    /// Values `from..to` of those given.
    New(u64, u64),
}

/// A handle on a list. Usable from any thread.
#[derive(Debug)]
pub struct List(Container);

impl Deref for List {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.0
    }
}

impl List {
    /// Makes an empty list. `patron` is the participant that keeps it while it is pinned, 0 for
    /// this process; `group` is the patron's name for the containers that
    /// [`release_group`](Container::release_group) lets go together.
    pub fn create(arena: &Arena, patron: u32, group: u64) -> Result<List, AllocError> {
        let first = |arena: &Arena, me| Table::create(arena, me, FEWEST_CELLS, 0);
        Container::create(arena, kind::LIST, patron, group, first).map(List)
    }

    /// Opens a list that another process (or this one) made. What the ticket's lender keeps for us
    /// goes back.
    pub fn open(arena: &Arena, ticket: Ticket) -> Result<List, OpenError> {
        Container::open(arena, kind::LIST, ticket).map(List)
    }

    /// How many elements there are.
    #[allow(clippy::len_without_is_empty, reason = "it can fail, and is out of date at once")]
    pub fn len(&self) -> Result<u64, ContainerError> {
        self.locked(|core, _, _| Ok(core.table()?.span()?.1))
    }

    /// Reads an element; negative indices count from the end. With `copy_blocks` unset an element
    /// that has blocks is not read, and the answer is false: copying them may take long.
    pub fn get(&self, index: i64, copy_blocks: bool, item: &mut Item) -> Result<bool, ContainerError> {
        item.blocks.clear();
        self.locked(|core, me, _| {
            let table = core.table()?;
            let (first, len) = table.span()?;
            let content = table.read(first + resolve(index, len)?)?;
            if content.blocks > 0 {
                if !copy_blocks {
                    return Ok(false);
                }
                item.blocks = table.copy_blocks(me, &content)?;
            }
            item.set(content.tag, table.payload(&content)?);
            Ok(true)
        })
    }

    /// Assigns an element. On success `blocks` is empty: they are the list's.
    pub fn set(&self, index: i64, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<(), ContainerError> {
        self.check(payload, blocks)?;
        self.locked(|core, me, gone| {
            let value = Value::new(tag, payload, blocks);
            let mut table = core.table()?;
            let (mut first, len) = table.span()?;
            let nth = resolve(index, len)?;
            if value.heap() > table.heap_left() {
                let reserve = Reserve { heap: value.heap(), ..Reserve::default() };
                table = core.rebuild(me, &table, &[Piece::Keep(0, len)], None, reserve, gone)?;
                first = table.span()?.0;
            }
            core.changing();
            let old = table.read(first + nth)?;
            table.own_blocks(me, &old, gone)?;
            table.assign(first + nth, value); // commits
            Ok(())
        })?;
        blocks.drain(..).for_each(core::mem::forget);
        Ok(())
    }

    /// Adds an element before the one at `index`, which is brought into range. On success `blocks`
    /// is empty.
    pub fn insert(&self, index: i64, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<(), ContainerError> {
        self.check(payload, blocks)?;
        self.locked(|core, me, gone| {
            let value = Value::new(tag, payload, blocks);
            let table = core.table()?;
            let (_, len) = table.span()?;
            let nth = if index < 0 { index + len as i64 } else { index }.clamp(0, len as i64) as u64;
            if nth == len {
                return core.append(me, table, 1, value.heap(), |_| value, gone);
            }
            core.changing();
            if nth == 0 {
                return core.prepend(me, table, value, gone);
            }
            let pieces = [Piece::Keep(0, nth), Piece::New(0, 1), Piece::Keep(nth, len)];
            let reserve = Reserve { back: 1, ..Reserve::default() };
            core.rebuild(me, &table, &pieces, Some(&|_| value), reserve, gone).map(drop)
        })?;
        blocks.drain(..).for_each(core::mem::forget);
        Ok(())
    }

    /// Adds an element at the end. On success `blocks` is empty.
    #[inline]
    pub fn append(&self, tag: u16, payload: &[u8], blocks: &mut Vec<Block>) -> Result<(), ContainerError> {
        self.check(payload, blocks)?;
        self.locked(|core, me, gone| {
            let value = Value::new(tag, payload, blocks);
            let table = core.table()?;
            core.append(me, table, 1, value.heap(), |_| value, gone)
        })?;
        blocks.drain(..).for_each(core::mem::forget);
        Ok(())
    }

    /// Adds elements at the end, all in one step; only if the list is still of version `expected`,
    /// where one is given. On success `items` is empty.
    pub fn extend(&self, items: &mut Items, expected: Option<u64>) -> Result<(), ContainerError> {
        for blocks in &items.blocks {
            self.check(&[], blocks)?;
        }
        self.locked(|core, me, gone| {
            core.expect(expected)?;
            if items.is_empty() {
                return Ok(());
            }
            let count = items.len() as u64;
            core.append(me, core.table()?, count, items.heap(), |nth| items.value(nth), gone)
        })?;
        items.given();
        Ok(())
    }

    /// Takes an element out; its blocks come along, without a copy. Only if the list is still of
    /// version `expected`, where one is given.
    pub fn pop(&self, index: i64, expected: Option<u64>, item: &mut Item) -> Result<(), ContainerError> {
        item.blocks.clear();
        self.locked(|core, me, gone| {
            core.expect(expected)?;
            let table = core.table()?;
            let (first, len) = table.span()?;
            let nth = resolve(index, len)?;
            let content = table.read(first + nth)?;
            item.set(content.tag, table.payload(&content)?);
            core.changing();
            let mut taken = Vec::new();
            if nth == 0 || nth == len - 1 {
                table.own_blocks(me, &content, &mut taken)?;
                table.set_span(if nth == 0 { first + 1 } else { first }, len - 1); // commits
            } else {
                let pieces = [Piece::Keep(0, nth), Piece::Keep(nth + 1, len)];
                core.rebuild(me, &table, &pieces, None, Reserve::default(), &mut taken)?;
                // The old table's block goes; what else left are this element's.
                let old = taken.iter().position(|reference| reference.index == table.index());
                if let Some(old) = old {
                    gone.push(taken.remove(old));
                }
            }
            let arena = core.arena;
            let block = |reference: &BlockRef| arena.block(reference.index, me, reference.len as usize);
            item.blocks = taken.iter().map(block).collect();
            Ok(())
        })
    }

    /// Copies the elements that `which` names into `items`: given the length, it says the first
    /// one, the step and how many. Returns the list's version.
    pub fn read(&self, which: impl Fn(u64) -> (u64, i64, u64), items: &mut Items) -> Result<u64, ContainerError> {
        self.locked(|core, me, _| {
            items.clear();
            let table = core.table()?;
            let (first, len) = table.span()?;
            let (start, step, count) = which(len);
            items.entries.reserve(count.min(len) as usize);
            let mut nth = start as i64;
            for _ in 0..count {
                if nth < 0 || nth as u64 >= len {
                    return Err(ContainerError::Range);
                }
                let content = table.read(first + nth as u64)?;
                let blocks = if content.blocks > 0 { table.copy_blocks(me, &content)? } else { Vec::new() };
                items.push(content.tag, table.payload(&content)?, blocks);
                nth += step;
            }
            Ok(core.version())
        })
    }

    /// Shows `look` each element where it lies, in order, until it says that it has seen enough:
    /// index, tag, payload, whether there are blocks too. Returns the list's version. `look` runs
    /// under the lock: it must be quick, and must not use the list.
    pub fn visit(&self, mut look: impl FnMut(u64, u16, &[u8], bool) -> bool) -> Result<u64, ContainerError> {
        self.locked(|core, _, _| {
            let table = core.table()?;
            let (first, len) = table.span()?;
            for nth in 0..len {
                let content = table.read(first + nth)?;
                if !look(nth, content.tag, table.payload(&content)?, content.blocks > 0) {
                    break;
                }
            }
            Ok(core.version())
        })
    }

    /// Puts the list together anew, in one step, from the pieces that `plan` names, given the
    /// length; only if it is still of version `expected`, where one is given. Each element can be
    /// kept once; those that are not are dropped. On success `items` is empty.
    pub fn edit(
        &self,
        items: &mut Items,
        expected: Option<u64>,
        plan: impl Fn(u64) -> Result<Vec<Piece>, ContainerError>,
    ) -> Result<(), ContainerError> {
        for blocks in &items.blocks {
            self.check(&[], blocks)?;
        }
        self.locked(|core, me, gone| {
            core.expect(expected)?;
            let table = core.table()?;
            let (_, len) = table.span()?;
            let pieces = plan(len)?;
            core.changing();
            let new = |nth| items.value(nth);
            core.rebuild(me, &table, &pieces, Some(&new), Reserve::default(), gone).map(drop)
        })?;
        items.given();
        Ok(())
    }
}

#[inline]
fn resolve(index: i64, len: u64) -> Result<u64, ContainerError> {
    let nth = if index < 0 { index.wrapping_add(len as i64) } else { index };
    if nth < 0 || nth as u64 >= len { Err(ContainerError::Range) } else { Ok(nth as u64) }
}

/// Room that a new table is to have beside what its elements need.
#[derive(Default, Clone, Copy)]
struct Reserve {
    front: u64,
    back: u64,
    heap: u64,
}

impl Core {
    #[inline]
    fn append<'v>(
        &self,
        me: u32,
        mut table: Table,
        count: u64,
        heap: u64,
        value: impl Fn(usize) -> Value<'v>,
        gone: &mut Vec<BlockRef>,
    ) -> Result<(), ContainerError> {
        let (mut first, len) = table.span()?;
        if first + len + count > table.capacity || heap > table.heap_left() {
            let reserve = Reserve { back: count, heap, ..Reserve::default() };
            table = self.rebuild(me, &table, &[Piece::Keep(0, len)], None, reserve, gone)?;
            first = table.span()?.0;
        }
        self.changing();
        for nth in 0..count {
            table.fill(first + len + nth, value(nth as usize));
        }
        table.set_span(first, len + count); // commits
        Ok(())
    }

    fn prepend(
        &self,
        me: u32,
        mut table: Table,
        value: Value<'_>,
        gone: &mut Vec<BlockRef>,
    ) -> Result<(), ContainerError> {
        let (mut first, len) = table.span()?;
        if first == 0 || value.heap() > table.heap_left() {
            let reserve = Reserve { front: 1, back: 0, heap: value.heap() };
            table = self.rebuild(me, &table, &[Piece::Keep(0, len)], None, reserve, gone)?;
            first = table.span()?.0;
        }
        table.fill(first - 1, value);
        table.set_span(first - 1, len + 1); // commits
        Ok(())
    }

    /// Makes a table of `pieces` and puts it in the place of `table`. The lock is held. What leaves
    /// the list (the old table too) is made this process's and added to `gone`.
    fn rebuild<'v>(
        &self,
        me: u32,
        table: &Table,
        pieces: &[Piece],
        new: Option<&dyn Fn(usize) -> Value<'v>>,
        reserve: Reserve,
        gone: &mut Vec<BlockRef>,
    ) -> Result<Table, ContainerError> {
        let (first, len) = table.span()?;
        let simple = table.used() == 0; // no element has anything on the heap
        let mut kept = Vec::new();
        if !simple {
            kept.resize(len as usize, false);
        }
        let (mut count, mut heap) = (0, 0);
        for piece in pieces {
            match *piece {
                Piece::Keep(from, to) if from <= to && to <= len => {
                    count += to - from;
                    if simple {
                        continue;
                    }
                    for nth in from..to {
                        heap += table.read(first + nth)?.record_len();
                        kept[nth as usize] = true;
                    }
                }
                Piece::New(from, to) if from <= to => {
                    let new = new.ok_or(ContainerError::Range)?;
                    count += to - from;
                    heap += (from..to).map(|nth| new(nth as usize).heap()).sum::<u64>();
                }
                _ => return Err(ContainerError::Range),
            }
        }
        let front = if reserve.front > 0 { reserve.front + count / 2 } else { 0 };
        let back = reserve.back + count;
        let cells = (front + count + back).max(FEWEST_CELLS);
        let needed = heap + reserve.heap;
        // A full heap costs a new table, cells and all: it should take long to fill.
        let heap = if needed == 0 { 0 } else { needed + needed.max(256).max(cells * 8) };
        let (block, next) = Table::create(&self.arena, me, cells, heap)?;
        let mut at = front;
        for piece in pieces {
            match *piece {
                Piece::Keep(from, to) if simple => {
                    next.copy_cells(at, table, first + from, to - from);
                    at += to - from;
                }
                Piece::Keep(from, to) => {
                    for nth in from..to {
                        next.take_over(at, table, &table.read(first + nth)?)?;
                        at += 1;
                    }
                }
                Piece::New(from, to) => {
                    let new = new.ok_or(ContainerError::Range)?;
                    for nth in from..to {
                        next.fill(at, new(nth as usize));
                        at += 1;
                    }
                }
            }
        }
        next.set_span(front, count);
        let mut leaving = Vec::new();
        for nth in (0..len).filter(|nth| kept.get(*nth as usize) == Some(&false)) {
            table.own_blocks(me, &table.read(first + nth)?, &mut leaving)?;
        }
        self.replace(me, table, block, &next, &mut leaving)?;
        gone.append(&mut leaving);
        Ok(next)
    }
}
