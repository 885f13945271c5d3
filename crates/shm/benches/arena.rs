//! Nanoseconds an allocation and release, and a 54 MB copy into recycled and into fresh memory.
//! `cargo bench -p breakeven-shm --bench arena`.

#[path = "support/mod.rs"]
mod support;

use breakeven_shm::{Arena, ArenaConfig};
use support::{arena, compare};

const LARGE: usize = 54_000_000;

fn main() {
    let arena = arena();
    println!("ns an allocation and its release");
    let cycle = |len: usize| {
        drop(arena.alloc(len).unwrap());
        1
    };
    compare(
        10_000,
        &mut [("200 bytes", &mut || cycle(200)), ("100 KB", &mut || cycle(100_000)), ("54 MB", &mut || cycle(LARGE))],
    );

    println!("ns to copy 54 MB into a block");
    let source = vec![7u8; LARGE];
    let fresh = Arena::create(ArenaConfig { limit: 1 << 30, reserve: 0 }).unwrap();
    let fill = |arena: &Arena| {
        arena.alloc(LARGE).unwrap().as_mut_slice().copy_from_slice(&source);
        1
    };
    let mut heap = vec![0u8; LARGE];
    compare(
        1,
        &mut [
            ("recycled", &mut || fill(&arena)),
            ("fresh", &mut || {
                fresh.trim(0); // gives the pages back, so that each time they are fresh
                fill(&fresh)
            }),
            ("into the heap, for comparison", &mut || {
                heap.copy_from_slice(std::hint::black_box(&source));
                1
            }),
        ],
    );
}
