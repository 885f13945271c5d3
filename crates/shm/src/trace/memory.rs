//! A process's part of the memory file, as both sides see it.

use super::layout::{CELLS, OPEN_AT, OPEN_THREADS, OpenThread, RING_AT, SLOT, STRINGS, STRINGS_AT, Slot};
use super::ring::{Cell, Ring};
use crate::layout::SharedRepr;
use crate::primitive::{AtomicU32, Ordering};
use core::ptr::NonNull;

/// The mapped bytes of one slot. Whoever makes one sees to it that they stay mapped while it is used.
#[derive(Clone, Copy)]
pub(super) struct SlotMemory {
    base: NonNull<u8>,
}

impl SlotMemory {
    /// # Safety
    /// `base` is aligned to pages, and [`SLOT`] bytes from it on are a shared mapping that stays for as long as this
    /// value or a copy of it is used.
    pub(super) unsafe fn new(base: NonNull<u8>) -> SlotMemory {
        SlotMemory { base }
    }

    pub(super) fn base(self) -> NonNull<u8> {
        self.base
    }

    fn slice<T: SharedRepr>(&self, offset: usize, count: usize) -> &[T] {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + count * size_of::<T>() <= SLOT);
        // SAFETY: in range and aligned (just checked; the base is page-aligned), mapped (`new`); any bytes are a valid T,
        // all of whose access is atomic (SharedRepr).
        unsafe { core::slice::from_raw_parts(self.base.byte_add(offset).cast::<T>().as_ptr(), count) }
    }

    #[inline]
    pub(super) fn slot(&self) -> &Slot {
        &self.slice::<Slot>(0, 1)[0]
    }

    #[inline]
    pub(super) fn open_threads(&self) -> &[OpenThread] {
        self.slice(OPEN_AT, OPEN_THREADS)
    }

    #[inline]
    pub(super) fn ring(&self) -> Ring<'_> {
        let slot = self.slot();
        Ring { head: &slot.head, tail: &slot.tail, dropped: &slot.dropped, cells: self.slice::<Cell>(RING_AT, CELLS) }
    }

    /// The strings, as words: they are read while they are written.
    fn words(&self) -> &[AtomicU32] {
        self.slice(STRINGS_AT, STRINGS / 4)
    }

    /// Adds a string and returns its number; `None`: there is no room. By one thread at a time.
    pub(super) fn add_string(&self, text: &str) -> Option<u32> {
        let slot = self.slot();
        let used = slot.strings_used.load(Ordering::Relaxed) as usize;
        let mut end = text.len().min(4096);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let bytes = &text.as_bytes()[..end];
        let first = used / 4;
        let words = self.words().get(first..first + 1 + bytes.len().div_ceil(4))?;
        crate::crash::store(&words[0], bytes.len() as u32, Ordering::Relaxed);
        for (word, chunk) in words[1..].iter().zip(bytes.chunks(4)) {
            let mut four = [0; 4];
            four[..chunk.len()].copy_from_slice(chunk);
            crate::crash::store(word, u32::from_le_bytes(four), Ordering::Relaxed);
        }
        let number = slot.strings_count.load(Ordering::Relaxed) + 1;
        crate::crash::store(&slot.strings_count, number, Ordering::Relaxed);
        crate::crash::store(&slot.strings_used, (used + 4 * words.len()) as u32, Ordering::Release);
        Some(number)
    }

    /// The strings from byte `from` on, and where the next will begin. Total: the bytes are another process's.
    pub(super) fn strings(&self, from: usize) -> (Vec<String>, usize) {
        let used = (self.slot().strings_used.load(Ordering::Acquire) as usize).min(STRINGS) / 4;
        let words = &self.words()[..used];
        let (mut at, mut found) = (from / 4, Vec::new());
        while let Some(length) = words.get(at) {
            let length = length.load(Ordering::Relaxed) as usize;
            let Some(text) = words.get(at + 1..at + 1 + length.div_ceil(4)) else { break };
            let mut bytes: Vec<u8> = text.iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
            bytes.truncate(length);
            found.push(String::from_utf8_lossy(&bytes).into_owned());
            at += 1 + text.len();
        }
        (found, at * 4)
    }

    /// Makes the strings of `other` one's own: for a forked child, whose memory is full of their numbers.
    pub(super) fn inherit_strings(&self, other: SlotMemory) {
        // The parent goes on adding strings meanwhile: what counts is how many are in the bytes that are taken over.
        let used = (other.slot().strings_used.load(Ordering::Acquire) as usize).min(STRINGS) / 4;
        let theirs = &other.words()[..used];
        for (to, from) in self.words().iter().zip(theirs) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let (mut at, mut count) = (0, 0);
        while let Some(length) = theirs.get(at) {
            at += 1 + (length.load(Ordering::Relaxed) as usize).div_ceil(4);
            count += 1;
        }
        self.slot().strings_count.store(count, Ordering::Relaxed);
        self.slot().strings_used.store((used * 4) as u32, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> SlotMemory {
        let segment = crate::segment::Segment::heap(SLOT);
        // SAFETY: a test segment is zeroed, aligned to pages, and leaked.
        unsafe { SlotMemory::new(segment.address(0, SLOT)) }
    }

    #[test]
    fn strings_are_numbered_from_one_and_read_on_from_where_one_stopped() {
        let memory = memory();
        assert_eq!(memory.add_string("a.py:1"), Some(1));
        assert_eq!(memory.add_string(""), Some(2));
        let (found, next) = memory.strings(0);
        assert_eq!(found, ["a.py:1", ""]);
        assert_eq!(memory.add_string("größer"), Some(3));
        assert_eq!(memory.strings(next).0, ["größer"]);
        let child = self::memory();
        child.inherit_strings(memory);
        assert_eq!(child.add_string("own"), Some(4));
        assert_eq!(child.strings(0).0, ["a.py:1", "", "größer", "own"]);

        // A fourth string of the parent's comes while the child takes over three.
        memory.slot().strings_count.store(4, Ordering::Relaxed);
        let child = self::memory();
        child.inherit_strings(memory);
        assert_eq!(child.add_string("own"), Some(4));
    }

    #[test]
    fn full_is_full_and_a_long_string_is_cut_at_a_character() {
        let memory = memory();
        let long = "ä".repeat(5000);
        let mut count = 0;
        while let Some(number) = memory.add_string(&long) {
            count += 1;
            assert_eq!(number, count);
        }
        let (found, _) = memory.strings(0);
        assert_eq!(found.len(), count as usize);
        assert!(found.iter().all(|text| text == &"ä".repeat(2048)));
    }

    #[test]
    fn any_bytes_can_be_read_as_strings() {
        let memory = memory();
        memory.slot().strings_used.store(u32::MAX, Ordering::Relaxed);
        memory.words()[0].store(u32::MAX, Ordering::Relaxed);
        assert_eq!(memory.strings(0).0, Vec::<String>::new());
        memory.words()[0].store(3, Ordering::Relaxed);
        memory.words()[1].store(u32::MAX, Ordering::Relaxed);
        assert!(memory.strings(0).0.len() > 1);
    }

    #[cfg(all(feature = "crash-points", debug_assertions))]
    #[test]
    fn a_string_counts_when_it_is_whole() {
        let (_, stores) = crate::crash::run(None, || memory().add_string("twelve bytes"));
        for after in 1..stores {
            let memory = memory();
            memory.add_string("before");
            crate::crash::run(Some(after), || memory.add_string("twelve bytes"));
            assert_eq!(memory.strings(0).0, ["before"], "after {after} stores");
        }
    }
}
