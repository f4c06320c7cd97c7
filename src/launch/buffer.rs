//! The buffers that safe launches take.

use cudarc::driver::{CudaSlice, CudaView, CudaViewMut, DevicePtr, DevicePtrMut};

mod sealed {
    use super::{CudaSlice, CudaView, CudaViewMut};

    pub trait Sealed {
        /// Returns whether it is a view, whose slice may have other views that are used at the same
        /// time.
        fn is_part(&self) -> bool;
    }
    impl<T> Sealed for CudaSlice<T> {
        fn is_part(&self) -> bool {
            false
        }
    }
    impl<T> Sealed for CudaView<'_, T> {
        fn is_part(&self) -> bool {
            true
        }
    }
    impl<T> Sealed for CudaViewMut<'_, T> {
        fn is_part(&self) -> bool {
            true
        }
    }
}

/// Device memory that can be read: cudarc's [`CudaSlice`], [`CudaView`] and [`CudaViewMut`].
///
/// Nothing else: cudarc's [`DevicePtr`] can be implemented, safely, to return any address and any
/// length, and a launch has to rely on both. Memory of another origin goes through `launch_raw`,
/// which is unsafe, or first through
/// [`CudaStream::upgrade_device_ptr`](cudarc::driver::CudaStream::upgrade_device_ptr), which is
/// too.
///
/// ```compile_fail,E0277
/// fn launchable<T>(_: &dyn warpconv::launch::DeviceBuffer<T>) {}
/// fn anything<T>(buffer: &impl cudarc::driver::DevicePtr<T>) {
///     launchable(buffer);
/// }
/// ```
pub trait DeviceBuffer<T>: DevicePtr<T> + sealed::Sealed {}

/// Device memory that can be written: cudarc's [`CudaSlice`] and [`CudaViewMut`]. See
/// [`DeviceBuffer`].
pub trait DeviceBufferMut<T>: DevicePtrMut<T> + sealed::Sealed {}

impl<T> DeviceBuffer<T> for CudaSlice<T> {}
impl<T> DeviceBuffer<T> for CudaView<'_, T> {}
impl<T> DeviceBuffer<T> for CudaViewMut<'_, T> {}
impl<T> DeviceBufferMut<T> for CudaSlice<T> {}
impl<T> DeviceBufferMut<T> for CudaViewMut<'_, T> {}
