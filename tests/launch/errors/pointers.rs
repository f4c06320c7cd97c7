//! Raw device pointers: alignment, overlap and null are refused before a launch.

use cudarc::driver::{DevicePtrMut, sys};
use warpconv::device::DeviceKind;
use warpconv::launch::Unary;
use warpconv::launch::{ConvPointers, PoolPointers, Prepared, UnaryPointers};
use warpconv::plan::Plan;
use warpconv::problem::{Conv2d, Pool2d, PoolKind, Relu, TensorDesc};
use warpconv::{DType, Error, Layout};

use super::{prepare, works};
use crate::common::{gpu, small_conv, zeros};

/// Pointers of a convolution's operands, laid out by hand in one buffer.
struct Raw {
    plan: Prepared<Conv2d>,
    good: ConvPointers,
    _memory: cudarc::driver::CudaSlice<f32>,
}

impl Raw {
    fn new() -> Raw {
        let problem = small_conv().to_builder().residual(true).build().unwrap();
        let mut memory = zeros::<f32>(8192);
        let base = memory.device_ptr_mut(gpu().stream()).0;
        let at = |elements: u64| base + 4 * elements;
        let good = ConvPointers {
            x: at(0),
            w: at(1024),
            bias: at(2048),
            residual: at(3072),
            y: at(6144),
            workspace: 0,
        };
        Raw {
            plan: prepare(&problem),
            good,
            _memory: memory,
        }
    }

    fn launch(&self, change: impl FnOnce(&mut ConvPointers)) -> Result<(), Error> {
        let mut pointers = self.good;
        change(&mut pointers);
        // SAFETY: every pointer is null, off its alignment or inside the buffer with room for its
        // operand behind it, and the buffer outlives the synchronisation in the tests that launch.
        unsafe { self.plan.launch_raw(gpu().stream().cu_stream(), pointers) }
    }
}

#[test]
fn raw_pointers_are_checked_before_a_launch() {
    let raw = Raw::new();
    raw.launch(|_| {}).unwrap();
    gpu().synchronize().unwrap();
    assert_eq!(
        raw.launch(|p| p.x = 0),
        Err(Error::NullBuffer { buffer: "x" })
    );
    assert_eq!(
        raw.launch(|p| p.w = 0),
        Err(Error::NullBuffer { buffer: "w" })
    );
    assert_eq!(
        raw.launch(|p| p.y = 0),
        Err(Error::NullBuffer { buffer: "y" })
    );
    assert_eq!(
        raw.launch(|p| p.bias = 0),
        Err(Error::MissingBuffer { buffer: "bias" })
    );
    assert_eq!(
        raw.launch(|p| p.residual = 0),
        Err(Error::MissingBuffer { buffer: "residual" })
    );
    let address = raw.good.w + 2;
    assert_eq!(
        raw.launch(|p| p.w += 2),
        Err(Error::Misaligned {
            buffer: "w",
            address,
            needs: 4,
            has: 2
        })
    );
    for read in ["x", "w", "bias", "residual"] {
        let error = raw.launch(|p| {
            let shared = match read {
                "x" => &mut p.x,
                "w" => &mut p.w,
                "bias" => &mut p.bias,
                _ => &mut p.residual,
            };
            *shared = p.y + 4;
        });
        assert_eq!(error, Err(Error::Overlap { written: "y", read }));
    }
    // The output's own elements may be added, and nothing else may be the output.
    raw.launch(|p| p.residual = p.y).unwrap();
    gpu().synchronize().unwrap();
    assert_eq!(
        raw.launch(|p| p.x = p.y),
        Err(Error::Overlap {
            written: "y",
            read: "x"
        })
    );
    works();
}

#[test]
fn pools_and_relus_check_their_pointers_too() {
    let gpu = gpu();
    let pool = Pool2d::builder()
        .input(1, 2, 6, 6)
        .kernel(2, 2)
        .kind(PoolKind::Max { indices: true })
        .build()
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&pool, gpu.capability()).unwrap())
        .unwrap();
    let mut memory = zeros::<f32>(1024);
    let x = memory.device_ptr_mut(gpu.stream()).0;
    let good = PoolPointers {
        x,
        y: x + 1024,
        indices: x + 2048,
    };
    let launch = |pointers| {
        // SAFETY: refused before anything is launched, see the assertions; the one that is not has
        // room for all.
        unsafe { plan.launch_raw(gpu.stream().cu_stream(), pointers) }
    };
    launch(good).unwrap();
    gpu.synchronize().unwrap();
    let error = launch(PoolPointers { y: x + 4, ..good });
    assert_eq!(
        error,
        Err(Error::Overlap {
            written: "y",
            read: "x"
        })
    );
    let error = launch(PoolPointers {
        indices: x + 1025,
        ..good
    });
    assert_eq!(
        error,
        Err(Error::Overlap {
            written: "indices",
            read: "y"
        })
    );
    let error = launch(PoolPointers { indices: 0, ..good });
    assert_eq!(error, Err(Error::MissingBuffer { buffer: "indices" }));

    let relu = TensorDesc::new([1, 2, 3, 4], Layout::Nchw, DType::F32)
        .and_then(|x| Relu::new(&x, &x))
        .unwrap();
    let plan = gpu
        .prepare(&Plan::new(&relu, gpu.capability()).unwrap())
        .unwrap();
    // SAFETY: refused before anything is launched.
    let error = unsafe { plan.launch_raw(gpu.stream().cu_stream(), UnaryPointers { x, y: x + 4 }) };
    assert_eq!(
        error,
        Err(Error::Overlap {
            written: "y",
            read: "x"
        })
    );
    let [input, output] = [0, 1].map(|offset| relu.input().slice(4, offset).unwrap());
    let slices = Relu::new(&input, &output).unwrap();
    let plan = gpu
        .prepare(&Plan::new(&slices, gpu.capability()).unwrap())
        .unwrap();
    let error = plan.launch_in_place(gpu.stream(), &mut zeros::<f32>(48));
    assert_eq!(
        error,
        Err(Error::Overlap {
            written: "y",
            read: "x"
        })
    );
    works();
}

/// The driver's own failure becomes an error with its code.
#[test]
fn a_stream_that_is_none_is_the_drivers_error() {
    let gpu = gpu();
    if gpu.kind() == DeviceKind::Gpu {
        // NVIDIA's driver does not check handles.
        return;
    }
    let raw = Raw::new();
    let nowhere = 0xdead_0000usize as sys::CUstream;
    // SAFETY: the emulator refuses handles that it has not given.
    let error = unsafe { raw.plan.launch_raw(nowhere, raw.good) }.unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Driver {
                operation: "launching a kernel",
                ..
            }
        ),
        "{error}"
    );
    works();
}
