//! Processes that work on one list and one dict are killed at random moments: what is there is whole, what a process was
//! told to be done is done, and nothing is lost or left.

use breakeven_shm::{
    Arena, ArenaConfig, Block, Dict, Item, Items, Key, List, Lookup, Piece, Which, after_fork_in_child,
    after_fork_in_parent, before_fork, note_child,
};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const PROCESSES: usize = 3;

/// An element is whole if its payload and its block, which has one if the length says so, hold
/// the same byte.
fn value(seed: u64) -> (u8, usize, Option<usize>) {
    let len = [1, 9, 12, 13, 100, 600][seed as usize % 6];
    (seed as u8, len, seed.is_multiple_of(5).then_some(300 + seed as usize % 9000))
}

fn check(payload: &[u8], blocks: &[breakeven_shm::Block]) {
    let byte = payload[0];
    assert!(payload.iter().all(|&b| b == byte), "torn");
    assert!(blocks.iter().all(|block| block.as_slice().iter().all(|&b| b == byte)), "torn block");
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Memory that children share: the last number that each was told to be stored.
fn acknowledged() -> &'static [AtomicU64; PROCESSES] {
    // SAFETY: a new mapping, zeroed, that is never taken away; all access is atomic.
    unsafe {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        let address = libc::mmap(core::ptr::null_mut(), 4096, protection, flags, -1, 0);
        assert_ne!(address, libc::MAP_FAILED);
        &*address.cast()
    }
}

fn spread(name: &[u8]) -> u64 {
    name.iter().fold(17, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn set(dict: &Dict, name: &[u8], payload: &[u8], blocks: &mut Vec<Block>) {
    let same = |_, other: &[u8], _| Some(other == name);
    let key = Key { hash: spread(name), same: &same, decided: None, note: None };
    dict.set(&key, (1, name, &mut vec![]), (1, payload, blocks), true).unwrap();
}

fn get(dict: &Dict, name: &[u8]) -> Option<Item> {
    let same = |_, other: &[u8], _| Some(other == name);
    let mut item = Item::new();
    let key = Key { hash: spread(name), same: &same, decided: None, note: None };
    matches!(dict.get(&key, true, &mut item).unwrap(), Lookup::Found(true)).then_some(item)
}

fn work(list: &List, dict: &Dict, me: usize, done: &AtomicU64, mut state: u64) {
    let arena = list.arena();
    let mut item = Item::new();
    let mine = [b'p', me as u8];
    loop {
        let (byte, len, block) = value(random(&mut state));
        let payload = vec![byte; len];
        let mut blocks: Vec<_> = block
            .map(|len| {
                let mut block = arena.alloc(len).unwrap();
                block.as_mut_slice().fill(byte);
                block
            })
            .into_iter()
            .collect();
        let at = (random(&mut state) % 30) as i64 - 15;
        // Keys of all lengths, their bytes equal too.
        let name = vec![at as u8; 1 + random(&mut state) as usize % 30];
        let same = |_, other: &[u8], _| Some(other == name);
        let key = Key { hash: spread(&name), same: &same, decided: None, note: None };
        let _ = match random(&mut state) % 16 {
            0 | 1 => list.append(1, &payload, &mut blocks),
            2 => list.insert(at, 1, &payload, &mut blocks),
            3 => list.set(at, 1, &payload, &mut blocks),
            4 | 5 => list.pop(at, None, &mut item),
            6 => list.get(at, true, &mut item).map(drop),
            7 => list.edit(&mut Items::new(), None, |len| {
                let tail = len.min(40);
                Ok((0..tail).rev().map(|nth| Piece::Keep(nth, nth + 1)).collect())
            }),
            8 | 9 => {
                set(dict, &name, &payload, &mut blocks);
                Ok(())
            }
            10 | 11 => dict.pop(&key, &mut item).map(drop),
            12 => dict.get(&key, true, &mut item).map(drop),
            13 => {
                let mut pairs = Items::new();
                pairs.push(1, &name, vec![]);
                pairs.push(1, &payload, core::mem::take(&mut blocks));
                dict.update(&[key], &mut pairs).map(drop)
            }
            _ => {
                let next = done.load(SeqCst) + 1;
                set(dict, &mine, &next.to_ne_bytes(), &mut vec![]);
                done.store(next, SeqCst);
                Ok(())
            }
        };
        item.blocks.clear();
    }
}

#[test]
fn killed_at_random_moments() {
    let seed = std::process::id() as u64 | 1 << 40;
    println!("seed {seed}");
    let mut state = seed;
    let arena = Arena::create(ArenaConfig { limit: 256 << 20, reserve: 0 }).unwrap();
    let (list, dict) = (List::create(&arena, 0, 0).unwrap(), Dict::create(&arena, 0, 0).unwrap());
    let done = acknowledged();
    for round in 0..150 {
        let mut children = Vec::new();
        for (me, done) in done.iter().enumerate() {
            let seed = random(&mut state);
            before_fork();
            // SAFETY: the child only works on the arena, until it is killed.
            match unsafe { libc::fork() } {
                0 => {
                    after_fork_in_child();
                    work(&list, &dict, me, done, seed);
                }
                pid => {
                    after_fork_in_parent();
                    assert!(pid > 0);
                    note_child(pid as u32);
                    children.push(pid);
                }
            }
        }
        for pid in children {
            let moment = std::time::Duration::from_micros(random(&mut state) % 4000);
            std::thread::sleep(moment);
            // SAFETY: our own child, which nobody has waited for.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, core::ptr::null_mut(), 0);
            }
        }
        for (me, done) in done.iter().enumerate() {
            let there =
                get(&dict, &[b'p', me as u8]).map_or(0, |item| u64::from_ne_bytes(item.payload().try_into().unwrap()));
            let told = done.load(SeqCst);
            assert!(there == told || there == told + 1, "{me}: {there}, told {told}");
            done.store(there, SeqCst);
        }
        let mut items = Items::new();
        dict.read(Which::Both, &mut items).unwrap();
        let (mut nth, mut keys, mut own) = (0, 0, false);
        items
            .take_each(|_, payload, blocks| {
                if nth % 2 == 0 {
                    own = payload[0] == b'p' && payload.len() == 2;
                    keys += 1;
                }
                nth += 1;
                if !own {
                    check(payload, &blocks);
                }
                Ok::<(), ()>(())
            })
            .unwrap();
        assert_eq!(dict.len(), Ok(keys));
        list.read(|len| (0, 1, len), &mut items).unwrap();
        let whole = |_, payload: &[u8], blocks: Vec<_>| {
            check(payload, &blocks);
            Ok::<(), ()>(())
        };
        items.take_each(whole).unwrap();
        if round % 10 == 0 {
            arena.reap();
            arena.check_invariants().unwrap();
        }
    }
    assert!(done.iter().all(|done| done.load(SeqCst) > 0));
    list.edit(&mut Items::new(), None, |_| Ok(vec![])).unwrap();
    dict.replace(&[], &mut Items::new(), None, None).unwrap();
    arena.reap();
    let figures = arena.statistics();
    assert_eq!(figures.blocks_in_use, 4, "their roots and tables: {figures:?}");
    drop((list, dict));
    assert_eq!(arena.statistics().in_use, 0);
    arena.check_invariants().unwrap();
}
