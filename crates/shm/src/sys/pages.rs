//! The pages that a forked process has for itself, and to have them before they are needed.
//!
//! After a fork, parent and child share their pages until one of them writes: then it gets a copy, which costs a fault of
//! some microseconds for each page. A process that does what others before it have done will write to the same pages as
//! they did, and can have the copies made while it has nothing else to do.

use rustix::io::Errno;
use rustix::mm::Advice;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

/// Larger mappings are passed over: reservations and data, which are no business of a process that comes up.
const LARGEST: usize = 256 << 20;

/// Bits of an entry of `/proc/self/pagemap`: the page is in memory, and nobody else has it mapped.
const PRESENT: u64 = 1 << 63;
const EXCLUSIVE: u64 = 1 << 56;

/// The ranges of private writable memory whose pages this process shares with no other, by address.
///
/// # Errors
///
/// Where the kernel does not tell.
pub fn own_pages() -> io::Result<Vec<Range<usize>>> {
    let size = rustix::param::page_size();
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut entries = Vec::new();
    for mapping in maps.lines().filter_map(private_writable) {
        if mapping.len() > LARGEST {
            continue;
        }
        entries.resize(mapping.len() / size * 8, 0);
        // It may have been unmapped, or have no entries ([vvar] and the like).
        let Ok(read) = pagemap.read_at(&mut entries, (mapping.start / size * 8) as u64) else { continue };
        let (words, _) = entries[..read].as_chunks::<8>();
        for (index, &word) in words.iter().enumerate() {
            if u64::from_ne_bytes(word) & (PRESENT | EXCLUSIVE) == PRESENT | EXCLUSIVE {
                let start = mapping.start + index * size;
                match found.last_mut() {
                    Some(last) if last.end == start => last.end += size,
                    _ => found.push(start..start + size),
                }
            }
        }
    }
    Ok(found)
}

/// The addresses of a line of `/proc/self/maps`, if it is of such memory.
fn private_writable(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    fields.next().filter(|&access| access.starts_with("rw") && access.ends_with('p'))?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// Makes the pages in these ranges this process's own, as a write to each would. What is not mapped (any more) or not
/// writable is passed over, and so is what there is no memory for.
///
/// # Errors
///
/// `EINVAL` for ranges that are not of whole pages, and where the kernel does not know how (before 5.14).
pub fn make_own(ranges: &[Range<usize>]) -> io::Result<()> {
    for range in ranges {
        let start = core::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: populating changes neither the contents of a page nor what is mapped where, so there is no address for
        // which it is unsound; the kernel refuses those that are not mapped or not writable.
        let done = unsafe { rustix::mm::madvise(start, range.len(), Advice::LinuxPopulateWrite) };
        if let Err(Errno::INVAL) = done {
            return Err(Errno::INVAL.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(ranges: &[Range<usize>], address: usize) -> bool {
        ranges.iter().any(|range| range.contains(&address))
    }

    #[test]
    fn lines_of_private_writable_memory_only() {
        let range = private_writable("7f00a000-7f00c000 rw-p 00000000 00:00 0    [heap]");
        assert_eq!(range, Some(0x7f00_a000..0x7f00_c000));
        for other in
            ["7f00a000-7f00c000 r--p 0 0:0 0 /lib/x", "7f00a000-7f00c000 rw-s 0 0:0 0 /memfd:y", "", "x-y rw-p"]
        {
            assert_eq!(private_writable(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_written_is_own_and_can_be_made_so() {
        let size = rustix::param::page_size();
        let mut memory = vec![0_u8; 8 * size];
        let base = memory.as_ptr().addr();
        let start = base.next_multiple_of(size);
        memory[start - base] = 1;
        let Ok(own) = own_pages() else { return }; // no pagemap in this container
        assert!(contains(&own, start));
        let range = start + 2 * size..start + 4 * size;
        if make_own(&[0..size, range.clone()]).is_ok() {
            let own = own_pages().unwrap();
            assert!(contains(&own, range.start) && contains(&own, range.end - 1));
        }
        assert!(memory[range.start - base..][..2 * size].iter().all(|&byte| byte == 0));
        assert!(make_own(core::slice::from_ref(&(1..2))).is_err());
    }
}
