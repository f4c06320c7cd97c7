//! Launching a whole bottleneck.

use cudarc::driver::{CudaStream, sys};

use super::args::{FastDiv, Strides};
use super::buffer::{DeviceBuffer, DeviceBufferMut};
use super::check::{self, Span};
use super::element::Element;
use super::fill::{Arguments, int, offset_bytes};
use super::prepared::{Prepared, launch_kernel};
use super::uses;
use crate::catalog::{Kernel, Layout};
use crate::error::Error;
use crate::gpu::Gpu;
use crate::plan::{BottleneckPlan, bottleneck::resident};
use crate::problem::{Added, Bottleneck2d, Conv2d, FilterLayout, PACKED_BYTES, TensorDesc};

/// A bottleneck ready to be launched at once; made by [`Gpu::prepare_bottleneck`].
pub type PreparedBottleneck = Prepared<Bottleneck2d, BottleneckKernel>;

/// The arguments of every kernel that computes a bottleneck: a mirror of
/// `kernels/bottleneck_args.cuh`, whose comments say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BottleneckArgs {
    pub x: u64,
    pub w: [u64; 3],
    pub bias: [u64; 3],
    pub residual: u64,
    pub y: u64,
    pub x_strides: Strides,
    pub residual_strides: Strides,
    pub y_strides: Strides,
    pub n: i32,
    pub c: i32,
    pub h: i32,
    pub width: i32,
    pub mid_channels: i32,
    pub k: i32,
    pub p: i32,
    pub q: i32,
    pub w1_k: i32,
    pub w1_c: i32,
    pub w2_k: i32,
    pub w2_c: i32,
    pub w2_tap: i32,
    pub w3_k: i32,
    pub w3_c: i32,
    /// Before `set_grid`, which looks at the addresses, what the filters' layout alone permits.
    pub w_vector: i32,
    pub y_vector: i32,
    pub relu: i32,
    pub tiles: u32,
    pub tiles_q: u32,
    pub by_tiles_q: FastDiv,
    pub by_tiles_image: FastDiv,
}

const _: () = assert!(size_of::<BottleneckArgs>() == 9 * 8 + 3 * 16 + 20 * 4 + 2 * 12);

/// What a prepared bottleneck launches: the arguments without the pointers, for as many blocks as
/// the device holds at once.
#[derive(Clone, Copy, Debug)]
pub struct BottleneckKernel {
    arguments: BottleneckArgs,
    most_blocks: u64,
}

impl From<&Bottleneck2d> for BottleneckArgs {
    fn from(problem: &Bottleneck2d) -> BottleneckArgs {
        let [reduce, middle, expand] = problem.convolutions();
        let [w1_k, w1_c, _] = filter_strides(reduce);
        let [w2_k, w2_c, w2_tap] = filter_strides(middle);
        let [w3_k, w3_c, _] = filter_strides(expand);
        BottleneckArgs {
            x_strides: problem.input().into(),
            residual_strides: problem.residual().map(Strides::from).unwrap_or_default(),
            y_strides: problem.output().into(),
            n: int(problem.n()),
            c: int(problem.c()),
            h: int(problem.h()),
            width: int(problem.w()),
            mid_channels: int(problem.mid_channels()),
            k: int(problem.k()),
            p: int(problem.p()),
            q: int(problem.q()),
            w1_k,
            w1_c,
            w2_k,
            w2_c,
            w2_tap,
            w3_k,
            w3_c,
            w_vector: i32::from(problem.convolutions().iter().all(whole_rows)),
            relu: i32::from(problem.relu()),
            ..BottleneckArgs::default()
        }
    }
}

/// From one filter, channel and tap to the next.
fn filter_strides(conv: &Conv2d) -> [i32; 3] {
    let taps = conv.r() * conv.s();
    match conv.filter_layout() {
        FilterLayout::Kcrs => [conv.group_c() * taps, taps, 1].map(int),
        FilterLayout::Krsc | FilterLayout::Packed => {
            let pitch = conv.filter_pitch();
            [taps * pitch, 1, pitch].map(int)
        }
    }
}

/// Whether the channels of a filter's tap are a run of whole 16 bytes, zeros behind the last
/// channel included.
fn whole_rows(conv: &Conv2d) -> bool {
    let one_run = conv.filter_layout() != FilterLayout::Kcrs || conv.r() * conv.s() == 1;
    one_run && (conv.filter_pitch() * conv.dtype().size()).is_multiple_of(PACKED_BYTES)
}

