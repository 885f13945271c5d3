//! Which block sizes exist. Pure arithmetic.
//!
//! | from | sizes to a doubling | carved | most that a block is larger than asked for |
//! |---|---|---|---|
//! | 256 bytes | 1 | 64 KiB at a time | half of it |
//! | 4 KiB | 4, 8, 12, 16 KiB | one by one, whole pages | a page |
//! | 16 KiB | 4 | one by one, whole pages | a quarter |
//! | 1 MiB | 16 | one by one, whole pages | a sixteenth |
//!
//! Large blocks have the finest steps, because the pages of the whole block are had when it is made.

/// Bytes in a page, the unit of mapping. Fixed by the layout: also right on 16 and 64 KiB kernels
/// for everything but private views, which check the kernel's page size.
pub const PAGE: u64 = 4096;
/// How many bytes of small blocks are carved together.
pub const SLAB: u64 = 64 << 10;
/// Number of classes.
pub const CLASSES: usize = SMALL.len() + MEDIUM.len() + COARSE + FINE;

const SMALL: [u64; 4] = [256, 512, 1024, 2048];
const MEDIUM: [u64; 3] = [4096, 8192, 12288];
/// The geometric classes: `2^shift * (1 + step / steps)`, with four steps to a doubling from
/// 16 KiB to 1 MiB, and sixteen from there to 1 TiB.
const COARSE_SHIFT: u32 = 14;
const FINE_SHIFT: u32 = 20;
const LAST_SHIFT: u32 = 40;
const COARSE_BITS: u32 = 2;
const FINE_BITS: u32 = 4;
const COARSE: usize = ((FINE_SHIFT - COARSE_SHIFT) << COARSE_BITS) as usize;
const FINE: usize = ((LAST_SHIFT - FINE_SHIFT) << FINE_BITS) as usize;

/// Index of a block size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SizeClass(u16);

impl SizeClass {
    /// The smallest class that holds `len` bytes; `None` beyond the largest (nearly a TiB).
    pub fn for_len(len: u64) -> Option<SizeClass> {
        let class = |index: usize| Some(SizeClass(index as u16));
        if let Some(index) = SMALL.iter().position(|&size| len <= size) {
            return class(index);
        }
        if let Some(index) = MEDIUM.iter().position(|&size| len <= size) {
            return class(SMALL.len() + index);
        }
        let first = SMALL.len() + MEDIUM.len();
        let index = if len <= 1 << FINE_SHIFT {
            first + geometric(len, COARSE_SHIFT, COARSE_BITS)
        } else {
            first + COARSE + geometric(len, FINE_SHIFT, FINE_BITS)
        };
        (index < CLASSES).then_some(SizeClass(index as u16))
    }

    /// The class with this index, if there is one (the index may come from shared memory).
    pub fn from_index(index: u32) -> Option<SizeClass> {
        ((index as usize) < CLASSES).then_some(SizeClass(index as u16))
    }

    /// The class's index, below [`CLASSES`].
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// Bytes in a block of this class.
    #[inline]
    pub fn size(self) -> u64 {
        let index = self.index();
        if index < SMALL.len() {
            return SMALL[index];
        }
        let index = index - SMALL.len();
        if index < MEDIUM.len() {
            return MEDIUM[index];
        }
        let index = index - MEDIUM.len();
        if index < COARSE {
            nth_geometric(index, COARSE_SHIFT, COARSE_BITS)
        } else {
            nth_geometric(index - COARSE, FINE_SHIFT, FINE_BITS)
        }
    }

    /// Whether blocks of this class share pages with their neighbours.
    pub fn is_small(self) -> bool {
        self.index() < SMALL.len()
    }

    /// Bytes that are carved from the frontier at a time.
    pub fn extent(self) -> u64 {
        if self.is_small() { SLAB } else { self.size() }
    }
}

/// Which of the sizes `2^shift * (1 + step / 2^bits)`, `2^shift >= 2^first`, is the smallest that
/// holds `len`.
fn geometric(len: u64, first: u32, bits: u32) -> usize {
    if len <= 1 << first {
        return 0;
    }
    let last = len - 1;
    let shift = 63 - last.leading_zeros();
    let step = (last >> (shift - bits)) & ((1 << bits) - 1);
    (((shift - first) << bits) as u64 + step + 1) as usize
}

/// The inverse of [`geometric`].
#[inline]
fn nth_geometric(index: usize, first: u32, bits: u32) -> u64 {
    let shift = first + (index as u32 >> bits);
    let step = index as u64 & ((1 << bits) - 1);
    (1 << shift) + (step << (shift - bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_rise_strictly_and_pages_are_whole() {
        let sizes: Vec<u64> = (0..CLASSES as u32).map(|i| SizeClass::from_index(i).unwrap().size()).collect();
        assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(sizes.iter().all(|size| *size < PAGE && SLAB.is_multiple_of(*size) || size.is_multiple_of(PAGE)));
        assert_eq!(SizeClass::from_index(CLASSES as u32), None);
    }

    proptest! {
        #[test]
        fn the_class_fits_and_the_one_below_does_not(len in prop_oneof![0u64..100_000, 0u64..1 << 38]) {
            let class = SizeClass::for_len(len).unwrap();
            prop_assert!(class.size() >= len);
            if class.index() > 0 {
                prop_assert!(SizeClass(class.0 - 1).size() < len);
            }
            if len > 16 << 10 {
                let waste = if len > 1 << 20 { 16 } else { 4 };
                prop_assert!(class.size() <= len + len / waste + 1);
            }
        }
    }

    #[test]
    fn exact_sizes_get_exact_blocks() {
        for index in 0..CLASSES as u32 {
            let class = SizeClass::from_index(index).unwrap();
            assert_eq!(SizeClass::for_len(class.size()), Some(class));
        }
        assert_eq!(SizeClass::for_len(u64::MAX), None);
    }
}
