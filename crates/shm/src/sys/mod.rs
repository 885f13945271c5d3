//! The only files that call the kernel or libc.

pub(crate) mod fork;
pub(crate) mod futex;
pub mod limits;
pub(crate) mod memfd;
pub(crate) mod process;
pub(crate) mod robust;
