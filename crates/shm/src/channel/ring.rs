//! Index arithmetic of a ring. Pure.
//!
//! The two ends of a ring each publish one word, a [`Mark`]: where the end stands, in cells, and
//! how many messages the channel had seen when it stood there. One store of that word commits an
//! operation.

/// Bytes in a cell, the unit of space in a ring: one cache line, so that a small message costs
/// each side one.
pub const CELL: usize = 64;
/// Most cells in a ring: half of what a position can count, so that full and empty differ.
pub const MAX_CELLS: u32 = 1 << (POSITION_BITS - 1);

const POSITION_BITS: u32 = 20;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
/// Sequence numbers are counted modulo 2^44: twenty days at ten million messages a second, and
/// comparisons are made with wrapping differences.
pub const SEQUENCE_MASK: u64 = (1 << (64 - POSITION_BITS)) - 1;

/// Where an end of a ring stands.
///
/// | bits | meaning |
/// |---|---|
/// | 0..20 | position: cells since the ring began, modulo 2^20 |
/// | 20..64 | sequence: messages since the channel began, modulo 2^44 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub u64);

impl Mark {
    /// The mark of a ring that begins after `sequence` messages.
    pub fn start(sequence: u64) -> Mark {
        Mark((sequence & SEQUENCE_MASK) << POSITION_BITS)
    }

    /// Cells since the ring began, modulo 2^20.
    pub fn position(self) -> u32 {
        (self.0 & POSITION_MASK) as u32
    }

    /// Messages since the channel began, modulo 2^44.
    pub fn sequence(self) -> u64 {
        self.0 >> POSITION_BITS
    }

    /// The mark `cells` cells and `messages` messages further on.
    pub fn advance(self, cells: u32, messages: u64) -> Mark {
        let position = u64::from(self.position()).wrapping_add(u64::from(cells)) & POSITION_MASK;
        let sequence = self.sequence().wrapping_add(messages) & SEQUENCE_MASK;
        Mark(sequence << POSITION_BITS | position)
    }

    /// How many cells lie between `head` and this tail.
    pub fn cells_since(self, head: Mark) -> u32 {
        (self.position().wrapping_sub(head.position())) & POSITION_MASK as u32
    }
}

/// How many messages lie between two sequence numbers.
pub fn sequence_distance(from: u64, to: u64) -> u64 {
    to.wrapping_sub(from) & SEQUENCE_MASK
}

/// Whether message `sequence` comes before `mark`, in a window of 2^43 messages.
pub fn precedes(sequence: u64, mark: u64) -> bool {
    let distance = sequence_distance(sequence, mark);
    distance != 0 && distance <= SEQUENCE_MASK / 2
}

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Cells to skip at the ring's end, because records are contiguous.
    pub skip: u32,
    /// Index of the record's first cell.
    pub cell: u32,
}

/// Finds room for `cells` contiguous cells in a ring of `capacity` (a power of two) between `tail`
/// and `head`; `None` if there is not enough.
pub fn place(capacity: u32, head: Mark, tail: Mark, cells: u32) -> Option<Place> {
    let used = tail.cells_since(head);
    let at = tail.position() & (capacity - 1);
    let skip = if at + cells > capacity { capacity - at } else { 0 };
    (used + skip + cells <= capacity).then_some(Place { skip, cell: if skip > 0 { 0 } else { at } })
}

#[cfg(all(test, not(breakeven_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// Against a queue of (cells, first cell): records never overlap, never wrap, are never
        /// lost, and the marks agree with the counts however long the ring runs.
        #[test]
        fn places_never_overlap_and_marks_count(
            shift in 4u32..8,
            start in prop_oneof![Just(0u64), Just(SEQUENCE_MASK - 3)],
            operations in prop::collection::vec((any::<bool>(), 1u32..6), 1..400),
        ) {
            let capacity = 1 << shift;
            let (mut head, mut tail) = (Mark::start(start), Mark::start(start));
            let mut live: VecDeque<(u32, u32, u32)> = VecDeque::new();
            for (push, cells) in operations {
                if push {
                    if let Some(place) = place(capacity, head, tail, cells) {
                        let range = place.cell..place.cell + cells;
                        prop_assert!(range.end <= capacity);
                        for &(cell, len, _) in &live {
                            prop_assert!(range.end <= cell || cell + len <= range.start);
                        }
                        tail = tail.advance(place.skip + cells, 1);
                        live.push_back((place.cell, cells, place.skip));
                    } else {
                        let used: u32 = live.iter().map(|(_, len, skip)| len + skip).sum();
                        prop_assert!(used + 2 * cells > capacity);
                    }
                } else if let Some((_, cells, skip)) = live.pop_front() {
                    head = head.advance(skip + cells, 1);
                }
                prop_assert_eq!(sequence_distance(head.sequence(), tail.sequence()), live.len() as u64);
                prop_assert_eq!(head == tail, live.is_empty());
            }
        }
    }

    #[test]
    fn sequences_compare_across_the_wrap() {
        assert!(precedes(SEQUENCE_MASK, 0));
        assert!(precedes(SEQUENCE_MASK, 5));
        assert!(!precedes(0, SEQUENCE_MASK));
        assert!(!precedes(7, 7));
        assert!(precedes(6, 7));
    }
}
