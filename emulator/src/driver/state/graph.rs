//! Graphs.

use std::sync::Mutex;

use crate::driver::state::operation::{Node, TaskId};
use crate::driver::types::Handle;

/// A graph; its nodes are in topological order.
pub struct Graph {
    pub handle: Handle,
    pub nodes: Mutex<Vec<Node>>,
}

/// An executable graph.
pub struct GraphExec {
    /// The task that ends its last launch.
    pub last: Mutex<TaskId>,
    pub handle: Handle,
    pub nodes: Vec<Node>,
    pub flags: u64,
}
