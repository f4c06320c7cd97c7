//! Reason why a kernel does not take a problem.

use std::fmt;

use crate::kernels::{DType, Layout, Math};
use crate::problem::FilterLayout;

/// The one reason for which a kernel was refused; its `Display` has the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The kernel computes another operation.
    Operation {
        /// Operation that the kernel computes, in words.
        kernel: &'static str,
        /// Operation that the problem asks for, in words.
        problem: &'static str,
    },
    /// The device does not run the kernel's instruction set: it is older, or the kernel is for one
    /// architecture alone.
    Arch {
        /// The compute capability that runs the kernel: the lowest, or the only one.
        needs: (u32, u32),
        /// Compute capability of the device.
        has: (u32, u32),
    },
    /// The kernel is for another storage type.
    DType {
        /// The kernel's type.
        kernel: DType,
        /// The problem's type.
        problem: DType,
    },
    /// The kernel is for another layout of activations.
    Layout {
        /// The kernel's layout.
        kernel: Layout,
        /// The problem's layout.
        problem: Layout,
    },
    /// The kernel multiplies less exactly than the problem asks for.
    Math {
        /// The kernel's mode.
        kernel: Math,
        /// The problem's mode.
        problem: Math,
    },
    /// The kernel's copies of x are wider than the alignment of x.
    Alignment {
        /// Bytes per copy.
        needs: usize,
        /// Alignment in bytes of x: of its address, pitch and offset together.
        has: usize,
    },
    /// The kernel is for groups of few channels and few filters.
    WideGroups {
        /// Channels per group of the problem.
        group_c: usize,
        /// Filters per group of the problem.
        group_k: usize,
        /// Most channels or filters per group that the kernel takes.
        most: usize,
    },
    /// The kernel needs groups whose channels are a multiple of its step.
    GroupChannels {
        /// Channels per group of the problem.
        group_c: usize,
        /// Required divisor.
        multiple: usize,
    },
    /// TMA in im2col mode cannot load such windows.
    TensorMap {
        /// The quantity, in words.
        what: &'static str,
        /// Value in the problem.
        value: usize,
        /// Largest value that a tensor map holds.
        most: usize,
    },
    /// The packed filters have more elements than the kernel's index counts.
    PackedFilters {
        /// Elements of the packed filters, their padding included.
        elements: u64,
        /// Most elements that the kernel's index counts.
        most: u64,
    },
    /// The kernel cannot use this split-K.
    SplitK {
        /// Split-K that was asked for.
        asked: u32,
        /// Largest split-K: the steps of a tile, or 1 for kernels without split-K.
        most: u32,
    },
    /// The problem has more tiles than the workspace has counters for split-K.
    SplitKTiles {
        /// Output tiles of the problem.
        tiles: u64,
        /// Counters in the workspace.
        most: u64,
    },
    /// The kernel needs more workspace than it may have.
    Workspace {
        /// Bytes that it needs.
        needs: u64,
        /// Bytes that it may have.
        most: u64,
    },
    /// The kernel does not read filters in this layout.
    FilterLayout {
        /// The problem's layout of filters.
        problem: FilterLayout,
    },
    /// The launch does not pack filters, and the kernel needs [`FilterLayout::Packed`].
    UnpackedFilters {
        /// The layout of the filters.
        problem: FilterLayout,
    },
    /// The kernel is for one group only.
    OneGroupOnly {
        /// Groups of the problem.
        groups: usize,
    },
    /// The kernel needs more than one group.
    SeveralGroupsOnly,
    /// The kernel is for one channel per group.
    OneChannelAGroupOnly {
        /// Channels per group of the problem.
        group_c: usize,
    },
    /// The kernel is for 1x1 filters.
    PointwiseOnly {
        /// Filter rows of the problem.
        r: usize,
        /// Filter columns of the problem.
        s: usize,
    },
    /// The kernel takes no padding.
    Padded {
        /// The largest of the four paddings.
        padding: usize,
    },
    /// The problem has more terms per output than the kernel's table.
    SumTooLong {
        /// Terms per output: c * r * s.
        terms: usize,
        /// The most that the kernel takes.
        most: usize,
    },
    /// The kernel needs a square filter of its size, vertical stride 1 or 2, and no vertical
    /// dilation.
    FixedFilter {
        /// Rows and columns of the kernel's filter.
        size: usize,
        /// Filter rows of the problem.
        r: usize,
        /// Filter columns of the problem.
        s: usize,
        /// Vertical stride of the problem.
        stride: usize,
        /// Vertical dilation of the problem.
        dilation: usize,
    },
    /// The kernel is compiled for another stride.
    Stride {
        /// The kernel's stride.
        kernel: usize,
        /// Stride of the problem.
        problem: usize,
    },
    /// The bottleneck's intermediates have more channels than the kernel's tile.
    MidChannels {
        /// Channels of the problem's intermediates.
        mid_channels: usize,
        /// The most that the kernel takes.
        most: usize,
    },
    /// The bottleneck has more channels at either end than the kernel keeps filters for.
    WideBottleneck {
        /// Channels of the input or, if it has more, of the output.
        channels: usize,
        /// The most that the kernel takes.
        most: usize,
    },
    /// The kernel needs more shared memory than a block of the device can have.
    SharedMemory {
        /// Bytes that the kernel needs.
        needs: u32,
        /// Bytes that a block can have.
        has: u32,
    },
    /// The kernel's block has more threads than a block of the device can have.
    Threads {
        /// Threads of the kernel's block.
        needs: u32,
        /// Threads that a block can have.
        has: u32,
    },
    /// The limits exclude the kernel.
    Excluded,
    /// The launch would have more blocks than the device takes.
    Grid {
        /// Blocks of the launch.
        blocks: u64,
        /// The most blocks along x.
        most: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::Operation { kernel, problem } => {
                write!(f, "computes {kernel}, the problem is {problem}")
            }
            // What is made for one architecture alone runs on no later one either.
            Refusal::Arch { needs, has } if has > needs => write!(
                f,
                "runs on compute capability {}.{} only, the device has {}.{}",
                needs.0, needs.1, has.0, has.1
            ),
            Refusal::Arch { needs, has } => write!(
                f,
                "needs compute capability {}.{}, the device has {}.{}",
                needs.0, needs.1, has.0, has.1
            ),
            Refusal::DType { kernel, problem } => {
                write!(
                    f,
                    "stores {}, the problem is in {}",
                    kernel.name(),
                    problem.name()
                )
            }
            Refusal::Layout { kernel, problem } => {
                write!(
                    f,
                    "is for {}, the problem is {}",
                    kernel.name(),
                    problem.name()
                )
            }
            Refusal::Math { kernel, problem } => write!(
                f,
                "multiplies in {}, the problem asks for {}",
                kernel.name(),
                problem.name()
            ),
            Refusal::Alignment { needs, has } => write!(
                f,
                "copies {needs} bytes of x at a time, which is aligned to {has}"
            ),
            Refusal::WideGroups {
                group_c,
                group_k,
                most,
            } => write!(
                f,
                "is for groups of up to {most} channels and filters, the problem's have {group_c} \
                 and {group_k}"
            ),
            Refusal::GroupChannels { group_c, multiple } => write!(
                f,
                "takes a multiple of {multiple} channels per group, the problem has {group_c}"
            ),
            Refusal::TensorMap { what, value, most } => {
                write!(
                    f,
                    "fetches x by tensor maps: {what} is {value}, at most {most}"
                )
            }
            Refusal::PackedFilters { elements, most } => write!(
                f,
                "would pack filters of {elements} elements, at most {most}"
            ),
            Refusal::SplitK { asked, most: 1 } => {
                write!(f, "does not share a sum, {asked} blocks were asked to")
            }
            Refusal::SplitK { asked, most } => write!(
                f,
                "cannot share {most} steps of a sum out among {asked} blocks"
            ),
            Refusal::SplitKTiles { tiles, most } => {
                write!(
                    f,
                    "would share {tiles} tiles, there are counters for {most}"
                )
            }
            Refusal::Workspace { needs, most } => {
                write!(f, "needs {needs} bytes of workspace, the limit is {most}")
            }
            Refusal::FilterLayout { problem } => {
                write!(f, "does not read {} filters", problem.name())
            }
            Refusal::UnpackedFilters { problem } => write!(
                f,
                "reads filters in rows of whole 16 bytes, the problem's are {} (packed ones are in \
                 order)",
                problem.name()
            ),
            Refusal::OneGroupOnly { groups } => {
                write!(f, "is for groups = 1, the problem has {groups}")
            }
            Refusal::SeveralGroupsOnly => write!(f, "is for several groups, the problem has 1"),
            Refusal::OneChannelAGroupOnly { group_c } => {
                write!(f, "is for 1 channel per group, the problem has {group_c}")
            }
            Refusal::PointwiseOnly { r, s } => {
                write!(f, "is for 1x1 filters, the problem's are {r}x{s}")
            }
            Refusal::Padded { padding } => {
                write!(f, "takes no padding, the problem has {padding}")
            }
            Refusal::SumTooLong { terms, most } => {
                write!(
                    f,
                    "takes sums of up to {most} terms, the problem's have {terms}"
                )
            }
            Refusal::FixedFilter {
                size,
                r,
                s,
                stride,
                dilation,
            } => {
                write!(
                    f,
                    "is for {size}x{size} filters with vertical stride 1 or 2 and vertical \
                     dilation 1, the problem \
                     has {r}x{s}, stride {stride}, dilation {dilation}"
                )
            }
            Refusal::Stride { kernel, problem } => {
                write!(f, "is for stride {kernel}, the problem has {problem}")
            }
            Refusal::MidChannels { mid_channels, most } => write!(
                f,
                "takes up to {most} mid channels, the problem has {mid_channels}"
            ),
            Refusal::WideBottleneck { channels, most } => write!(
                f,
                "keeps the filters of up to {most} channels, the problem has {channels}"
            ),
            Refusal::SharedMemory { needs, has } => {
                write!(
                    f,
                    "needs {needs} bytes of shared memory per block, the device has {has}"
                )
            }
            Refusal::Threads { needs, has } => {
                write!(f, "needs {needs} threads per block, the device has {has}")
            }
            Refusal::Excluded => write!(f, "is excluded by the limits of the plan"),
            Refusal::Grid { blocks, most } => {
                write!(f, "would launch {blocks} blocks, the device takes {most}")
            }
        }
    }
}
