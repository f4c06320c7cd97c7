//! Sizes and situations that broke launches elsewhere, on the GPU if there is one, else on the
//! emulator.

use std::sync::OnceLock;
use warpconv::device::{DeviceChoice, DeviceKind, Gpu};
use warpconv::launch::Unary;
use warpconv::launch::{ConvBuffers, UnaryBuffers};
use warpconv::plan::Plan;
use warpconv::problem::{Conv2d, Padding, Pool2d, PoolKind, Relu, TensorDesc};
use warpconv::{DType, Error, Layout};
use warpconv_testing as check;
use warpconv_testing::Tolerance;
use warpconv_testing::reference;

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let choice = DeviceChoice::from_env().unwrap_or_else(|error| panic!("{error}"));
        Gpu::open(&choice).unwrap_or_else(|error| panic!("no device to test on: {error}"))
    })
}

fn conv(line: &str) {
    let conv: Conv2d = line
        .parse()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let x = check::integers(conv.input().elements(), 3, 1);
    let w = check::integers(conv.filter().len(), 3, 2);
    let bias = conv
        .bias()
        .then(|| check::integers(conv.output().c(), 3, 3));
    let plan =
        Plan::new(&conv, gpu().capability()).unwrap_or_else(|error| panic!("{line}: {error}"));
    let got = check::run_conv(gpu(), &plan, &x, &w, bias.as_deref(), None)
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let want = reference::conv2d(&conv, &x, &w, bias.as_deref(), None)
        .expect("operands of the problem's size");
    check::compare(
        &got,
        &want,
        check::extents(conv.output()),
        conv.input().dtype(),
        Tolerance::Exact,
    )
    .unwrap_or_else(|mismatch| panic!("{line}: {mismatch}"));
}

fn max_pool(line: &str) {
    let pool: Pool2d = line
        .parse()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let x = check::integers(pool.input().elements(), 100, 1);
    let plan =
        Plan::new(&pool, gpu().capability()).unwrap_or_else(|error| panic!("{line}: {error}"));
    let (got, indices) =
        check::run_pool(gpu(), &plan, &x).unwrap_or_else(|error| panic!("{line}: {error}"));
    let (want, want_indices) =
        reference::pool2d(&pool, &x).expect("operands of the problem's size");
    check::compare(
        &got,
        &want,
        check::extents(pool.output()),
        pool.input().dtype(),
        Tolerance::Exact,
    )
    .unwrap_or_else(|mismatch| panic!("{line}: {mismatch}"));
    assert_eq!(indices, want_indices, "{line}");
}

#[test]
fn more_blocks_than_65535_along_any_axis_of_the_problem() {
    // Pixels of one image, images, channels.
    conv("mb1ic2ih256oc2kh1");
    conv("mb1ic1ih257oc1kh3ph1+nhwc");
    conv("mb70000ic1ih1oc2kh1");
    conv("g70000mb1ic70000ih1oc70000kh1+bias");
    max_pool("mb1ic100000ih2kh2");
    max_pool("mb1ic100000ih2kh2+nhwc");
    max_pool("mb70000ic1ih2kh2+indices");
}

#[test]
fn channels_beyond_what_shared_memory_holds() {
    for c in [257, 512, 1000, 4096] {
        max_pool(&format!("mb1ic{c}ih5kh3sh2ph1+nhwc+indices"));
        max_pool(&format!("mb1ic{c}ih4kh2+nhwc+f16"));
        conv(&format!("g{c}mb1ic{c}ih4oc{c}kh3ph1+nhwc"));
    }
}

#[test]
fn maps_that_are_not_square() {
    for (h, w) in [(32, 256), (256, 32), (1, 4097), (4097, 1)] {
        for layout in ["", "+nhwc"] {
            max_pool(&format!("mb1ic2ih{h}iw{w}kh1kw1{layout}"));
            conv(&format!("mb1ic2ih{h}iw{w}oc3kh1kw1{layout}"));
            conv(&format!("g2mb1ic2ih{h}iw{w}oc2kh3kw3ph1pw1{layout}"));
        }
    }
}

#[test]
fn windows_of_any_size() {
    max_pool("mb1ic2ih40kh35");
    max_pool("mb1ic1ih101kh100+nhwc");
    max_pool("mb1ic1ih255kh255");
    conv("mb1ic2ih35oc2kh31ph3");
    conv("g3mb1ic3ih40oc3kh35+nhwc");
}