impl Arguments for BottleneckArgs {
    /// Returns the number of tiles; a launch may have fewer blocks.
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        let tiles_p = (self.p as u32).div_ceil(kernel.tile_m.max(1));
        self.tiles_q = (self.q as u32).div_ceil(kernel.tile_n.max(1));
        let image = u64::from(tiles_p) * u64::from(self.tiles_q);
        let tiles = image * self.n as u64;
        // Of more there is no launch.
        self.tiles = u32::try_from(tiles).unwrap_or(u32::MAX);
        self.by_tiles_q = FastDiv::new(self.tiles_q);
        self.by_tiles_image = FastDiv::new(u32::try_from(image).unwrap_or(u32::MAX));
        let aligned = self.w.iter().all(|w| w.is_multiple_of(PACKED_BYTES as u64));
        self.w_vector &= i32::from(aligned);
        self.y_vector = i32::from(self.whole_outputs(kernel));
        tiles
    }
}

impl BottleneckArgs {
    /// Whether y and residual may be accessed four elements at a time.
    fn whole_outputs(&self, kernel: &Kernel) -> bool {
        let strides = match self.residual {
            0 => self.y_strides,
            _ => self.residual_strides,
        };
        let whole = match kernel.layout {
            Some(Layout::Nhwc) => {
                self.k % 4 == 0 && self.y_strides.pixel % 4 == 0 && strides.pixel % 4 == 0
            }
            _ => (self.p as u32 * self.q as u32).is_multiple_of(4),
        };
        let bytes = 4 * kernel.dtype.size() as u64;
        whole
            && self.y_strides.image % 4 == 0
            && strides.image % 4 == 0
            && (self.y | self.residual).is_multiple_of(bytes)
    }
}

/// The operands of a bottleneck, as cudarc's slices or views. Lengths in elements; the three
/// convolutions are those of [`Bottleneck2d::convolutions`].
pub struct BottleneckBuffers<'a, T> {
    /// The input: [`Bottleneck2d::input`]`().len()`.
    pub x: &'a dyn DeviceBuffer<T>,
    /// The filters of each convolution: its [`Conv2d::filter_len`].
    pub w: [&'a dyn DeviceBuffer<T>; 3],
    /// The bias of each convolution, one a filter, exactly if it has one.
    pub bias: [Option<&'a dyn DeviceBuffer<T>>; 3],
    /// What is added before the last ReLU, exactly if that is [`Added::Tensor`]:
    /// [`Bottleneck2d::residual`]`().len()`.
    pub residual: Option<&'a dyn DeviceBuffer<T>>,
    /// The output: [`Bottleneck2d::output`]`().len()`. Of a wider tensor only the slice's channels
    /// are written.
    pub y: &'a mut dyn DeviceBufferMut<T>,
}

/// The operands of a bottleneck as device addresses: each that of the whole buffer's first element.
/// What the problem does not have is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BottleneckPointers {
    /// The input.
    pub x: sys::CUdeviceptr,
    /// The filters of each convolution.
    pub w: [sys::CUdeviceptr; 3],
    /// The bias of each convolution or 0.
    pub bias: [sys::CUdeviceptr; 3],
    /// The residual, if it is a tensor of its own, or 0.
    pub residual: sys::CUdeviceptr,
    /// The output.
    pub y: sys::CUdeviceptr,
}

/// The names of the operands in errors.
const FILTERS: [&str; 3] = ["w1", "w2", "w3"];
const BIASES: [&str; 3] = ["bias1", "bias2", "bias3"];

impl Gpu {
    /// Loads the plan's kernel, if this is its first use, and makes the plan ready to launch.
    ///
    /// # Errors
    /// As [`Gpu::prepare_conv`].
    pub fn prepare_bottleneck(&self, plan: &BottleneckPlan) -> Result<PreparedBottleneck, Error> {
        let (device, kernel) = (self.capability(), plan.kernel().kernel());
        let work = BottleneckKernel {
            arguments: BottleneckArgs::from(plan.problem()),
            most_blocks: resident(kernel, device) * u64::from(device.sm_count.max(1)),
        };
        Prepared::new(self, plan, work)
    }
}

