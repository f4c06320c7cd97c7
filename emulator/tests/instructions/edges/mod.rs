//! Every check at its edge: what is legal at the last byte, and reported at the first byte beyond,
//! with its address.
//!
//! The programs are generated: each takes its addresses as parameters, so that one module is
//! launched once on each side of the edge. Sizes are odd on purpose; the lane at the edge is alone,
//! or among 31 others that are far from it.
mod accesses;
mod barriers;
mod between;
mod blocks;
mod clusters;
mod copies;
mod counts;
mod harness;
mod host;
mod marks;
mod matrix;
mod memory;
mod multicast;
mod own;
mod races;
mod reductions;
mod remote;
mod tensor_stores;
mod tensors;
mod under_way;
mod units;
