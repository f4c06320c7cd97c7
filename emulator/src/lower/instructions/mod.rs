//! Lowering of PTX instructions to operations, one file per family, under the same names as in
//! `exec::instructions` and in the table of operations ([`crate::ir::table`]).
//!
//! The function `lower` of a family lowers its mnemonics; [`crate::lower::dispatch`] calls it.
pub(crate) mod async_copy;
pub(crate) mod atomics;
pub(crate) mod barrier;
pub(crate) mod bits;
pub(crate) mod bulk;
pub(crate) mod calls;
pub(crate) mod cluster;
pub(crate) mod cluster_barrier;
pub(crate) mod cluster_copy;
pub(crate) mod collective;
pub(crate) mod compare;
pub(crate) mod control;
pub(crate) mod convert;
pub(crate) mod fence;
pub(crate) mod float;
pub(crate) mod fragment;
pub(crate) mod integer;
pub(crate) mod matrix;
pub(crate) mod mbarrier;
pub(crate) mod memory;
pub(crate) mod moves;
pub(crate) mod setmaxnreg;
pub(crate) mod tensor;
pub(crate) mod tensor_map;
pub(crate) mod wgmma;
pub(crate) mod wmma;
