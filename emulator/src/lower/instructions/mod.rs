//! Lowering of PTX statements to instructions, one file per family, under the same names as in
//! `exec::instructions`.
pub(crate) mod bits;
pub(crate) mod bulk;
pub(crate) mod calls;
pub(crate) mod cluster;
pub(crate) mod collective;
pub(crate) mod compare;
pub(crate) mod control;
pub(crate) mod convert;
pub(crate) mod float;
pub(crate) mod fragment;
pub(crate) mod integer;
pub(crate) mod matrix;
pub(crate) mod mbarrier;
pub(crate) mod memory;
pub(crate) mod moves;
pub(crate) mod tensor_map;
pub(crate) mod wgmma;
pub(crate) mod wmma;
