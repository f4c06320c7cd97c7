//! The command line `warpconv`, in processes of its own.

mod calibrate;
mod command;
mod commands;
mod counters;
mod golden;
mod hostile;
mod nets;
mod paths;
mod run_all;
mod smoke;
mod verify;
