//! Every kernel that a device of compute capability 9.0 runs, against the reference.

#[macro_use]
mod suite;

tests_on!(90);
