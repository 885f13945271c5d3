//! The break-even model: what parallelism costs, and how to cut work into chunks.
//!
//! Pure: no I/O, no clock, no randomness, nothing of the other crates. Whoever measures passes seconds and bytes in;
//! what comes out depends on nothing else, so that it is tested by properties and by simulation.
//!
//! | module | what it holds |
//! |---|---|
//! | [`machine`] | what a machine charges: starting a worker, moving a byte, sending a message, waking a sleeper |
//! | [`workload`] | what a workload asks for: running estimates of seconds and bytes an item |
//! | [`model`] | the time that both predict, for the serial loop, threads and processes |
//! | [`planner`] | what `map` does next: events in, commands out |
//! | [`stdlib`] | the time of a program on the standard library's pools and queues |
//! | [`chunk`] | how many items to send at once: [`ChunkPolicy`] and [`static_chunks`] |
//! | [`sim`] | chunk schedules in simulated time |
//!
//! The pools use [`chunk`]; `map` uses [`planner`], which acts on [`model`]; `breakeven why` uses [`stdlib`].
//!
//! # What `crates/python` binds
//!
//! ```text
//! pub fn static_chunks(total: u64, workers: u32) -> StaticChunks          // Iterator<Item = u64> + Clone
//! impl StaticChunks { pub fn at_least(self, items: u64) -> Self;  pub fn at_most(self, items: u64) -> Self; }
//!
//! pub struct ChunkConfig { pub dispatch_seconds: f64, pub overhead_share: f64, pub max_seconds: f64,
//!                          pub max_bytes: f64, pub growth: f64 }          // Copy + Default
//! impl ChunkPolicy {
//!     pub fn new(total: Option<u64>, workers: u32, config: ChunkConfig) -> Self;
//!     pub fn next_chunk(&mut self) -> u64;                                // 0: all of a known total is given out
//!     pub fn observe(&mut self, items: u64, seconds: f64);                // a chunk came back; seconds in the worker
//!     pub fn observe_bytes(&mut self, items: u64, bytes: u64);            // a chunk was encoded
//!     pub fn remaining(&self) -> Option<u64>;                             // None: total unknown
//! }
//! ```
//!
//! In Python: `_native.static_chunks(total, workers, *, at_least=1, at_most=None) -> list[int]` and
//! `_native.ChunkPolicy(total, workers, *, dispatch_seconds=..., max_seconds=..., max_bytes=...)` with `next_chunk()`,
//! `observe(items, seconds)`, `observe_bytes(items, nbytes)`, `remaining()`.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod machine;
pub mod model;
pub mod planner;
pub mod sim;
pub mod stdlib;
pub mod workload;

pub use chunk::{ChunkConfig, ChunkPolicy, StaticChunks, static_chunks};
pub use machine::MachineCharges;
pub use model::{Kind, Prediction, Strategy};
pub use planner::{Command, Comparison, Config, Decision, Estimate, Planner};
pub use stdlib::StdlibRun;
pub use workload::{Running, Workload};
