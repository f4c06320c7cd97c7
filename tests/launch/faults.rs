//! A kernel that is handed memory too short for its problem: the emulator's report comes back in
//! the error. A process of its own, for a fault ends a context.
#![cfg(feature = "emulator")]

use crate::common::process::own_process;
use crate::common::{gpu, small_conv, zeros};
use cudarc::driver::{DevicePtr, DevicePtrMut};
use warpconv::Error;
use warpconv::device::DeviceKind;
use warpconv::launch::ConvPointers;
use warpconv::plan::Plan;

#[test]
fn an_output_beyond_its_allocation_is_reported_and_sticks() {
    own_process(|| {
        let gpu = gpu();
        if gpu.kind() == DeviceKind::Gpu {
            // Hardware may well not notice.
            return;
        }
        if let Some(emulator) = gpu.emulator() {
            emulator.silence(true);
        }
        let problem = small_conv().to_builder().bias(false).build().unwrap();
        let plan = Plan::new(&problem, gpu.capability()).unwrap();
        let prepared = gpu.prepare(&plan).unwrap();
        let (x, w) = (
            zeros::<f32>(problem.input().len()),
            zeros::<f32>(problem.filter().len()),
        );
        let mut y = zeros::<f32>(problem.output().len() - 1);
        gpu.synchronize().unwrap();
        let stream = gpu.stream();
        let pointers = ConvPointers {
            x: x.device_ptr(stream).0,
            w: w.device_ptr(stream).0,
            y: y.device_ptr_mut(stream).0,
            ..ConvPointers::default()
        };
        // SAFETY: not kept, on purpose: y is one element short. The emulator stops the kernel
        // before it writes there.
        let launched = unsafe { prepared.launch_raw(stream.cu_stream(), pointers) };
        let error = launched.and_then(|()| gpu.synchronize()).unwrap_err();
        let Error::Driver {
            code: 700, message, ..
        } = &error
        else {
            panic!("{error}")
        };
        assert!(message.contains(&plan.kernel().name()), "{message}");
        let again = gpu.synchronize().unwrap_err();
        assert!(matches!(again, Error::Driver { code: 700, .. }), "{again}");
    });
}
