//! What a fork must not change: received data stays private, and lives as long as anybody uses it.

use breakeven_shm::{Arena, ArenaConfig, View, after_fork_in_child, after_fork_in_parent, before_fork};
use std::io::{PipeReader, Read, Write};

/// A child takes part in every arena of its parent, so the tests, which count participants, take
/// turns.
#[allow(clippy::disallowed_types, reason = "a test's own turn-taking, never held across a fork of ours")]
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Forks; the child runs `child` and its answer is returned.
fn in_child(child: impl FnOnce() -> Vec<u8>) -> (libc::pid_t, PipeReader) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    before_fork();
    // SAFETY: the child only touches its own memory and the arena, and leaves with `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            after_fork_in_child();
            let answer = child();
            writer.write_all(&answer).unwrap();
            // SAFETY: ends the process without running anything of the parent's.
            unsafe { libc::_exit(0) }
        }
        pid => {
            after_fork_in_parent();
            assert!(pid > 0);
            (pid, reader)
        }
    }
}

fn answer((pid, mut reader): (libc::pid_t, PipeReader), len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).unwrap();
    // SAFETY: waits for our own child.
    unsafe { libc::waitpid(pid, core::ptr::null_mut(), 0) };
    bytes
}

fn bytes(view: &View) -> &'static mut [u8] {
    // SAFETY: the tests use the slice only while the view lives.
    unsafe { core::slice::from_raw_parts_mut(view.as_ptr(), view.len()) }
}

#[test]
fn views_are_private_to_each_side_and_live_until_both_are_done() {
    let _turn = TURN.lock();
    let arena = Arena::create(ArenaConfig { limit: 64 << 20, reserve: 0 }).unwrap();
    let mut block = arena.alloc(1 << 20).unwrap();
    block.as_mut_slice().fill(1);
    let address = block.as_ptr();
    let view = View::new(block);
    let (ready, mut go) = std::io::pipe().unwrap();
    let child = in_child(|| {
        let mut ready = ready;
        ready.read_exact(&mut [0]).unwrap(); // until the parent has written and dropped
        let before = bytes(&view)[7];
        bytes(&view)[8] = 3;
        let after = bytes(&view)[8];
        // SAFETY: the child leaves with `_exit`, so the original is never dropped in it.
        drop(unsafe { core::ptr::read(&view) });
        vec![before, after]
    });
    assert_eq!(bytes(&view)[7], 1, "the same bytes as before the fork");
    bytes(&view)[7] = 2;
    drop(view);
    // The block is the child's still: a new one must lie elsewhere.
    let other = arena.alloc(1 << 20).unwrap();
    assert_ne!(other.as_ptr(), address);
    go.write_all(&[1]).unwrap();
    assert_eq!(answer(child, 2), [1, 3], "the child sees neither our write nor our drop");
    drop(other);
    arena.reap();
    let figures = arena.statistics();
    assert_eq!((figures.in_use, figures.blobs, figures.participants), (0, 0, 1));
    arena.check_invariants().unwrap();
    // The range is shared memory again: what one side writes, a later child reads there.
    let mut blocks = [arena.alloc(1 << 20).unwrap(), arena.alloc(1 << 20).unwrap()];
    let again = blocks.iter_mut().find(|block| block.as_ptr() == address).unwrap();
    again.as_mut_slice()[7] = 9;
    let child = in_child(|| {
        // SAFETY: the block is alive in the parent, which waits for us.
        unsafe { address.add(7).write(10) };
        vec![0]
    });
    answer(child, 1);
    assert_eq!(again.as_slice()[7], 10, "blocks that are not views stay shared");
}

#[test]
fn a_child_that_dies_gives_its_views_back() {
    let _turn = TURN.lock();
    let arena = Arena::create(ArenaConfig { limit: 64 << 20, reserve: 0 }).unwrap();
    let view = View::new(arena.alloc(100_000).unwrap());
    for _ in 0..3 {
        let child = in_child(|| vec![bytes(&view)[0]]); // leaves without dropping anything
        answer(child, 1);
    }
    arena.reap();
    assert_eq!(arena.statistics().participants, 1);
    assert!(arena.statistics().in_use > 0);
    drop(view);
    assert_eq!(arena.statistics().in_use, 0);
    arena.check_invariants().unwrap();
}
