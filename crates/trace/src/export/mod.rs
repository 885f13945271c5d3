//! A report, or a recording, in the forms that others read.
//!
//! | module | what it makes | read by |
//! |---|---|---|
//! | [`json`] | [`crate::Report`] as JSON, and back | scripts; docs/why-json.md |
//! | [`html`] | one page without references to anything outside of it | browsers |
//! | [`perfetto`] | slices, flows and counters of all processes | <https://ui.perfetto.dev>, chrome://tracing |
//!
//! Everything that a program can choose (names of files, functions, processes; its arguments) is hostile here.

pub mod html;
pub mod json;
pub mod perfetto;
