//! Tasks.

use std::sync::Arc;

use crate::driver::state::{Context, Op, Stream, TaskId};

/// An operation of a stream.
pub struct Task {
    pub id: TaskId,
    pub context: Arc<Context>,
    pub stream: Arc<Stream>,
    pub op: Op,
    /// All direct predecessors, including those that were done at submission.
    pub after: Vec<TaskId>,
}
