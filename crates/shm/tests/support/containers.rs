//! What the tests of lists and dicts have in common.

use breakeven_shm::crash_points::run;
use breakeven_shm::{Arena, Block, Item, Items};
use proptest::prelude::*;

/// An element, key or value as the tests see it: its payload, and the bytes of its blocks.
pub type Part = (Vec<u8>, Vec<Vec<u8>>);

/// What the tests tag everything with.
pub const TAG: u16 = 7;

pub fn arena() -> Arena {
    Arena::heap(512 << 20, 16 << 20).unwrap()
}

pub fn plain(payload: &[u8]) -> Part {
    (payload.to_vec(), vec![])
}

pub fn blocks(arena: &Arena, part: &Part) -> Vec<Block> {
    let block = |bytes: &Vec<u8>| {
        let mut block = arena.alloc(bytes.len()).unwrap();
        block.as_mut_slice().copy_from_slice(bytes);
        block
    };
    part.1.iter().map(block).collect()
}

pub fn items<'a>(arena: &Arena, parts: impl IntoIterator<Item = &'a Part>) -> Items {
    let mut items = Items::new();
    for part in parts {
        items.push(TAG, &part.0, blocks(arena, part));
    }
    items
}

fn bytes_of(blocks: &[Block]) -> Vec<Vec<u8>> {
    blocks.iter().map(|block| block.as_slice().to_vec()).collect()
}

pub fn part(item: &mut Item) -> Part {
    assert_eq!(item.tag, TAG);
    let blocks = bytes_of(&item.blocks);
    item.blocks.clear();
    (item.payload().to_vec(), blocks)
}

pub fn parts(items: &mut Items) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let add = |tag, payload: &[u8], blocks: Vec<Block>| {
        assert_eq!(tag, TAG);
        parts.push((payload.to_vec(), bytes_of(&blocks)));
        Ok::<(), ()>(())
    };
    items.take_each(add).unwrap();
    parts
}

/// Short ones that fit into a cell, longer ones, and some with blocks.
pub fn any_part() -> impl Strategy<Value = Part> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..=12),
        2 => prop::collection::vec(any::<u8>(), 13..=60),
        1 => prop::collection::vec(any::<u8>(), 1000..=1024),
    ];
    let blocks = prop_oneof![
        6 => Just(vec![]),
        1 => prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=3000), 1..=3),
    ];
    (payload, blocks)
}

/// Runs `operation` as a participant that dies after its `after`-th store. True if it survived.
pub fn play(arena: &Arena, after: u64, operation: impl FnOnce(&Arena) + Send) -> bool {
    let victim = arena.again().unwrap();
    let survived =
        std::thread::scope(|scope| scope.spawn(|| run(Some(after), || operation(&victim)).0.is_some()).join().unwrap());
    victim.abandon();
    survived
}
