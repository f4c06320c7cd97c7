//! Buffers: views at any offset, slices of wider tensors, what lies around them.

use crate::common::inception::fuses;
use crate::common::{Case, gpu, integers, small_conv};
use cudarc::driver::CudaContext;
use half::{bf16, f16};
use warpconv::Error;
use warpconv::launch::{
    BottleneckBuffers, BranchesBuffers, ConvBuffers, DeviceBuffer, DeviceBufferMut, Element,
    Workspace,
};
use warpconv::ops;
use warpconv::plan::Plan;
use warpconv::problem::{Bottleneck2d, Branches, Conv2d, Product};
use warpconv_testing as checks;
use warpconv_testing::reference;

/// Runs the case with every operand a view `shift` elements into a larger buffer, and returns the
/// buffer of y.
fn shifted<T: Element + From32>(case: &Case, shift: usize) -> Vec<T> {
    let gpu = gpu();
    let problem = case.problem.to_builder().dtype(T::DTYPE).build().unwrap();
    let problem = problem
        .to_builder()
        .alignment(T::DTYPE.size())
        .build()
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&problem, gpu.capability()).unwrap())
        .unwrap();
    let upload = |values: &[f32]| {
        let mut padded = vec![T::of(f32::NAN); shift];
        padded.extend(values.iter().map(|&v| T::of(v)));
        padded.extend([T::of(f32::NAN); 3]);
        gpu.upload(&padded).unwrap()
    };
    let (x, w, bias) = (upload(&case.x), upload(&case.w), upload(&case.bias));
    let mut y = upload(&vec![7.0; case.y.len()]);
    let part = |len: usize| shift..shift + len;
    let mut inside = y.slice_mut(part(case.y.len()));
    let (x, w, bias) = (
        x.slice(part(case.x.len())),
        w.slice(part(case.w.len())),
        bias.slice(part(case.bias.len())),
    );
    let mut workspace = Workspace::new(gpu.stream(), plan.plan().workspace_bytes()).unwrap();
    let buffers = ConvBuffers::new(&x, &w, &mut inside).bias(&bias);
    plan.launch(gpu.stream(), buffers.workspace(&mut workspace))
        .unwrap();
    gpu.download(&y).unwrap()
}

trait From32: Copy {
    fn of(value: f32) -> Self;
    fn value(self) -> f32;
}

impl From32 for f32 {
    fn of(value: f32) -> f32 {
        value
    }
    fn value(self) -> f32 {
        self
    }
}

