//! Event records and the causes that time is attributed to.
//!
//! Types only, so far: the vocabulary that hooks, attribution and reports share. What fills them comes with `breakeven
//! why` (issue 4): hooks write [`Record`]s into a ring of each process, an attribution turns a run's records into one
//! [`Attribution`], and exports render that. Until then nothing in the project makes a record.
#![forbid(unsafe_code)]

mod cause;
mod record;
mod share;

pub use cause::{Cause, UnknownCause};
pub use record::{Record, RecordKind, WaitFor};
pub use share::{Attribution, Share};
