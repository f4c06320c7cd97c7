//! Uses of one buffer in several streams.

use std::ffi::c_void;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut};

use super::*;
use crate::device::{DeviceChoice, Gpu};

/// Keeps a stream busy until the returned end is dropped.
fn block(stream: &CudaStream) -> Sender<()> {
    unsafe extern "C" fn wait(end: *mut c_void) {
        // SAFETY: the box given to the driver below, once.
        let end = unsafe { Box::from_raw(end.cast::<Receiver<()>>()) };
        let _ = end.recv_timeout(Duration::from_secs(20));
    }
    let (sender, receiver) = channel();
    let end = Box::into_raw(Box::new(receiver)).cast();
    stream.context().bind_to_thread().unwrap();
    // SAFETY: the function takes over the box and calls nothing of the driver.
    unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), Some(wait), end) }
        .result()
        .unwrap();
    sender
}

fn is_complete(guard: SyncOnDrop<'_>) -> bool {
    let complete = match &guard {
        SyncOnDrop::Record(Some((event, _))) => event.try_is_complete().unwrap(),
        other => panic!("{other:?}"),
    };
    std::mem::forget(guard);
    complete
}

fn last_read(buffer: &CudaSlice<f32>) -> bool {
    is_complete(buffer.device_ptr(&buffer.context().default_stream()).1)
}

fn last_write(buffer: &mut CudaSlice<f32>) -> bool {
    let stream = buffer.context().default_stream();
    is_complete(buffer.device_ptr_mut(&stream).1)
}

/// As two threads may do, whose steps interleave: whatever event is recorded last stands for
/// both uses.
#[test]
fn an_event_stands_for_all_uses_before_it() {
    let gpu = Gpu::open(&DeviceChoice::from_env().unwrap()).unwrap();
    let [busy, other] = [(); 2].map(|()| gpu.context().new_stream().unwrap());
    let mut both = gpu.upload(&[0.0f32; 2]).unwrap();
    gpu.synchronize().unwrap();

    let release = block(&busy);
    let uses = (read(&both, &busy).1, read(&both, &other).1);
    drop(uses);
    assert!(!last_read(&both), "the read of the busy stream is lost");
    drop(release);
    gpu.synchronize().unwrap();
    assert!(last_read(&both));

    let release = block(&busy);
    let (mut left, mut right) = both.split_at_mut(1);
    let uses = (write(&mut left, &busy).1, write(&mut right, &other).1);
    drop(uses);
    assert!(
        !last_write(&mut both),
        "the write of the busy stream is lost"
    );
    drop(release);
    gpu.synchronize().unwrap();
    assert!(last_write(&mut both));
}
