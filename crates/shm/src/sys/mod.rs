//! The only files that call the kernel or libc.

pub mod detached;
pub(crate) mod fork;
pub(crate) mod futex;
pub mod limits;
pub(crate) mod memfd;
pub mod pages;
pub mod parent;
pub mod place;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod robust;
pub mod stream;
