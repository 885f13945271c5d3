//! Processes that work on one list are killed at random moments.

use breakeven_shm::{
    Arena, ArenaConfig, Item, Items, List, Piece, after_fork_in_child, after_fork_in_parent, before_fork, note_child,
};

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

fn work(list: &List, mut state: u64) {
    let arena = list.arena();
    let mut item = Item::new();
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
        let _ = match random(&mut state) % 8 {
            0 | 1 => list.append(1, &payload, &mut blocks),
            2 => list.insert(at, 1, &payload, &mut blocks),
            3 => list.set(at, 1, &payload, &mut blocks),
            4 | 5 => list.pop(at, None, &mut item),
            6 => list.get(at, true, &mut item).map(drop),
            _ => list.edit(&mut Items::new(), None, |len| {
                let tail = len.min(40);
                Ok((0..tail).rev().map(|nth| Piece::Keep(nth, nth + 1)).collect())
            }),
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
    let list = List::create(&arena, 0, 0).unwrap();
    for round in 0..150 {
        let mut children = Vec::new();
        for _ in 0..3 {
            let seed = random(&mut state);
            before_fork();
            // SAFETY: the child only works on the arena, until it is killed.
            match unsafe { libc::fork() } {
                0 => {
                    after_fork_in_child();
                    work(&list, seed);
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
        let mut items = Items::new();
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
    list.edit(&mut Items::new(), None, |_| Ok(vec![])).unwrap();
    arena.reap();
    let figures = arena.statistics();
    assert_eq!(figures.blocks_in_use, 2, "the list's root and its table: {figures:?}");
    drop(list);
    assert_eq!(arena.statistics().in_use, 0);
    arena.check_invariants().unwrap();
}
