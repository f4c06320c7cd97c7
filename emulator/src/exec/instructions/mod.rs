//! Execution of instructions, one file per family, under the names of
//! [`crate::lower::instructions`] and of the table of operations ([`crate::ir::table`]).
//!
//! The function `execute` of a family executes its operations; `exec::execute` calls it.
pub(crate) mod async_copy;
pub(crate) mod atomics;
pub(crate) mod barrier;
pub(crate) mod bits;
pub(crate) mod bulk;
pub(crate) mod bulk_access;
pub(crate) mod calls;
pub(crate) mod cluster;
pub(crate) mod cluster_barrier;
pub(crate) mod cluster_copy;
pub(crate) mod collective;
pub(crate) mod compare;
pub(crate) mod control;
pub(crate) mod convert;
pub(crate) mod destinations;
pub(crate) mod fence;
pub(crate) mod float;
pub(crate) mod format;
pub(crate) mod fp8;
pub(crate) mod half;
pub(crate) mod host_simd;
pub(crate) mod integer;
pub(crate) mod isa;
pub(crate) mod ldmatrix;
pub(crate) mod matrix;
pub(crate) mod mbarrier;
pub(crate) mod memory;
pub(crate) mod moves;
pub(crate) mod setmaxnreg;
pub(crate) mod tensor;
pub(crate) mod tensor_map;
pub(crate) mod wgmma;
