//! Reading from and writing to pipes and sockets that belong to somebody else, by descriptor.

use libc::{c_int, c_short};

/// The system's error number.
pub type Errno = i32;

fn outcome(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Reads what there is, waiting for the first byte. Zero: nobody can write any more.
pub fn read(fd: c_int, into: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `into.len()` bytes into a slice that is borrowed for the call; a number that is
    // no open descriptor is an error of the kernel's.
    outcome(unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) })
}

/// Writes what there is room for, waiting for some.
pub fn write(fd: c_int, from: &[u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel reads at most `from.len()` bytes of a slice that is borrowed for the call.
    outcome(unsafe { libc::write(fd, from.as_ptr().cast(), from.len()) })
}

/// Whether nobody can read what is written to `fd` any more.
pub fn reader_is_gone(fd: c_int) -> bool {
    let mut entry = libc::pollfd { fd, events: 0, revents: 0 };
    // SAFETY: one entry, borrowed for the call, which does not wait.
    let ready = unsafe { libc::poll(&raw mut entry, 1, 0) };
    const GONE: c_short = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
    ready > 0 && entry.revents & GONE != 0
}

/// Whether everything that was written to `fd` (a pipe's end, or a connected Unix socket) has been read.
pub fn all_is_read(fd: c_int) -> bool {
    let mut unread: c_int = 0;
    // SAFETY: both requests store one int. TIOCOUTQ is what a socket's other side has not read yet; a pipe does not know
    // it (ENOTTY), and answers FIONREAD at either end.
    let known = unsafe {
        libc::ioctl(fd, libc::TIOCOUTQ, &raw mut unread) == 0 || libc::ioctl(fd, libc::FIONREAD, &raw mut unread) == 0
    };
    !known || unread == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_pipe_says_what_is_unread_and_whether_its_reader_is_gone() {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let fd = writer.as_raw_fd();
        assert!(all_is_read(fd) && !reader_is_gone(fd));
        writer.write_all(b"abc").expect("room");
        assert!(!all_is_read(fd) && !reader_is_gone(fd));
        let mut bytes = [0; 3];
        reader.read_exact(&mut bytes).expect("three bytes");
        assert!(all_is_read(fd) && !reader_is_gone(fd));
        drop(reader);
        assert!(reader_is_gone(fd));
    }

    #[test]
    fn so_does_a_socket() {
        let (mut here, there) = std::os::unix::net::UnixStream::pair().expect("sockets");
        let fd = there.as_raw_fd();
        assert!(all_is_read(fd) && !reader_is_gone(fd));
        assert_eq!(write(fd, b"abc"), Ok(3));
        assert!(!all_is_read(fd));
        let mut bytes = [0; 8];
        assert_eq!(here.read(&mut bytes).expect("three bytes"), 3);
        assert!(all_is_read(fd));
        drop(here);
        assert!(reader_is_gone(fd));
        assert_eq!(read(fd, &mut bytes), Ok(0));
    }
}
