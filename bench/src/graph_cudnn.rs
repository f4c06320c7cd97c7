//! cuDNN's best plans for the layers of a graph, as one chain.
//!
//! cuDNN writes dense tensors, so its results for a slice of a concatenation are copied there:
//! `concat`, listed separately and part of its time, as in a library built on cuDNN. Its
//! convolutions include bias and ReLU where it has such a plan.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUdeviceptr, CUmemorytype};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use warpconv::Layout;
use warpconv::graph::{Graph, Node, Step, TensorId};
use warpconv::launch::{ConvPointers, PoolPointers};
use warpconv::problem::{Conv2d, Pool2d, TensorDesc};
use warpconv_testing as check;
use warpconv_testing::Stored;

use super::cudnn_baseline::{Best, CudnnBaseline};
use super::record::CudnnRecord;
use super::timed_graph::{Chain, Length, text};

/// One copy of the operands: a graph is timed on a single set of buffers, so a launch finds in the
/// L2 cache what the previous one left.
pub const ONE: Length = Length {
    copies: 1,
    target_us: 1_000.0,
};

/// One step of cuDNN's chain.
struct Stage {
    step: Step,
    x: CUdeviceptr,
    w: CUdeviceptr,
    bias: CUdeviceptr,
    y: CUdeviceptr,
    /// Copy of the dense result into its slice, if the layer writes a slice.
    concat: Option<Concat>,
}

/// A dense tensor that is copied into its slice of a wider one.
#[derive(Clone, Copy)]
struct Concat {
    from: CUdeviceptr,
    to: CUdeviceptr,
    width: usize,
    pitch: usize,
    height: usize,
}

/// cuDNN's chain: its buffers and stages.
pub struct CudnnChain<T> {
    stream: Arc<CudaStream>,
    stages: Vec<Stage>,
    /// Keeps the addresses in the stages valid.
    _buffers: Vec<CudaSlice<T>>,
}

impl<T: Stored> CudnnChain<T> {
    /// Allocates the graph's buffers once more and fills them with random reals; filters are scaled
    /// as those of this crate's launches, so that sums keep the magnitude of the inputs.
    pub fn new(stream: &Arc<CudaStream>, module: &Graph) -> Result<CudnnChain<T>, String> {
        let mut buffers = Vec::new();
        let mut filled = |len: usize, scale: f64| -> Result<CUdeviceptr, String> {
            let few = check::reals(len.min(1 << 20), T::DTYPE, len as u64).into_iter();
            let few: Vec<T> = few.map(|value| T::nearest(value * scale)).collect();
            let values: Vec<T> = few.iter().copied().cycle().take(len).collect();
            let buffer = stream.clone_htod(&values).map_err(text)?;
            let address = buffer.device_ptr(stream).0;
            buffers.push(buffer);
            Ok(address)
        };
        let input = filled(module.input_len(), 1.0)?;
        let output = filled(module.output_len(), 1.0)?;
        let intermediates: Vec<CUdeviceptr> = module
            .intermediates()
            .iter()
            .map(|&len| filled(len, 1.0))
            .collect::<Result<_, _>>()?;
        let mut stages = Vec::new();
        for node in module.nodes() {
            let place = |place| match place {
                TensorId::Input => Some(input),
                TensorId::Output => Some(output),
                TensorId::Intermediate(index) => intermediates.get(index).copied(),
            };
            let missing = || String::from("a buffer of the graph is missing");
            let ([from], [to]) = (&node.from[..], &node.to[..]) else {
                return Err(format!("{}: several tensors in one launch", node.name));
            };
            let from = place(*from).ok_or_else(missing)?;
            let to = place(*to).ok_or_else(missing)?;
            stages.push(stage(node, from, to, &mut filled)?);
        }
        stream.synchronize().map_err(text)?;
        Ok(CudnnChain {
            stream: stream.clone(),
            stages,
            _buffers: buffers,
        })
    }