impl From32 for f16 {
    fn of(value: f32) -> f16 {
        f16::from_f32(value)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}

impl From32 for bf16 {
    fn of(value: f32) -> bf16 {
        bf16::from_f32(value)
    }
    fn value(self) -> f32 {
        self.to_f32()
    }
}

fn check<T: Element + From32>(case: &Case) {
    for shift in [0, 1, 2, 3, 4, 5, 8] {
        let got: Vec<f32> = shifted::<T>(case, shift)
            .into_iter()
            .map(T::value)
            .collect();
        let (before, rest) = got.split_at(shift);
        let (y, after) = rest.split_at(case.y.len());
        // Small integers: the sums are exact in f32, and rounded once.
        let want: Vec<f32> = case.y.iter().map(|&v| T::of(v).value()).collect();
        assert_eq!(y, want, "{:?}, {shift} elements off", T::DTYPE);
        assert!(
            before.iter().chain(after).all(|v| v.is_nan()),
            "{:?}, {shift} elements off",
            T::DTYPE
        );
    }
}

#[test]
fn views_may_begin_anywhere() {
    let case = Case::new(small_conv(), 3);
    check::<f32>(&case);
    check::<f16>(&case);
    check::<bf16>(&case);
    // Four output pixels and four filters at a time, where the addresses permit.
    let whole = Conv2d::builder()
        .input(1, 8, 4, 4)
        .filters(8)
        .kernel(1, 1)
        .bias(true)
        .build()
        .unwrap();
    check::<f32>(&Case::new(whole, 4));
}

#[test]
fn a_slice_of_a_wider_tensor_leaves_the_rest_alone() {
    let gpu = gpu();
    let dense = Case::new(small_conv(), 6);
    let pixels = 9 * 7;
    for (pitch, offset) in [(7, 1), (8, 0), (13, 5)] {
        let problem = dense
            .problem
            .to_builder()
            .output_slice(pitch, offset)
            .input_slice(9, 3)
            .build()
            .unwrap();
        let plan = gpu
            .prepare(&Plan::new(&problem, gpu.capability()).unwrap())
            .unwrap();
        let mut wide = integers(problem.input().len(), 8);
        for n in 0..2 {
            let len = 5 * pixels;
            wide[(n * 9 + 3) * pixels..][..len].copy_from_slice(&dense.x[n * len..][..len]);
        }
        let (x, w) = (gpu.upload(&wide).unwrap(), gpu.upload(&dense.w).unwrap());
        let bias = gpu.upload(&dense.bias).unwrap();
        let before = integers(problem.output().len(), 9);
        let mut y = gpu.upload(&before).unwrap();
        plan.launch(gpu.stream(), ConvBuffers::new(&x, &w, &mut y).bias(&bias))
            .unwrap();
        let mut want = before;
        for n in 0..2 {
            let len = 6 * pixels;
            want[(n * pitch + offset) * pixels..][..len]
                .copy_from_slice(&dense.y[n * len..][..len]);
        }
        assert_eq!(
            gpu.download(&y).unwrap(),
            want,
            "pitch {pitch}, offset {offset}"
        );
    }
}

#[test]
fn an_output_may_share_its_tensor_with_the_input() {
    // DenseNet's way: channels 0..4 make channels 4..6 of the same tensor.
    use cudarc::driver::DevicePtrMut;
    use warpconv::launch::ConvPointers;
    let gpu = gpu();
    let problem = Conv2d::builder()
        .input(2, 4, 5, 5)
        .filters(2)
        .kernel(1, 1)
        .build()
        .unwrap();
    let x = integers(problem.input().len(), 1);
    let w = integers(problem.filter().len(), 2);
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
    let y = reference::conv2d(&problem, &wide(&x), &wide(&w), None, None).unwrap();
    let shared = problem
        .to_builder()
        .input_slice(6, 0)
        .output_slice(6, 4)
        .build()
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&shared, gpu.capability()).unwrap())
        .unwrap();
    let mut tensor = vec![0.0f32; shared.input().len()];
    let mut want = tensor.clone();
    for n in 0..2 {
        tensor[n * 150..][..100].copy_from_slice(&x[n * 100..][..100]);
        want[n * 150..][..100].copy_from_slice(&x[n * 100..][..100]);
        for i in 0..50 {
            want[n * 150 + 100 + i] = y[n * 50 + i] as f32;
        }
    }
    let w = gpu.upload(&w).unwrap();
    let mut tensor = gpu.upload(&tensor).unwrap();
    {
        use cudarc::driver::DevicePtr;
        let (w, _w) = w.device_ptr(gpu.stream());
        let (both, _both) = tensor.device_ptr_mut(gpu.stream());
        let pointers = ConvPointers {
            x: both,
            w,
            bias: 0,
            residual: 0,
            y: both,
            workspace: 0,
        };
        // SAFETY: the pointers are to buffers of the problem's lengths, alive until the download.
        unsafe { plan.launch_raw(gpu.stream().cu_stream(), pointers) }.unwrap();
    }
    assert_eq!(gpu.download(&tensor).unwrap(), want);
}

/// Uploads, downloads and `ops` of [`Gpu::with_stream`] run in that stream, in the same context.
#[test]
fn a_device_may_have_a_stream_of_its_own() {
    let gpu = gpu();
    let stream = gpu.context().new_stream().unwrap();
    let own = gpu.with_stream(stream.clone()).unwrap();
    assert_eq!(own.stream().cu_stream(), stream.cu_stream());
    let case = Case::new(small_conv(), 4);
    let [x, w, bias] = [&case.x, &case.w, &case.bias].map(|values| own.upload(values).unwrap());
    assert_eq!(x.stream().cu_stream(), stream.cu_stream());
    let y = ops::conv2d(&own, &case.problem, &x, &w)
        .bias(&bias)
        .run()
        .unwrap();
    assert_eq!(y.stream().cu_stream(), stream.cu_stream());
    // Either handle reads it: the buffer is ordered behind the launch.
    assert_eq!(gpu.download(&y).unwrap(), case.y);
    assert_eq!(own.download(&y).unwrap(), case.y);
    let twin = CudaContext::new(gpu.context().ordinal()).unwrap();
    let foreign = gpu.with_stream(twin.default_stream()).map(|_| ());
    let what = "the stream";
    assert_eq!(foreign, Err(Error::WrongContext { what }));
}

/// Two contexts of cudarc's on one device share the driver's, but neither knows of the other's
/// streams: a launch that mixed them would wait for nothing.
#[test]
fn another_context_of_the_same_device_is_another_context() {
    let gpu = gpu();
    let case = Case::new(small_conv(), 4);
    let plan = Plan::new(&case.problem, gpu.capability()).unwrap();
    let prepared = gpu.prepare(&plan).unwrap();
    let twin = CudaContext::new(gpu.context().ordinal()).unwrap();
    let theirs = twin.default_stream();
    let foreign = theirs.clone_htod(&case.x).unwrap();
    let [x, w, bias] = [&case.x, &case.w, &case.bias].map(|values| gpu.upload(values).unwrap());
    let mut y = gpu.upload(&vec![0.0; case.y.len()]).unwrap();
    let buffers = ConvBuffers::new(&foreign, &w, &mut y).bias(&bias);
    let wrong = |what| Err(Error::WrongContext { what });
    assert_eq!(prepared.launch(gpu.stream(), buffers), wrong("x"));
    let buffers = ConvBuffers::new(&x, &w, &mut y).bias(&bias);
    assert_eq!(prepared.launch(&theirs, buffers), wrong("stream"));
    let buffers = ConvBuffers::new(&x, &w, &mut y).bias(&bias);
    prepared.launch(gpu.stream(), buffers).unwrap();
    assert_eq!(gpu.download(&y).unwrap(), case.y);
}

