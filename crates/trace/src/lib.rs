//! Records of a run, the attribution of its time, and what follows from it.
//!
//! Everything here is a pure function of a [`recording::Recording`]; who records is `crates/python` with the hooks in
//! `python/breakeven/_why`. `docs/design/why.md` tells the whole way of a record.
//!
//! | module | what it holds |
//! |---|---|
//! | [`record`] | what a hook notes: the contract with the hooks |
//! | [`recording`] | a run as it was recorded |
//! | [`cause`] | what a second can have gone into |
//! | [`export`] | reports and recordings in the forms that others read |
//! | [`file`] | a recording as bytes |
//! | [`report`] | what a recording says: the contract with everything that shows one |
#![forbid(unsafe_code)]

pub mod cause;
pub mod export;
pub mod file;
pub mod record;
pub mod recording;
pub mod report;
mod share;

pub use cause::{Cause, UnknownCause};
pub use file::FileError;
pub use record::{Flags, Record, RecordKind};
pub use recording::Recording;
pub use report::Report;
pub use share::{Attribution, Share};
