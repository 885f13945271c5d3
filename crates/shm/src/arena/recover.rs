//! Putting the free lists right after a process died while it held the arena lock.

use super::{Arena, size_class::SizeClass};
use crate::layout::{backing, owner};
use crate::primitive::Ordering::Relaxed;

/// The links are the truth (each operation commits with one store to a list's head); owner words
/// and the sum of committed bytes follow them. Idempotent. The arena lock is held.
pub(crate) fn repair_free_lists(arena: &Arena) {
    let header = arena.header();
    let count = header.descriptors.load(Relaxed);
    for head in &header.free {
        let mut next = head.load(Relaxed);
        for _ in 0..count {
            let Some(index) = next.checked_sub(1) else { break };
            let Some(descriptor) = arena.descriptor(index) else { break };
            descriptor.owner.store(owner::FREE, Relaxed);
            if descriptor.backing.load(Relaxed) == backing::BACKING {
                // Died between "its pages are being had" and taking it off the list.
                descriptor.backing.store(backing::COLD, Relaxed);
            }
            next = descriptor.next.load(Relaxed);
        }
    }
    let committed = (0..count)
        .filter_map(|index| arena.descriptor(index))
        .filter(|descriptor| descriptor.backing.load(Relaxed) != backing::COLD)
        .filter_map(|descriptor| SizeClass::from_index(descriptor.class.load(Relaxed)))
        .map(SizeClass::size)
        .sum();
    header.committed.store(committed, Relaxed);
}
