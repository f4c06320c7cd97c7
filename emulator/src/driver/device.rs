//! Devices and their properties.

use std::ffi::{c_char, c_int, c_uint};

use crate::driver::state::{Device, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{In, Ordinal, Out, Uuid, check, copy_text, text};

/// An identifier that is the same in every process: the emulator's name, the capability and the
/// ordinal.
fn uuid(device: &Device) -> Uuid {
    let mut bytes = *b"ptx-emulator\0\0\0\0";
    bytes[13] = device.card.capability as u8;
    bytes[15] = device.ordinal as u8;
    Uuid(bytes)
}

fn bus_id(device: &Device) -> String {
    format!(
        "0000:{:02X}:{:02X}.0",
        1 + device.ordinal / 32,
        device.ordinal % 32
    )
}

fn attribute(attribute: c_int, ordinal: Ordinal) -> Result<i32> {
    let device = driver()?.device(ordinal)?;
    device
        .card
        .attribute(attribute, ordinal)
        .ok_or(CUresult::INVALID_VALUE)
}

driver! {
    fn cuDeviceGet(device: Out<Ordinal>, ordinal: c_int) {
        driver()?.device(ordinal)?;
        device.set(ordinal)
    }

    fn cuDeviceGetCount(count: Out<c_int>) {
        count.set(driver()?.device_count() as c_int)
    }

    fn cuDeviceGetName(name: Out<c_char>, length: c_int, device: Ordinal) {
        copy_text(driver()?.device(device)?.card.name, name, length)
    }

    fn cuDeviceGetUuid(id: Out<Uuid>, device: Ordinal) {
        id.set(uuid(&*driver()?.device(device)?))
    }

    fn cuDeviceGetUuid_v2(id: Out<Uuid>, device: Ordinal) {
        id.set(uuid(&*driver()?.device(device)?))
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: Ordinal) {
        bytes.set(driver()?.device(device)?.memory_bytes as usize)
    }

    fn cuDeviceGetAttribute(value: Out<c_int>, number: c_int, device: Ordinal) {
        check(!value.is_null())?;
        value.set(attribute(number, device)?)
    }

    fn cuDeviceComputeCapability(major: Out<c_int>, minor: Out<c_int>, device: Ordinal) {
        major.set(attribute(75, device)?)?;
        minor.set(attribute(76, device)?)
    }

    fn cuDeviceGetPCIBusId(id: Out<c_char>, length: c_int, device: Ordinal) {
        copy_text(&bus_id(&*driver()?.device(device)?), id, length)
    }

    fn cuDeviceGetByPCIBusId(device: Out<Ordinal>, id: In<c_char>) {
        let wanted = text(id)?;
        let found = driver()?.devices().iter()
            .position(|device| bus_id(device).eq_ignore_ascii_case(&wanted));
        device.set(found.ok_or(CUresult::INVALID_DEVICE)? as Ordinal)
    }

    fn cuDeviceGetLuid(_luid: Out<c_char>, _mask: Out<c_uint>, _device: Ordinal) {
        Err(CUresult::NOT_SUPPORTED)
    }

    // Kernels cannot access addresses of another device; copies between devices need no such
    // access.
    fn cuDeviceCanAccessPeer(can: Out<c_int>, device: Ordinal, peer: Ordinal) {
        driver()?.device(device)?;
        driver()?.device(peer)?;
        can.set(0)
    }

    fn cuDeviceGetP2PAttribute(
        value: Out<c_int>, _attribute: c_int, device: Ordinal, peer: Ordinal,
    ) {
        driver()?.device(device)?;
        driver()?.device(peer)?;
        check(device != peer)?;
        value.set(0)
    }

    fn cuDeviceGetExecAffinitySupport(supported: Out<c_int>, _kind: c_int, device: Ordinal) {
        driver()?.device(device)?;
        supported.set(0)
    }
}
