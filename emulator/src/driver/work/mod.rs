//! Execution of operations: their memory is resolved, then they run.

mod copy;
mod fill;
mod launch;
mod operation;
mod transfer;
