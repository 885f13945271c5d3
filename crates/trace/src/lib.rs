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
//! | [`build`] | recordings made by hand, for tests |
//!
//! [`analyze`] goes from a recording to its report, in these steps:
//!
//! | module | what it does |
//! |---|---|
//! | `timeline` | what each thread does at each moment, from its spans and the kernel's samples; who speaks for a process |
//! | `pairing` | who is at the other end of each wait |
//! | `attribute` | one cause for each moment; what the run's end depended on |
//! | `facts` | the run in a few numbers: pools, units, shape, the seconds that each cause holds up the end |
//! | `causes` | a file for each cause: what it costs, how that is shown, what to do |
//! | `diagnose` | the verdict |
//! | `serial` | the plain loop: what the program would take without any parallelism |
//! | `predict` | the break-even model of the run |
//! | `fixes` | what changes would gain |
#![forbid(unsafe_code)]

mod analyze;
mod attribute;
pub mod build;
pub mod cause;
mod causes;
mod diagnose;
mod evidence;
pub mod export;
mod facts;
pub mod file;
mod fixes;
mod pairing;
mod predict;
pub mod record;
pub mod recording;
pub mod report;
mod serial;
mod share;
mod timeline;
pub mod words;

pub use analyze::analyze;
pub use cause::{Cause, UnknownCause};
pub use file::FileError;
pub use record::{Flags, Record, RecordKind};
pub use recording::Recording;
pub use report::Report;
pub use share::{Attribution, Share};