impl PreparedBottleneck {
    /// Computes the bottleneck in the stream, by one launch. Returns when the work is queued, not
    /// when it is done. An empty batch is nothing to do.
    ///
    /// # Errors
    /// As [`PreparedConv::launch`](super::PreparedConv::launch), but for the workspace: there is
    /// none.
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: BottleneckBuffers<'_, T>,
    ) -> Result<(), Error> {
        self.check_call::<T>(stream)?;
        self.check_buffers(&buffers)?;
        if self.problem().output().is_empty() {
            return Ok(());
        }
        let BottleneckBuffers {
            x,
            w,
            bias,
            residual,
            y,
        } = buffers;
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = uses::read(x, stream);
        let w = w.map(|w| uses::read(w, stream));
        let bias = bias.map(|bias| bias.map(|bias| uses::read(bias, stream)));
        let residual = residual.map(|residual| uses::read(residual, stream));
        let (y, _y) = uses::write(y, stream);
        self.check_ordering()?;
        let address =
            |guarded: &Option<(sys::CUdeviceptr, _)>| guarded.as_ref().map_or(0, |(at, _)| *at);
        let pointers = BottleneckPointers {
            x,
            w: w.each_ref().map(|(at, _)| *at),
            bias: bias.each_ref().map(address),
            residual: address(&residual),
            y,
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem says, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives (`uses`
        // says why). The stream is of this context.
        unsafe { self.launch_raw(stream.cu_stream(), pointers) }
    }

    fn check_buffers<T: Element>(&self, buffers: &BottleneckBuffers<'_, T>) -> Result<(), Error> {
        let (problem, context) = (self.problem(), self.context());
        check::buffer(context, "x", buffers.x, problem.input().len())?;
        for (index, conv) in problem.convolutions().iter().enumerate() {
            check::buffer(context, FILTERS[index], buffers.w[index], conv.filter_len())?;
            let bias = check::optional(BIASES[index], conv.bias(), buffers.bias[index])?;
            if let Some(bias) = bias {
                check::buffer(context, BIASES[index], bias, conv.k())?;
            }
        }
        let added = problem.added() == Added::Tensor;
        let residual = check::optional("residual", added, buffers.residual)?;
        if let (Some(residual), Some(desc)) = (residual, problem.residual()) {
            check::buffer(context, "residual", residual, desc.len())?;
        }
        check::buffer(context, "y", &*buffers.y, problem.output().len())
    }

    /// Computes the bottleneck in a stream of anyone's, on memory of anyone's.
    ///
    /// # Safety
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw).
    ///
    /// # Errors
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw); the output may not be the
    /// residual here.
    pub unsafe fn launch_raw(
        &self,
        stream: sys::CUstream,
        pointers: BottleneckPointers,
    ) -> Result<(), Error> {
        let problem = self.problem();
        if problem.output().is_empty() {
            return Ok(());
        }
        let loaded = self.loaded();
        check_pointers(problem, loaded.kernel(), &pointers)?;
        let BottleneckKernel {
            mut arguments,
            most_blocks,
        } = *self.arguments();
        arguments.x = pointers.x + offset_bytes(problem.input());
        (arguments.w, arguments.bias) = (pointers.w, pointers.bias);
        arguments.residual = match (problem.added(), problem.residual()) {
            (Added::Input, _) => arguments.x,
            (Added::Tensor, Some(desc)) => pointers.residual + offset_bytes(desc),
            _ => 0,
        };
        arguments.y = pointers.y + offset_bytes(problem.output());
        let grid = arguments.set_grid(loaded.kernel()).min(most_blocks);
        // SAFETY: the caller's promise is this function's own; every block takes tiles until there
        // are no more, so fewer blocks than tiles compute all of them.
        unsafe { launch_kernel(loaded, stream, grid, arguments) }
    }
}

fn check_pointers(
    problem: &Bottleneck2d,
    kernel: &Kernel,
    pointers: &BottleneckPointers,
) -> Result<(), Error> {
    let element = problem.dtype().size();
    let span = |name, address, len| Span::new(name, address, len, element);
    let tensor = |name, address, desc: &TensorDesc| span(name, address, desc.len());
    let given = |address: u64| (address != 0).then_some(address);

    let y = tensor("y", pointers.y, problem.output());
    let x = tensor("x", pointers.x, problem.input());
    x.check(u64::from(kernel.vector).max(element as u64))?;
    y.check(element as u64)?;
    if !check::disjoint_slices((&y, problem.output()), (&x, problem.input())) {
        y.apart_from(&x)?;
    }
    for (index, conv) in problem.convolutions().iter().enumerate() {
        let w = span(FILTERS[index], pointers.w[index], conv.filter_len());
        w.check(element as u64)?;
        y.apart_from(&w)?;
        let bias = check::optional(BIASES[index], conv.bias(), given(pointers.bias[index]))?;
        if let Some(address) = bias {
            let bias = span(BIASES[index], address, conv.k());
            bias.check(element as u64)?;
            y.apart_from(&bias)?;
        }
    }
    let added = problem.added() == Added::Tensor;
    let residual = check::optional("residual", added, given(pointers.residual))?;
    if let (Some(address), Some(desc)) = (residual, problem.residual()) {
        let residual = tensor("residual", address, desc);
        residual.check(element as u64)?;
        if !check::disjoint_slices((&y, problem.output()), (&residual, desc)) {
            y.apart_from(&residual)?;
        }
    }
    Ok(())
}
