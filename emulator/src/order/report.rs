//! Report about two operations that nothing orders.

use std::fmt;
use std::sync::Arc;

use super::clock::TaskId;
use super::footprint::Way;
use crate::report::Region;

/// Operation of a stream, as reports name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A kernel, by its name.
    Kernel(String),
    /// A copy, and from what kind of memory to which.
    Copy(&'static str, &'static str),
    /// A fill (`cuMemset…`).
    Fill,
    /// `cuMemAllocAsync` and its like.
    Allocation,
    /// `cuMemFreeAsync`, or `cuMemFree` of a pool's memory.
    Free,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Kernel(name) => write!(f, "kernel {name}"),
            What::Copy(from, to) => write!(f, "copy from {from} to {to}"),
            What::Fill => f.write_str("memset"),
            What::Allocation => f.write_str("stream-ordered allocation"),
            What::Free => f.write_str("free"),
        }
    }
}

/// Stream of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The legacy default stream.
    Legacy,
    /// A thread's default stream, with its number in the process.
    PerThread(u64),
    /// A stream by its handle, and whether it is `CU_STREAM_NON_BLOCKING`.
    Stream(usize, bool),
    /// The host itself, in no stream.
    Host,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Legacy => f.write_str("the legacy default stream"),
            Place::PerThread(number) => {
                write!(f, "the per-thread default stream number {number}")
            }
            Place::Stream(handle, false) => write!(f, "stream {handle:#x}"),
            Place::Stream(handle, true) => write!(f, "non-blocking stream {handle:#x}"),
            Place::Host => f.write_str("no stream, at the call"),
        }
    }
}

/// An operation, as reports name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Effect.
    pub what: What,
    /// Position.
    pub place: Place,
    /// The stream's number in the process. Two operations of one stream without an order are nodes
    /// of a graph.
    pub stream: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.what, self.place)
    }
}

/// Two operations on the same bytes, at least one of which changes them, that nothing orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The one that was submitted first, and how it touches the bytes.
    pub first: (Arc<Operation>, Way),
    /// The other.
    pub second: (Arc<Operation>, Way),
    /// Their allocation.
    pub region: Region,
    /// The first bytes that both touch, by their distance from the allocation's first.
    pub bytes: (u64, u64),
}

impl Conflict {
    pub(super) fn new(
        a: (TaskId, &Arc<Operation>, Way),
        b: (TaskId, &Arc<Operation>, Way),
        region: Region,
        bytes: (u64, u64),
    ) -> Conflict {
        let (first, second) = if a.0 < b.0 { (a, b) } else { (b, a) };
        Conflict {
            first: (first.1.clone(), first.2),
            second: (second.1.clone(), second.2),
            region,
            bytes,
        }
    }
}

/// Access of an operation to the bytes, as a noun.
fn deed(operation: &Operation, way: Way) -> &'static str {
    match (&operation.what, way) {
        (What::Free, _) => "free",
        (What::Allocation, _) => "allocation",
        (_, Way::Read) => "read",
        (_, Way::Write) => "write",
        (_, Way::Atomic) => "atomic write",
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (&self.first.0, &self.second.0);
        let (begin, end) = self.bytes;
        let count = end - begin;
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "not ordered: {} of {count} byte{plural} at {:#x} is not ordered behind an earlier {} \
            of them",
            deed(second, self.second.1),
            self.region.base + begin,
            deed(first, self.first.1),
        )?;
        write!(f, "\n  {second}\n  does not wait for {first}")?;
        write!(
            f,
            "\n  allocation: {}; the bytes begin at its byte {begin}",
            self.region
        )?;
        f.write_str("\n  missing: ")?;
        if first.stream == second.stream {
            return f.write_str("an edge of the graph between these two nodes");
        }
        match second.place {
            Place::Host => write!(
                f,
                "a wait of the host for {} (cuStreamSynchronize, cuEventSynchronize) before the \
                free, or cuMemFreeAsync in that stream",
                first.place
            ),
            place => write!(
                f,
                "an event recorded in {} behind the {} that {place} waits for (cuStreamWaitEvent) \
                before the {}, or a wait of the host between them",
                first.place, first.what, second.what
            ),
        }
    }
}

impl std::error::Error for Conflict {}
