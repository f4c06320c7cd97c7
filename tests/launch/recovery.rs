//! A device can be opened again after a kernel has faulted, as `warpconv verify` does. On the
//! emulator: no test may break a GPU that others use.

#![cfg(feature = "emulator")]

use crate::common::process::own_process;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::launch::ConvPointers;
use warpconv::plan::Plan;
use warpconv::problem::Conv2d;
use warpconv_testing as check;
use warpconv_testing::Tolerance;
use warpconv_testing::reference;

#[test]
fn a_fault_is_sticky_until_the_context_is_gone() {
    own_process(|| {
        let choice = DeviceChoice::Emulator { sm: 80 };
        let conv: Conv2d = "mb1ic3ih6oc4kh3ph1".parse().unwrap();
        let compute = |gpu: &Gpu| {
            let plan = Plan::new(&conv, gpu.capability()).unwrap();
            let x = check::integers(conv.input().elements(), 4, 1);
            let w = check::integers(conv.filter().len(), 4, 2);
            let y = check::run_conv(gpu, &plan, &x, &w, None, None)?;
            let want = reference::conv2d(&conv, &x, &w, None, None).unwrap();
            check::compare(
                &y,
                &want,
                check::extents(conv.output()),
                conv.input().dtype(),
                Tolerance::Exact,
            )
            .unwrap();
            Ok::<(), check::RunError>(())
        };

        let gpu = Gpu::open(&choice).unwrap();
        compute(&gpu).unwrap();
        let plan = Plan::new(&conv, gpu.capability()).unwrap();
        let prepared = gpu.prepare(&plan).unwrap();
        let nowhere = ConvPointers {
            x: 1 << 20,
            w: 2 << 20,
            y: 3 << 20,
            ..ConvPointers::default()
        };
        // SAFETY: not safe, and that is the point: the emulator checks every access and reports
        // this one.
        let launched = unsafe { prepared.launch_raw(gpu.stream().cu_stream(), nowhere) };
        assert!(launched.and_then(|()| gpu.synchronize()).is_err());
        assert!(gpu.synchronize().is_err(), "the fault stays");
        assert!(compute(&gpu).is_err(), "and fails what follows");

        drop((prepared, gpu));
        let gpu = Gpu::open(&choice).unwrap();
        gpu.synchronize().unwrap();
        compute(&gpu).unwrap();
    });
}
