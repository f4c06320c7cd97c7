//! A fault of safe code: with its last stream gone, cudarc takes all work to be in one stream and
//! waits for nothing.

use cudarc::driver::sys::CUresult;
use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::harness::library;
use crate::common::{SCALE, context, kernel};

#[test]
fn a_dropped_stream_of_cudarc_is_not_waited_for() {
    own_process!();
    let library = library();
    for dropped in [false, true] {
        library.reset();
        let context = context(80);
        let scale = kernel(&context, SCALE, "scale");
        let default = context.default_stream();
        let stream = context.new_stream().expect("a stream");
        let mut y = default.clone_htod(&[1.0f32; 100]).expect("a copy");
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut y).arg(&2.0f32).arg(&100u32);
        // SAFETY: the kernel keeps to the elements.
        unsafe { launch.launch(LaunchConfig::for_num_elems(100)) }.expect("a launch");
        drop(launch);
        let kept = if dropped {
            drop(stream);
            None
        } else {
            Some(stream)
        };
        let result = default.clone_dtoh(&y);
        drop(kept);
        if !dropped {
            assert_eq!(result, Ok(vec![2.0; 100]));
            continue;
        }
        // Whatever was read: once both have run, the context is broken.
        assert_eq!(
            context.synchronize().map_err(|error| error.0),
            Err(CUresult::CUDA_ERROR_LAUNCH_FAILED)
        );
        let text = library.last_report().expect("a report").text;
        assert!(
            text.starts_with("not ordered: read of 400 bytes at ")
                && text.contains("does not wait for kernel scale in non-blocking stream "),
            "{text}"
        );
    }
}
