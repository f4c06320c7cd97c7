//! The card's clocks during a measurement, as NVML reports them; a time is hard to interpret
//! without its clock.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use libloading::Library;
use warpconv::device::{DeviceKind, Gpu};

type Device = *mut c_void;
type Plain = unsafe extern "C" fn() -> c_int;
type ByBus = unsafe extern "C" fn(*const c_char, *mut Device) -> c_int;
type Clock = unsafe extern "C" fn(Device, c_int, *mut c_uint) -> c_int;
type Number = unsafe extern "C" fn(Device, *mut c_uint) -> c_int;

/// `NVML_CLOCK_SM`.
const SM: c_int = 1;
/// `NVML_CLOCK_MEM`.
const MEMORY: c_int = 2;

/// NVML, opened for one device.
pub struct Clocks {
    library: Library,
    device: Device,
}

/// Clocks and power of the card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Clock of the multiprocessors, MHz.
    pub sm_mhz: u32,
    /// Clock of the memory, MHz.
    pub memory_mhz: u32,
    /// Power draw, milliwatts.
    pub milliwatts: u32,
}

impl Clocks {
    /// Opens NVML for the device of `gpu`; `None` where there is no NVML (and on the emulator).
    pub fn open(gpu: &Gpu) -> Option<Clocks> {
        if gpu.kind() == DeviceKind::Emulator {
            return None;
        }
        let bus = CString::new(bus(gpu)?).ok()?;
        // SAFETY: NVML is part of the driver and may be loaded by any program at any time.
        let library = unsafe { Library::new("libnvidia-ml.so.1") }.ok()?;
        let mut device = std::ptr::null_mut();
        // SAFETY: NVML's own signatures; the strings and the pointer outlive the calls.
        let found = unsafe {
            let init = *library.get::<Plain>(b"nvmlInit_v2\0").ok()?;
            let by_bus = *library
                .get::<ByBus>(b"nvmlDeviceGetHandleByPciBusId_v2\0")
                .ok()?;
            init() == 0 && by_bus(bus.as_ptr(), &mut device) == 0
        };
        found.then_some(Clocks { library, device })
    }

    /// Reads the current clocks and power; 0 for values that NVML does not report.
    pub fn read(&self) -> Reading {
        Reading {
            sm_mhz: self.clock(b"nvmlDeviceGetClockInfo\0", SM),
            memory_mhz: self.clock(b"nvmlDeviceGetClockInfo\0", MEMORY),
            milliwatts: self.power(),
        }
    }

    /// The highest clock of the multiprocessors, MHz.
    pub fn most_mhz(&self) -> u32 {
        self.clock(b"nvmlDeviceGetMaxClockInfo\0", SM)
    }

    fn clock(&self, function: &[u8], which: c_int) -> u32 {
        let mut mhz = 0;
        // SAFETY: both clock functions have this signature; the device is NVML's own.
        let status = unsafe {
            match self.library.get::<Clock>(function) {
                Ok(ask) => ask(self.device, which, &mut mhz),
                Err(_) => return 0,
            }
        };
        if status == 0 { mhz } else { 0 }
    }

    fn power(&self) -> u32 {
        let mut milliwatts = 0;
        // SAFETY: as for the clocks.
        let status = unsafe {
            match self.library.get::<Number>(b"nvmlDeviceGetPowerUsage\0") {
                Ok(ask) => ask(self.device, &mut milliwatts),
                Err(_) => return 0,
            }
        };
        if status == 0 { milliwatts } else { 0 }
    }
}

/// The device's PCI bus id, by which NVML finds the same device.
fn bus(gpu: &Gpu) -> Option<String> {
    use cudarc::driver::sys::CUdevice_attribute as Attribute;
    let ask = |attribute| gpu.context().attribute(attribute).ok();
    Some(format!(
        "{:08x}:{:02x}:{:02x}.0",
        ask(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)?,
        ask(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID)?,
        ask(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID)?
    ))
}