    /// The chain of best plans, ready to be timed.
    pub fn chain<'a>(
        &'a self,
        cudnn: &'a CudnnBaseline,
    ) -> Result<(CudnnRecord, Chain<'a>), String> {
        let best = self.best(cudnn)?;
        let chain = Chain::new(&self.stream, ONE, best.launch)?;
        Ok((best.row, chain))
    }

    fn best<'a>(&'a self, cudnn: &'a CudnnBaseline) -> Result<Best<'a>, String> {
        let mut launches = Vec::new();
        let mut row = CudnnRecord {
            fused: true,
            ..CudnnRecord::default()
        };
        let (mut plans, mut copies) = (Vec::new(), Vec::new());
        for stage in &self.stages {
            let best = stage.best(cudnn)?;
            row.fused &= best.row.fused;
            row.timed += best.row.timed;
            plans.push(best.row.plan);
            launches.push(best.launch);
            copies.push(stage.concat);
        }
        row.plan = plans.join(", ");
        let concats: Vec<Concat> = copies.iter().flatten().copied().collect();
        if !concats.is_empty() {
            let all = Box::new(move |_| concats.iter().try_for_each(|copy| self.copy(copy)));
            let us = Chain::new(&self.stream, ONE, all)?.median(5)?;
            row.parts.push((String::from("concat"), us));
        }
        let launch = Box::new(move |i| {
            for (launch, copy) in launches.iter_mut().zip(&copies) {
                launch(i)?;
                if let Some(copy) = copy {
                    self.copy(copy)?;
                }
            }
            Ok(())
        });
        Ok(Best { row, launch })
    }

    fn copy(&self, copy: &Concat) -> Result<(), String> {
        let device = CUmemorytype::CU_MEMORYTYPE_DEVICE;
        let what = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: device,
            srcHost: std::ptr::null(),
            srcDevice: copy.from,
            srcArray: std::ptr::null_mut(),
            srcPitch: copy.width,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: device,
            dstHost: std::ptr::null_mut(),
            dstDevice: copy.to,
            dstArray: std::ptr::null_mut(),
            dstPitch: copy.pitch,
            WidthInBytes: copy.width,
            Height: copy.height,
        };
        // SAFETY: both ends are buffers of `self`: the source is as long as the slice, the target
        // as long as the whole tensor.
        unsafe { sys::cuMemcpy2DAsync_v2(&what, self.stream.cu_stream()) }
            .result()
            .map_err(text)
    }
}

/// The stage of a node with dense results; a slice is copied into place afterwards.
fn stage(
    node: &Node,
    x: CUdeviceptr,
    to: CUdeviceptr,
    filled: &mut dyn FnMut(usize, f64) -> Result<CUdeviceptr, String>,
) -> Result<Stage, String> {
    let (_, output) = node.writes().next().ok_or("a launch that writes nothing")?;
    if node.reads().any(|(_, input)| !input.is_dense()) {
        return Err(String::from(
            "a launch reads a slice, which cuDNN is not given",
        ));
    }
    let sliced = !output.is_dense();
    let y = if sliced {
        filled(output.elements(), 1.0)?
    } else {
        to
    };
    let (step, w, bias) = match &node.step {
        Step::Conv(conv) => {
            let dense = conv.to_builder().output_slice(conv.output().c(), 0).build();
            let dense: Conv2d = dense.map_err(text)?;
            if dense.residual().is_some() {
                return Err(String::from("a residual, which cuDNN is not given"));
            }
            // The mean square of a number of [-1, 1) is a third.
            let scale = (3.0 / dense.filter().gemm_k().max(1) as f64).sqrt();
            let w = filled(dense.filter().len(), scale)?;
            let bias = filled(dense.output().c(), 0.25)?;
            (Step::Conv(dense), w, bias)
        }
        Step::Pool(pool) => {
            let dense = pool.to_builder().output_slice(pool.input().c(), 0).build();
            let dense: Pool2d = dense.map_err(text)?;
            (Step::Pool(dense), 0, 0)
        }
        _ => return Err(format!("{}: no layer of cuDNN's chain", node.name)),
    };
    Ok(Stage {
        step,
        x,
        w,
        bias,
        y,
        concat: sliced.then(|| concat(output, y, to)),
    })
}

/// The copy of a dense tensor into the slice described by `desc`.
fn concat(desc: &TensorDesc, from: CUdeviceptr, to: CUdeviceptr) -> Concat {
    let size = desc.dtype().size();
    let pixels = desc.h() * desc.w();
    let (channel, height) = match desc.layout() {
        Layout::Nhwc => (size, desc.n() * pixels),
        Layout::Nchw => (pixels * size, desc.n()),
    };
    Concat {
        from,
        to: to + (desc.index(0, 0, 0, 0) * size) as u64,
        width: desc.c() * channel,
        pitch: desc.channel_pitch() * channel,
        height,
    }
}

impl Stage {
    fn best<'a>(&'a self, cudnn: &'a CudnnBaseline) -> Result<Best<'a>, String> {
        match &self.step {
            Step::Conv(conv) => cudnn.conv(conv, self.conv_pointers(), ONE),
            Step::Pool(pool) => cudnn.pool(pool, self.pool_pointers()),
            // `stage` makes no other step.
            _ => Err(String::from("no layer of cuDNN's chain")),
        }
    }

    fn conv_pointers<'a>(&'a self) -> Box<dyn Fn(usize) -> ConvPointers + 'a> {
        Box::new(|_| ConvPointers {
            x: self.x,
            w: self.w,
            bias: self.bias,
            y: self.y,
            ..ConvPointers::default()
        })
    }

    fn pool_pointers<'a>(&'a self) -> Box<dyn Fn(usize) -> PoolPointers + 'a> {
        Box::new(|_| PoolPointers {
            x: self.x,
            y: self.y,
            indices: 0,
        })
    }
}
