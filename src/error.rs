//! The one error type of the crate. Every variant carries its values.

use std::fmt;

use crate::kernels::{DType, Math};
use crate::plan::refusal_groups::grouped;
use crate::plan::{Factor, Refusal};
use crate::problem::NotationReason;

/// Errors, from describing a problem to launching it.
///
/// Nothing in this crate panics on what a user passes in; it comes back as one of these.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An extent, stride, dilation, group count or filter count is zero. Only the batch may be.
    #[error("{what} is 0; it must be at least 1")]
    Zero {
        /// The quantity, in words.
        what: &'static str,
    },

    /// The channels or the filters do not divide into the groups.
    #[error("{count} {what} do not divide into {groups} groups")]
    Groups {
        /// `channels` or `filters`.
        what: &'static str,
        /// Number of channels or filters.
        count: usize,
        /// Number of groups.
        groups: usize,
    },

    /// The window, dilation included, is larger than the input with its padding.
    #[error(
        "padded input {}x{}, effective kernel {}x{}: no output",
        padded[0], padded[1], effective[0], effective[1]
    )]
    WindowTooLarge {
        /// Rows and columns of the input, padding included.
        padded: [u128; 2],
        /// Rows and columns that the window spans: `(size - 1) * dilation + 1`.
        effective: [u128; 2],
    },

    /// A number is beyond what the kernels' 31-bit arithmetic can address.
    #[error("{what}: {value}, beyond the limit of {limit}")]
    TooLarge {
        /// The quantity, in words.
        what: &'static str,
        /// Value of the quantity, saturated at `u128::MAX`.
        value: u128,
        /// The largest value allowed.
        limit: u64,
    },

    /// A slice of channels does not lie inside the tensor that it is part of.
    #[error("{what}: channels {offset}..{} do not lie in a tensor of {pitch} \
        channels", *offset as u128 + *channels as u128)]
    Slice {
        /// `input`, `output` or `residual`.
        what: &'static str,
        /// Channels of the slice.
        channels: usize,
        /// Channels of the whole tensor.
        pitch: usize,
        /// First channel of the slice.
        offset: usize,
    },

    /// Two shapes that must agree do not.
    #[error("{what}: expected {expected:?}, got {got:?}")]
    Shape {
        /// Compared property, in words.
        what: &'static str,
        /// The extents that the problem asks for.
        expected: Vec<usize>,
        /// The extents that were given.
        got: Vec<usize>,
    },

    /// A buffer or slice has the wrong number of elements.
    #[error("{what}: expected {expected} elements, got {got}")]
    Length {
        /// Name of the buffer, in words.
        what: &'static str,
        /// Elements that the problem asks for.
        expected: usize,
        /// Elements that were given.
        got: usize,
    },

    /// The index of a maximum is one byte, and the window has more positions than that can name.
    #[error("a {}x{} window has {} positions; one-byte indices name at most \
        {}", window[0], window[1],
        window[0] as u128 * window[1] as u128, crate::problem::MAX_INDEXED_WINDOW)]
    IndexRange {
        /// Rows and columns of the window.
        window: [usize; 2],
    },

    /// The divisor of an average pooling was overridden by 0.
    #[error("the divisor of an average pooling is overridden by 0")]
    ZeroDivisor,

    /// A constant of an operation that is not in its range.
    #[error("{what} is {value}; it must be {needs}")]
    Parameter {
        /// The constant, in words.
        what: &'static str,
        /// Value of the constant.
        value: f64,
        /// Range that the constant must lie in, in words.
        needs: &'static str,
    },

    /// An option that does not go with the kind of problem.
    #[error("{what} does not go with {with}")]
    Incompatible {
        /// Option that was given, in words.
        what: &'static str,
        /// Option or property that it conflicts with, in words.
        with: &'static str,
    },

    /// The 3x3 of a bottleneck moves by another distance than kernels are made for.
    #[error("a bottleneck's 3x3 has stride {stride}: it must be 1 or 2")]
    BottleneckStride {
        /// The stride asked for.
        stride: usize,
    },

    /// The input is to be added to an output of another shape.
    #[error(
        "the input, {}, cannot be added to an output of {}",
        extents(input),
        extents(output)
    )]
    ResidualShape {
        /// Channels, rows and columns of the input.
        input: [usize; 3],
        /// Channels, rows and columns of the output.
        output: [usize; 3],
    },

    /// A mode of multiplying f32 numbers for a problem that is not in f32.
    #[error("{} is a way to multiply f32 numbers, the problem is in {}", math.name(), dtype.name())]
    MathMode {
        /// Mode that was asked for.
        math: Math,
        /// The problem's type.
        dtype: DType,
    },

    /// An alignment that no buffer of the problem can be promised to have.
    #[error("an alignment of {bytes} bytes: it must be a power of two from {element} to {most}")]
    Alignment {
        /// Alignment that was asked for.
        bytes: usize,
        /// Bytes of an element.
        element: usize,
        /// The largest alignment.
        most: usize,
    },

    /// Nodes that do not form a graph.
    #[error("{node}: {reason}")]
    Graph {
        /// Name of the node.
        node: String,
        /// Mismatch between the node and the graph, in words.
        reason: String,
    },

    /// The weights of a network cannot be used.
    #[error("{name}: {reason}")]
    Weights {
        /// The tensor, the file, or the tensor behind the file that should hold it.
        name: String,
        /// Reason why the weights cannot be used.
        reason: String,
    },

    /// A problem in benchdnn notation could not be read.
    #[error("`{text}`, at byte {offset}: {reason}")]
    Notation {
        /// The text as it was given.
        text: String,
        /// Position of the fault, in bytes.
        offset: usize,
        /// Reason why the text cannot be read.
        reason: NotationReason,
    },

    /// No kernel of the catalog takes the problem.
    #[error("no kernel takes {problem}{}", Reasons(refused))]
    NoKernel {
        /// Problem as one line.
        problem: String,
        /// Each kernel that was asked, with its one reason.
        refused: Vec<(String, Refusal)>,
    },

    /// The kernel that was asked for refuses the problem.
    #[error("{kernel}: {refusal}")]
    KernelRefused {
        /// The kernel's id.
        kernel: String,
        /// Reason of the refusal.
        refusal: Refusal,
    },

    /// A factor of the cost model is no number within its bounds.
    #[error(
        "a factor of {value} for the cost model; it must lie between {} and {}",
        Factor::MIN,
        Factor::MAX
    )]
    Factor {
        /// The factor.
        value: f64,
    },

    /// There is no kernel of that number.
    #[error(
        "no kernel {index}: the catalog has {kernels}, numbered from 0; take a KernelId from a \
         plan's \
        candidates"
    )]
    UnknownKernel {
        /// The number asked for.
        index: usize,
        /// Number of kernels, numbered from 0.
        kernels: usize,
    },

    /// The text names no device.
    #[error(
        "`{text}` is no device: auto, gpu, gpu:N, emulator, emulator:75, emulator:80 or emulator:90"
    )]
    BadDevice {
        /// The text as it was given.
        text: String,
    },

    /// NVIDIA's driver is not there, or does not start.
    #[error("no NVIDIA driver: {reason}")]
    NoDriver {
        /// Message of the loader or the driver.
        reason: String,
    },

    /// There is a working driver, but another `libcuda.so` hides it from cudarc.
    #[error(
        "the NVIDIA driver {driver} works, but programs that ask for libcuda.so get {by} \
         ({reason}): take its folder out of \
        LD_LIBRARY_PATH, or put the driver's before it"
    )]
    DriverHidden {
        /// The driver's file.
        driver: String,
        /// The file of the other library.
        by: String,
        /// Reason why the other library cannot be used.
        reason: String,
    },

    /// The GPU is there and healthy, but takes no work now.
    #[error(
        "GPU {ordinal} takes no work now: {message}. Wait, choose another one (gpu:N), or name the \
         emulator \
        (--device emulator, WARPCONV_DEVICE=emulator, DeviceChoice::Emulator)"
    )]
    DeviceBusy {
        /// Ordinal of the device.
        ordinal: usize,
        /// The driver's code.
        code: u32,
        /// The code with the driver's words for it, and its usual cause.
        message: String,
    },

    /// The emulator's library cannot be found or loaded.
    #[error("no emulator: {reason}")]
    NoEmulator {
        /// Searched places, and the loader's message.
        reason: String,
    },

    /// The driver has no such device.
    #[error("no device {ordinal}: the driver has {devices}")]
    NoDevice {
        /// The ordinal asked for.
        ordinal: usize,
        /// Number of devices, numbered from 0.
        devices: usize,
    },

    /// A process speaks to one driver only, and it already speaks to another one.
    #[error("{wanted} was asked for, but this process already speaks to {loaded}")]
    DriverInUse {
        /// Requested driver.
        wanted: String,
        /// Driver in use.
        loaded: String,
    },

    /// The driver is too old for the kernel or the interface.
    #[error("the driver speaks CUDA {}.{}, too old for {what}, which needs \
        {needs}", driver / 1000, driver % 1000 / 10)]
    DriverTooOld {
        /// The driver's version: 11040 is CUDA 11.4.
        driver: u32,
        /// Requested work: a kernel or an interface.
        what: String,
        /// Requirement: a PTX or CUDA version.
        needs: String,
    },

    /// The device is older than every kernel of the catalog.
    #[error("{name} has compute capability {}.{}, the kernels need \
        {}.{}", capability.0, capability.1, needs.0, needs.1)]
    DeviceTooOld {
        /// The device's name.
        name: String,
        /// Compute capability of the device.
        capability: (u32, u32),
        /// Lowest compute capability that runs a kernel.
        needs: (u32, u32),
    },

    /// The device, or the host, has no more memory.
    #[error("out of memory in {operation}")]
    OutOfMemory {
        /// Operation that failed.
        operation: &'static str,
    },

    /// The device has no memory for the workspace of any plan.
    #[error(
        "out of memory: the plan takes a workspace of {needs} bytes, {free} are free on the \
         device, and no plan takes less"
    )]
    NoWorkspace {
        /// Bytes that the plan with the smallest workspace takes.
        needs: u64,
        /// Bytes that the driver calls free.
        free: u64,
    },

    /// A kernel's module was refused by the driver.
    #[error("{kernel} does not load (CUDA error {code}): {reason}")]
    ModuleLoad {
        /// The kernel's id.
        kernel: String,
        /// The driver's code.
        code: u32,
        /// Message of the driver and its compiler.
        reason: String,
    },

    /// The driver refused a call, or reports a failure of earlier work.
    #[error("{operation}: CUDA error {code}: {message}")]
    Driver {
        /// Operation that failed.
        operation: &'static str,
        /// The driver's code, such as 700 for an illegal address.
        code: u32,
        /// Message of the driver; on the emulator its whole report.
        message: String,
    },

    /// A warp of a kernel with bounded waits (a build with `WARPCONV_WATCHDOG=1`) has waited for
    /// more than a second, and has ended the kernel.
    #[error(
        "{kernel} hangs: warp {warp} of block {block} waits for phase {phase} of barrier \
         {barrier}{}. The device's context takes no more work: end the process, or drop all that \
         belongs to the context",
        also(others)
    )]
    Watchdog {
        /// The kernel's id.
        kernel: String,
        /// Number of the block.
        block: u32,
        /// Number of the warp in its block.
        warp: u32,
        /// Name of the barrier, such as `full[2]`; the kernel's source says what it is for.
        barrier: String,
        /// Parity of the phase that does not end.
        phase: u32,
        /// Waits of the block's other warps, in words.
        others: Vec<String>,
    },

    /// The shared memory of a block does not begin where the kernel needs it, which kernels of a
    /// build with `WARPCONV_WATCHDOG=1` check.
    #[error(
        "{kernel}: the dynamic shared memory of block {block} begins at {base:#x}, the kernel \
         needs a multiple of {needs}. The device's context takes no more work: end the process, \
         or drop all that belongs to the context"
    )]
    SharedAlignment {
        /// The kernel's id.
        kernel: String,
        /// Number of the block.
        block: u32,
        /// Address in shared memory.
        base: u32,
        /// Bytes that it must be a multiple of.
        needs: u32,
    },

    /// The plan's kernel needs more than the device has.
    #[error("the plan was made for compute capability {}.{}, the device has \
        {}.{}", plan.0, plan.1, device.0, device.1)]
    PlanForAnotherDevice {
        /// The capability that the plan was made for.
        plan: (u32, u32),
        /// Compute capability of the device.
        device: (u32, u32),
    },

    /// The buffers hold another type than the problem's.
    #[error("the problem is in {}, the buffers hold {}", problem.name(), buffers.name())]
    WrongDType {
        /// The problem's type.
        problem: DType,
        /// The buffers' type.
        buffers: DType,
    },

    /// A buffer or the stream belongs to another context than the plan was prepared in, or the
    /// device is. Another [`CudaContext`](cudarc::driver::CudaContext) of the same device is
    /// another context: use one for all.
    #[error(
        "{what} belongs to another context than what it is used with: take one CudaContext for all"
    )]
    WrongContext {
        /// The buffer's name, or `stream`.
        what: &'static str,
    },

    /// The problem has an operand that was not given.
    #[error("the problem has a {buffer}, none was given")]
    MissingBuffer {
        /// Name of the operand.
        buffer: &'static str,
    },

    /// An operand was given that the problem does not have.
    #[error("a {buffer} was given, the problem has none")]
    UnexpectedBuffer {
        /// Name of the operand.
        buffer: &'static str,
    },

    /// A pointer is null though the operand has elements.
    #[error("{buffer} is null")]
    NullBuffer {
        /// Name of the operand.
        buffer: &'static str,
    },

    /// A pointer is not aligned to what the plan's kernel reads or writes at a time.
    #[error(
        "{buffer} is at {address:#x}, aligned to {has} bytes; the kernel needs {needs}: move the \
         buffer, \
        or build the problem with alignment({has})"
    )]
    Misaligned {
        /// Name of the operand.
        buffer: &'static str,
        /// Address that was given.
        address: u64,
        /// Bytes that the kernel needs it to be aligned to: those of an element or more.
        needs: u64,
        /// The largest power of two that it is aligned to.
        has: u64,
    },

    /// The driver does not take the description of a tensor that bulk copies need, or its address.
    #[error("{call} refuses {tensor} (CUDA error {code}): {map}")]
    TensorMap {
        /// Name of the operand.
        tensor: &'static str,
        /// The driver's function.
        call: &'static str,
        /// The driver's code.
        code: u32,
        /// Description of the tensor map that was passed.
        map: String,
    },

    /// The workspace is smaller than the plan needs.
    #[error(
        "the workspace has {has} bytes, the plan needs {needs}: take \
        Workspace::new(stream, plan.workspace_bytes()), or plan within Limits \
        {{ workspace: {has}, .. }}"
    )]
    WorkspaceTooSmall {
        /// Bytes that the plan needs:
        /// [`Plan::workspace_bytes`](crate::plan::Plan::workspace_bytes).
        needs: u64,
        /// Bytes that were given.
        has: u64,
    },

    /// An operand that is written shares memory with one that is read.
    #[error("{written} is written and overlaps {read}")]
    Overlap {
        /// The operand that is written.
        written: &'static str,
        /// Operand that is read.
        read: &'static str,
    },

    /// A launch into a stream that is being captured, while cudarc tracks events in the context.
    #[error(
        "the stream is being captured while the context tracks events, which a capture cannot \
         contain: \
        call CudaContext::disable_event_tracking before the capture"
    )]
    CaptureWithEventTracking,
}

/// The waits of other warps, after that of the first.
fn also(others: &[String]) -> String {
    match others.is_empty() {
        true => String::new(),
        false => format!(" (also: {})", others.join("; ")),
    }
}

fn extents([c, h, w]: &[usize; 3]) -> String {
    format!("{c}x{h}x{w}")
}

/// The refusals grouped by reason, a line per reason.
struct Reasons<'a>(&'a [(String, Refusal)]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in grouped(self.0.iter().cloned()) {
            write!(f, "\n  {group}")?;
        }
        write!(
            f,
            "\nchange the problem's type, layout or mode, or take another device"
        )
    }
}
