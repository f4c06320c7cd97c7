//! Every kernel that a device of compute capability 7.5 runs, against the reference.

#[macro_use]
mod suite;

tests_on!(75);
