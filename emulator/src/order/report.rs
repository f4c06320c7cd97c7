//! Report about two conflicting operations without order.

use std::fmt;
use std::sync::Arc;

use super::clock::TaskId;
use super::footprint::Way;
use crate::report::Region;

/// Kind of an operation, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A kernel, by its name.
    Kernel(String),
    /// A copy, with the kinds of its source and destination memory.
    Copy(&'static str, &'static str),
    /// A fill (`cuMemset…`).
    Fill,
    /// `cuMemAllocAsync` and similar calls.
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

/// Stream of an operation, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The legacy default stream.
    Legacy,
    /// A thread's default stream, with its number in the process.
    PerThread(u64),
    /// A stream by its handle, and whether it is `CU_STREAM_NON_BLOCKING`.
    Stream(usize, bool),
    /// The host itself, outside of any stream.
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

/// An operation, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Kind of the operation.
    pub what: What,
    /// The stream to which it was submitted.
    pub place: Place,
    /// The stream's id in the process. Two operations of one stream without an order are nodes of a
    /// graph.
    pub stream: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.what, self.place)
    }
}

/// Two operations without order on the same bytes, at least one of which modifies them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The operation that was submitted first, and its access.
    pub first: (Arc<Operation>, Way),
    /// The other operation, and its access.
    pub second: (Arc<Operation>, Way),
    /// The allocation that both access.
    pub region: Region,
    /// The first bytes that both access, as offsets from the allocation's start.
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
