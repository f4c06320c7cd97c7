//! Graphs of several launches: fusion, inception modules, whole networks, capture.

#[path = "../common/mod.rs"]
mod common;

mod capture;
mod fusion;
mod guarded;
mod inception;
mod nets;
mod patterns;
