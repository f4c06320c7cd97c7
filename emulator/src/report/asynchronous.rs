//! Reports about asynchronous operations.
use super::{Access, Region};
use crate::tensor_map::NoMap;
use std::fmt;

/// Fault of an mbarrier object, a bulk copy or a matrix product of a warpgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AsyncFault {
    /// An operation on a barrier that was not initialised.
    NoMbarrier {
        /// Address of the barrier.
        address: u64,
        /// The variable at the address.
        nearest: Option<Region>,
    },
    /// A barrier is used by a thread, or by the asynchronous proxy, without an ordered
    /// initialisation.
    MbarrierNotVisible {
        /// Address of the barrier.
        address: u64,
        /// The thread that initialised it.
        by: [u32; 3],
        /// The line of the initialisation.
        line: u32,
        /// True if the initialisation is not ordered for the asynchronous proxy.
        proxy: bool,
    },
    /// A barrier is initialised again before it was invalidated.
    MbarrierLive {
        /// Address of the barrier.
        address: u64,
        /// The line where it was initialised.
        line: u32,
    },
    /// An ordinary access to a barrier.
    MbarrierTouched {
        /// The access.
        touch: Access,
    },
    /// A count of arrivals outside of 1..2^20.
    MbarrierCount {
        /// The barrier's address.
        address: u64,
        /// Count of the instruction.
        count: u32,
    },
    /// More arrivals than the phase expects.
    MbarrierArrivals {
        /// The barrier's address.
        address: u64,
        /// Number of arrivals in the instruction.
        arrivals: u32,
        /// Pending arrivals of the phase.
        pending: u32,
    },
    /// The pending byte count of a phase leaves its range.
    MbarrierBytes {
        /// The barrier's address.
        address: u64,
        /// Pending bytes before the operation.
        before: i64,
        /// Change of the pending bytes.
        change: i64,
    },
    /// `.noComplete`, but the arrival completes the phase.
    MbarrierCompletes {
        /// The barrier's address.
        address: u64,
    },
    /// A parity that is neither 0 nor 1.
    MbarrierParity {
        /// The barrier's address.
        address: u64,
        /// Parity in the instruction.
        parity: u32,
    },
    /// The state of another barrier, or of a phase that is neither the current one nor the one
    /// before it.
    MbarrierState {
        /// The barrier's address.
        address: u64,
        /// The state's phase.
        given: u32,
        /// The barrier's phase.
        current: u32,
    },
    /// More barriers in shared memory than can be distinguished.
    TooManyMbarriers {
        /// The maximum number of barriers.
        most: u32,
    },
    /// The bytes are written by a copy that a barrier's phase completes, and the warp has not
    /// waited for that phase.
    CopyPending {
        /// The access.
        touch: Access,
        /// The barrier's address.
        barrier: u64,
        /// The parity of the phase.
        parity: u32,
        /// The copy's line.
        line: u32,
        /// True if it was a `cp.async` that was waited for, but without a proxy fence after the
        /// wait.
        ordinary: bool,
    },
    /// The asynchronous proxy accesses bytes that ordinary stores wrote, without a proxy fence.
    Unfenced {
        /// The access.
        touch: Access,
        /// The first byte.
        at: u64,
        /// Thread that wrote it.
        writer: [u32; 3],
        /// The line of the write.
        line: u32,
    },
    /// A write to bytes that an asynchronous operation may still be reading.
    ReadUnderWay {
        /// The write access.
        touch: Access,
        /// The first byte.
        at: u64,
        /// The reader: a warpgroup's matrix product or a warp's bulk copy.
        reader: AsyncReader,
    },
    /// The size of a bulk copy is not a multiple of 16, or too large.
    BulkSize {
        /// Size of the copy in bytes.
        bytes: u32,
    },
    /// A thread exits while its bulk copies may still be reading shared memory.
    BulkNotWaited,
    /// There is no valid tensor map at an address.
    NoTensorMap {
        /// The generic address.
        address: u64,
        /// Reason why the map is invalid.
        why: NoMap,
    },
    /// The tensor map has another rank or kind than the instruction.
    OtherTensorMap {
        /// The map's rank.
        rank: u32,
        /// True if it is an im2col map.
        im2col: bool,
    },
    /// The first pixel of an im2col copy is not in the bounding box.
    Im2colStart {
        /// Index of the dimension.
        dim: u32,
        /// Coordinate of the pixel.
        at: i64,
        /// The bounding box's first coordinate.
        first: i64,
        /// The bounding box's last coordinate.
        last: i64,
    },
    /// An offset of an im2col copy exceeds the instruction's range.
    Im2colOffset {
        /// Offset of the instruction.
        offset: i64,
        /// The largest possible offset.
        most: i64,
    },
    /// An instruction accesses a register of a matrix product in flight.
    RegisterUnderWay {
        /// True if it is written.
        write: bool,
        /// True if it is an accumulator, false for a factor.
        sum: bool,
        /// The product's line.
        line: u32,
    },
    /// A register of a matrix product was accessed by another instruction, without a later
    /// `wgmma.fence`.
    RegisterUnfenced {
        /// The line of the access; `None` if there was no `wgmma.fence` at all.
        line: Option<u32>,
    },
    /// The operands of a matrix product differ between the threads of its warpgroup.
    ProductOperandDiffers,
    /// A matrix descriptor with a base offset.
    BaseOffset {
        /// The matrix descriptor.
        descriptor: u64,
    },
    /// The register counts of `setmaxnreg` differ between the warps of a warpgroup.
    RegistersDiffer {
        /// The warp's count, if it executes the instruction at all.
        count: Option<u32>,
        /// Value of another warp, if it executed the instruction at all.
        other: Option<u32>,
    },
    /// `setmaxnreg` in the wrong direction, or by part of a warp.
    Registers {
        /// Register count of the instruction.
        count: u32,
        /// Current count of the warp.
        current: u32,
        /// Description of the violated rule.
        what: &'static str,
    },
}

