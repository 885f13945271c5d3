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
pub mod file;
