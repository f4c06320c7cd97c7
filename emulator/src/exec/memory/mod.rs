//! Loads and stores of each state space, with their checks and counters.
//!
//! Imports [`super::machine`] alone.
pub(crate) mod address;
pub(crate) mod bank_conflicts;
pub(crate) mod coalescing;
pub(crate) mod global;
pub(crate) mod local;
pub(crate) mod shared;
pub(crate) mod watch;