/// Reader of shared memory by the asynchronous proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncReader {
    /// The matrix products of a warpgroup.
    Warpgroup(u32),
    /// The bulk copies of a warp.
    Warp(u32),
}

impl fmt::Display for AsyncReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AsyncReader::Warpgroup(index) => write!(f, "a matrix product of warpgroup {index}"),
            AsyncReader::Warp(index) => write!(f, "a bulk copy of warp {index}"),
        }
    }
}

impl AsyncFault {
    /// Writes the first line of a report. Long because it is a table with one entry per fault.
    pub(super) fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AsyncFault as K;
        match self {
            K::NoMbarrier { address, .. } => {
                write!(f, "no mbarrier at {address:#x}: nobody has initialised one")
            }
            K::MbarrierNotVisible { address, proxy, .. } => write!(
                f,
                "mbarrier at {address:#x} used before its initialisation is visible{}",
                if *proxy {
                    " to the asynchronous proxy: no fence of the thread that initialised it comes \
                    before"
                } else {
                    ": no barrier comes between"
                }
            ),
            K::MbarrierLive { address, .. } => write!(
                f,
                "mbarrier at {address:#x} initialised again without being invalidated"
            ),
            K::MbarrierTouched { touch } => write!(f, "ordinary access to an mbarrier: {touch}"),
            K::MbarrierCount { address, count } => write!(
                f,
                "bad mbarrier count: {count} for the mbarrier at {address:#x}, outside of 1 to \
                1048575"
            ),
            K::MbarrierArrivals {
                address,
                arrivals,
                pending,
            } => write!(
                f,
                "too many arrivals: {arrivals} at the mbarrier at {address:#x}, whose phase waits \
                for {pending}"
            ),
            K::MbarrierBytes {
                address,
                before,
                change,
            } => write!(
                f,
                "mbarrier byte count out of range: {before} with {change:+} at {address:#x}, \
                outside of +-1048575"
            ),
            K::MbarrierCompletes { address } => write!(
                f,
                "the arrival completes the phase of the mbarrier at {address:#x}, which \
                .noComplete forbids"
            ),
            K::MbarrierParity { address, parity } => write!(
                f,
                "bad mbarrier parity: {parity} for the mbarrier at {address:#x}, which is neither \
                0 nor 1"
            ),
            K::MbarrierState {
                address,
                given,
                current,
            } => write!(
                f,
                "bad mbarrier state: of phase {given}, where the mbarrier at {address:#x} is in \
                phase {current}"
            ),
            K::TooManyMbarriers { most } => {
                write!(f, "more than {most} mbarriers in a block")
            }
            K::CopyPending {
                touch, ordinary, ..
            } => write!(
                f,
                "asynchronous copy {}: {touch}",
                if *ordinary {
                    "of the generic proxy touched by the asynchronous one without a \
                    fence.proxy.async behind the wait"
                } else {
                    "not waited for"
                }
            ),
            K::Unfenced { touch, .. } => {
                write!(
                    f,
                    "no fence.proxy.async after ordinary writes: asynchronous {touch}"
                )
            }
            K::ReadUnderWay { touch, reader, .. } => {
                write!(f, "{touch} while {reader} may be reading there")
            }
            K::BulkSize { bytes } => {
                write!(
                    f,
                    "bad size of a bulk copy: {bytes} bytes, no multiple of 16 below 2^24"
                )
            }
            K::BulkNotWaited => write!(
                f,
                "a thread exited without waiting for its bulk copies from shared memory"
            ),
            K::NoTensorMap { address, why } => {
                write!(f, "no tensor map at {address:#x}: {why}")
            }
            K::OtherTensorMap { rank, im2col } => write!(
                f,
                "the tensor map does not fit the instruction: it has {rank} dimensions and is {}",
                if *im2col {
                    "one for im2col"
                } else {
                    "a tiled one"
                }
            ),
            K::Im2colStart {
                dim,
                at,
                first,
                last,
            } => write!(
                f,
                "im2col begins outside of its bounding box: at {at} along dimension {dim}, which \
                runs from {first} to {last}"
            ),
            K::Im2colOffset { offset, most } => {
                write!(f, "im2col offset {offset} is more than {most}")
            }
            K::RegisterUnderWay { write, sum, .. } => write!(
                f,
                "a {} of a matrix product that is under way is {}",
                if *sum { "sum" } else { "factor" },
                if *write { "written" } else { "read" }
            ),
            K::RegisterUnfenced { line: Some(_) } => write!(
                f,
                "no wgmma.fence since another instruction touched a register of this matrix product"
            ),
            K::RegisterUnfenced { line: None } => {
                write!(f, "no wgmma.fence before the first matrix product")
            }
            K::ProductOperandDiffers => write!(
                f,
                "matrix product whose instruction, descriptors or scale differ between the threads \
                of its warpgroup"
            ),
            K::BaseOffset { descriptor } => write!(
                f,
                "matrix descriptor {descriptor:#018x} has a base offset, which is not supported"
            ),
            K::RegistersDiffer { count, other } => {
                write!(f, "setmaxnreg differs within a warpgroup: ")?;
                count_or_none(f, *count)?;
                write!(f, ", where another warp has ")?;
                count_or_none(f, *other)
            }
            K::Registers {
                count,
                current,
                what,
            } => write!(f, "bad setmaxnreg: {count}, from {current}: {what}"),
        }
    }

    /// Writes the lines after the position.
    pub(super) fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AsyncFault as K;
        match self {
            K::NoMbarrier {
                nearest: Some(region),
                ..
            } => write!(f, "\n  nearest allocation: {region}"),
            K::MbarrierNotVisible {
                by: [x, y, z],
                line,
                ..
            } => write!(
                f,
                "\n  initialised by thread ({x},{y},{z}) at PTX line {line}"
            ),
            K::RegisterUnderWay { line, .. } => write!(f, "\n  the product is at PTX line {line}"),
            K::RegisterUnfenced { line: Some(line) } => {
                write!(f, "\n  touched at PTX line {line}")
            }
            K::MbarrierLive { line, .. } => write!(f, "\n  initialised at PTX line {line}"),
            K::CopyPending {
                barrier,
                parity,
                line,
                ..
            } => write!(
                f,
                "\n  copied at PTX line {line}, complete with the phase of parity {parity} of the \
                mbarrier at {barrier:#x}"
            ),
            K::Unfenced {
                at,
                writer: [x, y, z],
                line,
                ..
            } => write!(
                f,
                "\n  first byte: {at:#x}, written by thread ({x},{y},{z}) at PTX line {line}"
            ),
            K::ReadUnderWay { at, .. } => write!(f, "\n  first byte of both: {at:#x}"),
            _ => Ok(()),
        }
    }
}

fn count_or_none(f: &mut fmt::Formatter<'_>, count: Option<u32>) -> fmt::Result {
    match count {
        Some(count) => write!(f, "{count}"),
        None => write!(f, "none"),
    }
}