#[test]
fn a_window_of_a_billion_rows_is_clipped_to_the_image() {
    // One row and 2^29 of padding: both outputs have that row in their window, and no loop goes
    // through the rest. The reference would, so the maximum is written down here.
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let pool = Pool2d::builder()
            .input(1, 3, 1, 2)
            .kernel(1 << 30, 1)
            .padding(Padding {
                top: 1 << 29,
                bottom: 1 << 29,
                ..Padding::default()
            })
            .kind(PoolKind::Max { indices: false })
            .layout(layout)
            .build()
            .unwrap_or_else(|error| panic!("{layout:?}: {error}"));
        let x = [5.0, -3.0, 0.0, 2.0, -7.0, -1.0];
        let plan = Plan::new(&pool, gpu().capability()).expect("a plan");
        let (got, _) = check::run_pool(gpu(), &plan, &x).expect("a launch");
        let want = [
            5.0, -3.0, 5.0, -3.0, 0.0, 2.0, 0.0, 2.0, -7.0, -1.0, -7.0, -1.0,
        ];
        assert_eq!(got, want, "{layout:?}");
    }
}

#[test]
fn sizes_are_not_rounded_through_floats() {
    let wide = 16_777_217;
    let pool = Pool2d::builder()
        .input(1, 1, 1, wide)
        .kernel(1, 1)
        .dtype(DType::F16)
        .build()
        .expect("a valid problem");
    assert_eq!(pool.output().w(), wide);
    let relu = TensorDesc::new([1, 1, 1, wide], Layout::Nchw, DType::F16)
        .and_then(|x| Relu::new(&x, &x))
        .expect("a valid problem");
    // On the emulator a launch of this size takes its time; ReLU moves the most elements a thread.
    let x: Vec<f64> = (0..wide).map(|i| (i % 2048) as f64 - 1000.0).collect();
    let plan = Plan::new(&relu, gpu().capability()).expect("a plan");
    let got = check::run_relu(gpu(), &plan, &x).unwrap_or_else(|error| panic!("{error}"));
    assert!(got.iter().zip(&x).all(|(y, x)| *y == x.max(0.0)));
}

