//! Passes over a function's instructions after lowering.
pub(crate) mod allocate;
pub(crate) mod copy_propagation;
pub(crate) mod flow_graph;
pub(crate) mod liveness;
pub(crate) mod products;
pub(crate) mod reconvergence;
#[cfg(test)]
pub(crate) mod verify;
