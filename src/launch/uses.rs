//! Guard that orders a launch behind the earlier uses of its buffers, and later uses behind the
//! launch.
//!
//! cudarc keeps two events per slice, the last read and the last write, which all views of the
//! slice share. Its accessors make a stream wait for the write (and for the read, before a write)
//! and record the use afterwards. Three things are missing there, and are done here or in
//! [`contexts`](crate::device):
//!
//! - cudarc does neither while it counts no stream, and it counts none once the last `CudaStream`
//!   is dropped, though the work in it goes on, and none for per-thread streams. A
//!   [`Gpu`](crate::device::Gpu) therefore keeps its context's count above zero.
//! - Recording an event forgets what it stood for. A read in a second stream would hide the read in
//!   the first, so that a later write, or a free, would wait for the second alone. A [`Use`] waits
//!   for the event before it records it again: behind the launch, so that launches which read the
//!   same buffer in different streams still run side by side.
//! - Two threads that read one slice, or write two halves of one, would each wait for the same old
//!   event and record a new one, of which the second stays. Waiting and recording are one step
//!   here, under a lock.

use std::sync::{Mutex, PoisonError};

use cudarc::driver::{CudaEvent, CudaStream, SyncOnDrop, sys};

use super::buffer::{DeviceBuffer, DeviceBufferMut};

/// Locks for the events, shared out by their handles: two events with the same lock cost time,
/// nothing else.
static LOCKS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];

/// A launch's use of a buffer in a stream. To be dropped once the launch is queued: that makes
/// later uses wait for it.
#[must_use]
pub(crate) struct Use<'a> {
    /// Guard whose drop records the use.
    record: Option<SyncOnDrop<'a>>,
    /// The event that is about to be recorded, where it may stand for work that the launch did not
    /// wait for.
    shared: Option<&'a CudaEvent>,
    stream: &'a CudaStream,
}

impl<'a> Use<'a> {
    fn new(record: SyncOnDrop<'a>, stream: &'a CudaStream, shared: bool) -> Use<'a> {
        let shared = match &record {
            SyncOnDrop::Record(Some((event, _))) if shared => Some(*event),
            _ => None,
        };
        Use {
            record: Some(record),
            shared,
            stream,
        }
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let context = self.stream.context();
        let Some(event) = self.shared else {
            return;
        };
        if !context.is_managing_stream_synchronization() {
            return;
        }
        let address = event.cu_event() as usize;
        // Handles are addresses of the driver's objects: the lowest bits say little.
        let lock = &LOCKS[(address >> 6 ^ address >> 12) % LOCKS.len()];
        let _step = lock.lock().unwrap_or_else(PoisonError::into_inner);
        context.record_err(self.stream.wait(event));
        drop(self.record.take());
    }
}

/// A buffer's address for a launch that reads it: the stream waits for the buffer's last write.
pub(crate) fn read<'a, T>(
    buffer: &'a (dyn DeviceBuffer<T> + 'a),
    stream: &'a CudaStream,
) -> (sys::CUdeviceptr, Use<'a>) {
    let (address, record) = buffer.device_ptr(stream);
    (address, Use::new(record, stream, true))
}

/// A buffer's address for a launch that writes it: the stream waits for the buffer's last read and
/// its last write.
pub(crate) fn write<'a, T>(
    buffer: &'a mut (dyn DeviceBufferMut<T> + 'a),
    stream: &'a CudaStream,
) -> (sys::CUdeviceptr, Use<'a>) {
    // Of a whole slice nobody else has a part while it is borrowed here; of a view's slice another
    // thread may.
    let shared = buffer.is_part();
    let (address, record) = buffer.device_ptr_mut(stream);
    (address, Use::new(record, stream, shared))
}

#[cfg(test)]
#[cfg(feature = "emulator")]
mod tests {
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
}