#[test]
fn an_empty_batch_is_nothing_to_do() {
    let gpu = gpu();
    for line in [
        "mb0ic3ih5oc4kh3ph1+bias+relu",
        "g3mb0ic3ih5oc3kh3",
        "mb0ic4ih3oc4kh1+nhwc+f16",
    ] {
        let conv: Conv2d = line.parse().expect("a valid problem");
        let plan = Plan::new(&conv, gpu.capability()).expect("a plan");
        let w = check::integers(conv.filter().len(), 3, 1);
        let bias = conv
            .bias()
            .then(|| check::integers(conv.output().c(), 3, 3));
        let y = check::run_conv(gpu, &plan, &[], &w, bias.as_deref(), None);
        assert_eq!(
            y.unwrap_or_else(|error| panic!("{line}: {error}")),
            [0.0f64; 0]
        );
    }
    let pool: Pool2d = "mb0ic3ih4kh2+indices".parse().expect("a valid problem");
    let plan = Plan::new(&pool, gpu.capability()).expect("a plan");
    let (y, indices) = check::run_pool(gpu, &plan, &[]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((y, indices), (vec![], Some(vec![])));
    let relu = TensorDesc::new([0, 3, 4, 4], Layout::Nhwc, DType::Bf16)
        .and_then(|x| Relu::new(&x, &x))
        .expect("a valid problem");
    let plan = Plan::new(&relu, gpu.capability()).expect("a plan");
    assert_eq!(
        check::run_relu(gpu, &plan, &[]).unwrap_or_else(|error| panic!("{error}")),
        [0.0f64; 0]
    );
}

#[test]
fn after_an_error_the_device_still_works() {
    let gpu = gpu();
    let problem: Conv2d = "mb1ic4ih5oc4kh3ph1".parse().expect("a valid problem");
    let plan = Plan::new(&problem, gpu.capability()).expect("a plan");
    let prepared = gpu.prepare(&plan).expect("a kernel that loads");
    let stream = gpu.stream();
    let zeros = |len| stream.alloc_zeros::<f32>(len).expect("memory");
    let (x, w) = (zeros(problem.input().len()), zeros(problem.filter().len()));
    let mut y = zeros(problem.output().len());
    let mut short = zeros(problem.output().len() - 1);
    let short_of_one = Error::Length {
        what: "y",
        expected: problem.output().len(),
        got: problem.output().len() - 1,
    };
    assert_eq!(
        prepared.launch(stream, ConvBuffers::new(&x, &w, &mut short)),
        Err(short_of_one)
    );
    // f16 where the problem has f32.
    let half = |len| stream.alloc_zeros::<half::f16>(len).expect("memory");
    let (hx, hw) = (half(problem.input().len()), half(problem.filter().len()));
    let mut hy = half(problem.output().len());
    let wrong = prepared.launch(stream, ConvBuffers::new(&hx, &hw, &mut hy));
    assert!(matches!(wrong, Err(Error::WrongDType { .. })), "{wrong:?}");
    // A bias that the problem does not have.
    let bias = zeros(problem.output().c());
    let extra = prepared.launch(stream, ConvBuffers::new(&x, &w, &mut y).bias(&bias));
    assert!(
        matches!(extra, Err(Error::UnexpectedBuffer { .. })),
        "{extra:?}"
    );
    conv("mb1ic4ih5oc4kh3ph1");
}

#[test]
fn a_plan_keeps_its_indices_within_a_byte() {
    // A window that lies wholly in padding has no maximum.
    max_pool("mb1ic3ih6kh2sh2ph2+indices");
    max_pool("mb1ic3ih6kh2sh2ph2+indices+nhwc");
    // The largest window that has indices.
    max_pool("mb1ic2ih18kh15kw17+indices");
    let pool = Pool2d::builder()
        .input(1, 1, 20, 20)
        .kernel(16, 16)
        .kind(PoolKind::Max { indices: true });
    assert!(matches!(pool.build(), Err(Error::IndexRange { .. })));
}

#[test]
fn more_than_two_to_the_31_elements() {
    let gpu = gpu();
    if gpu.kind() == DeviceKind::Emulator {
        // Such a tensor is 4 GiB, and a launch over it takes the emulator minutes.
        return;
    }
    let n = (1usize << 31) / (64 * 64 * 64) + 3;
    let relu = TensorDesc::new([n, 64, 64, 64], Layout::Nchw, DType::F16)
        .and_then(|x| Relu::new(&x, &x))
        .expect("a valid problem");
    let plan = Plan::new(&relu, gpu.capability()).expect("a plan");
    let prepared = gpu.prepare(&plan).expect("a kernel that loads");
    let stream = gpu.stream();
    let len = relu.input().len();
    assert!(len > 1 << 31);
    let mut x = stream.alloc_zeros::<half::f16>(len).expect("memory");
    let mut y = stream.alloc_zeros::<half::f16>(len).expect("memory");
    let image = 64 * 64 * 64;
    let last: Vec<half::f16> = (0..image)
        .map(|i| half::f16::from_f32((i % 7) as f32 - 3.0))
        .collect();
    stream
        .memcpy_htod(&last, &mut x.slice_mut(len - image..))
        .expect("a copy");
    prepared
        .launch(stream, UnaryBuffers { x: &x, y: &mut y })
        .unwrap_or_else(|error| panic!("{error}"));
    let got = stream.clone_dtoh(&y.slice(len - image..)).expect("a copy");
    assert!(
        got.iter()
            .zip(&last)
            .all(|(y, x)| y.to_f32() == x.to_f32().max(0.0))
    );

    let conv = Conv2d::builder()
        .input(n, 64, 64, 64)
        .filters(1)
        .kernel(1, 1)
        .dtype(DType::F16);
    let conv = conv.build().expect("a valid problem");
    let plan = Plan::new(&conv, gpu.capability()).expect("a plan");
    let prepared = gpu.prepare(&plan).expect("a kernel that loads");
    let ones = vec![half::f16::ONE; conv.filter().len()];
    let w = stream.clone_htod(&ones).expect("a copy");
    let mut sums = stream
        .alloc_zeros::<half::f16>(conv.output().len())
        .expect("memory");
    prepared
        .launch(stream, ConvBuffers::new(&x, &w, &mut sums))
        .unwrap_or_else(|error| panic!("{error}"));
    let plane = 64 * 64;
    let got = stream
        .clone_dtoh(&sums.slice(conv.output().len() - plane..))
        .expect("a copy");
    for (pixel, sum) in got.iter().enumerate() {
        let want: f32 = (0..64).map(|c| last[c * plane + pixel].to_f32()).sum();
        assert_eq!(sum.to_f32(), want, "pixel {pixel} of the last image");
    }
}
