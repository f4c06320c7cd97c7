//! Matrix instructions against matrices multiplied in Rust: where each element of a fragment
//! belongs, how sums round, special values, and the rows that `ldmatrix` and its like move.

mod harness;
mod moves;
mod product;
mod products;
mod wmma;