/// Two convolutions over one slice, each with a slice of a tensor of its own.
#[test]
fn branches_read_and_write_their_slices() {
    if !fuses() {
        return;
    }
    let gpu = gpu();
    let convs = ["oc8kh1+relu+out20:8", "oc12kh1+out20:4"].map(|rest| -> Conv2d {
        let line = format!("mb2ic16ih4{rest}+tf32+nhwc+packed+in24:4");
        line.parse().unwrap()
    });
    let product = Product::new(convs.to_vec()).unwrap();
    let problem = Branches::new(vec![product]).unwrap();
    let plan = Plan::new(&problem, gpu.capability()).unwrap();
    let prepared = gpu.prepare(&plan).unwrap();
    let x = checks::integers(convs[0].input().elements(), 3, 1);
    let own_x = checks::pack(convs[0].input(), &x, f32::NAN).unwrap();
    let own_x = gpu.upload(&own_x).unwrap();
    let ws =
        [2, 3].map(|seed| checks::integers(convs[seed - 2].filter().elements(), 3, seed as u64));
    let own_w = [0, 1].map(|i| {
        let packed = checks::pack_filter::<f32>(&convs[i], &ws[i]).unwrap();
        gpu.upload(&packed).unwrap()
    });
    let mut ys = [0, 1].map(|i| gpu.upload(&vec![7.0; convs[i].output().len()]).unwrap());
    let mut workspace = Workspace::new(gpu.stream(), plan.workspace_bytes()).unwrap();
    let mut outputs = ys.iter_mut().map(|y| y as &mut dyn DeviceBufferMut<f32>);
    let buffers = BranchesBuffers {
        x: &[&own_x as &dyn DeviceBuffer<f32>],
        w: &[&own_w[0] as &dyn DeviceBuffer<f32>, &own_w[1]],
        bias: &[None, None],
        y: std::array::from_fn(|_| outputs.next()),
        y_of: &[0, 1],
        workspace: Some(&mut workspace),
    };
    prepared.launch(gpu.stream(), buffers).unwrap();
    for i in 0..2 {
        let want = reference::conv2d(&convs[i], &x, &ws[i], None, None).unwrap();
        let want = checks::pack(convs[i].output(), &want, 7.0f32).unwrap();
        assert_eq!(gpu.download(&ys[i]).unwrap(), want, "{}", convs[i]);
    }
}

#[test]
fn a_bottleneck_reads_and_writes_its_slices() {
    let gpu = gpu();
    let builder = Bottleneck2d::builder().input(1, 8, 5, 6).mid_channels(4);
    let builder = builder.filters(8).bias([false; 3]).input_slice(12, 3);
    let problem = builder.output_slice(20, 9).build().unwrap();
    let plan = Plan::new(&problem, gpu.capability()).unwrap();
    let prepared = gpu.prepare(&plan).unwrap();
    let x = checks::integers(problem.input().elements(), 3, 1);
    let convs = problem.convolutions();
    let ws: Vec<Vec<f64>> = (2..)
        .zip(convs)
        .map(|(seed, conv)| checks::integers(conv.filter().elements(), 1, seed))
        .collect();
    let mut want = x.clone();
    for (conv, w) in convs.iter().zip(&ws) {
        want = reference::conv2d(conv, &want, w, None, None).unwrap();
    }
    let own_x = checks::pack(problem.input(), &x, f32::NAN).unwrap();
    let own_x = gpu.upload(&own_x).unwrap();
    let own_w: Vec<_> = convs
        .iter()
        .zip(&ws)
        .map(|(conv, w)| {
            gpu.upload(&checks::pack_filter::<f32>(conv, w).unwrap())
                .unwrap()
        })
        .collect();
    let mut y = gpu.upload(&vec![7.0; problem.output().len()]).unwrap();
    let buffers = BottleneckBuffers {
        x: &own_x,
        w: [&own_w[0], &own_w[1], &own_w[2]],
        bias: [None; 3],
        residual: None,
        y: &mut y,
    };
    prepared.launch(gpu.stream(), buffers).unwrap();
    let want = checks::pack(problem.output(), &want, 7.0f32).unwrap();
    assert_eq!(gpu.download(&y).unwrap(), want);
}
