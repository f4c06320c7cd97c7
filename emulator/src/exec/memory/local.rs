//! Local memory: bytes of one thread. The words of the 32 lanes are interleaved, so that the same
//! variable of all lanes is one row.
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::ir::{AccessType, Reg, Space, Width};
use crate::report::{AccessKind, FaultKind, Region};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Checks the address of a lane's access.
fn check(w: &Warp, kind: AccessKind, lane: usize, address: u64, bytes: u32) -> Outcome {
    let touched = touch(kind, Space::Local, address, bytes);
    let all = u64::from(w.local.bytes);
    let region = || {
        let label = Some("local memory".to_owned());
        Some(Region {
            sequence: None,
            label,
            base: 0,
            bytes: all,
        })
    };
    if address > all || u64::from(bytes) > all - address {
        return Err(UnlocatedFault::lane(
            lane,
            FaultKind::OutOfBounds {
                touch: touched,
                nearest: region(),
            },
        ));
    }
    if !address.is_multiple_of(u64::from(bytes)) {
        let kind = FaultKind::Misaligned {
            touch: touched,
            align: bytes,
            nearest: region(),
        };
        return Err(UnlocatedFault::lane(lane, kind));
    }
    Ok(())
}

/// `ld.local`.
pub(crate) fn load(
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes);
    for lane in lanes(m) {
        check(
            w,
            AccessKind::Read,
            lane,
            address[lane],
            bytes * u32::from(access.count),
        )?;
        for (j, &reg) in d.iter().enumerate().take(usize::from(access.count)) {
            let value = w
                .local
                .read(lane, address[lane] + (j as u64) * u64::from(bytes), bytes);
            put(w, lane, reg, access, value);
        }
    }
    Ok(())
}

/// `st.local`.
pub(crate) fn store(
    w: &mut Warp,
    m: u32,
    access: AccessType,
    src: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let bytes = u32::from(access.bytes);
    for lane in lanes(m) {
        check(
            w,
            AccessKind::Write,
            lane,
            address[lane],
            bytes * u32::from(access.count),
        )?;
        for (j, &reg) in src.iter().enumerate().take(usize::from(access.count)) {
            let value = get(w, lane, reg, access.reg);
            w.local.write(
                lane,
                address[lane] + (j as u64) * u64::from(bytes),
                bytes,
                value,
            );
        }
    }
    Ok(())
}

/// Writes a loaded element to a lane of its register, sign- or zero-extended.
#[inline(always)]
pub(crate) fn put(w: &mut Warp, lane: usize, reg: Reg, access: AccessType, value: u64) {
    if reg.is_none() {
        return;
    }
    let value = if access.signed {
        let shift = 64 - u32::from(access.bytes) * 8;
        ((value << shift) as i64 >> shift) as u64
    } else {
        value
    };
    match access.reg {
        Width::W16 => w.u32s_mut(reg)[lane] = value as u32 & 0xffff,
        Width::W32 => w.u32s_mut(reg)[lane] = value as u32,
        Width::W64 => w.u64s_mut(reg)[lane] = value,
    }
}

/// The value of a lane of a register.
#[inline(always)]
pub(crate) fn get(w: &Warp, lane: usize, reg: Reg, width: Width) -> u64 {
    match width {
        Width::W64 => w.u64s(reg)[lane],
        _ => u64::from(w.u32s(reg)[lane]),
    }
}

/// `ld.param` of kernel parameters.
pub(crate) fn load_param(
    cx: &Context,
    w: &mut Warp,
    m: u32,
    access: AccessType,
    d: [Reg; 4],
    address: &[u64; 32],
) -> Outcome {
    let element = usize::from(access.bytes);
    let first = address[(m.trailing_zeros() & 31) as usize];
    // Usually all lanes read the same parameter.
    let same = address.iter().all(|&a| a == first);
    for lane in lanes(if same { m & m.wrapping_neg() } else { m }) {
        let at = check_param(cx, lane, access, address[lane])?;
        for (j, &reg) in d.iter().enumerate().take(usize::from(access.count)) {
            let mut value = [0; 8];
            value[..element].copy_from_slice(&cx.grid.params[at + j * element..][..element]);
            let value = u64::from_le_bytes(value);
            match access.reg {
                _ if !same || reg.is_none() || access.signed => {
                    for lane in if same { lanes(m) } else { lanes(1 << lane) } {
                        put(w, lane, reg, access, value);
                    }
                }
                Width::W16 => w.set32(m, reg, &[value as u32 & 0xffff; 32]),
                Width::W32 => w.set32(m, reg, &[value as u32; 32]),
                Width::W64 => w.set64(m, reg, &[value; 32]),
            }
        }
    }
    Ok(())
}

/// Checks the offset of a parameter.
fn check_param(
    cx: &Context,
    lane: usize,
    access: AccessType,
    address: u64,
) -> Result<usize, Box<UnlocatedFault>> {
    let bytes = u64::from(access.bytes) * u64::from(access.count);
    let all = cx.grid.params.len() as u64;
    if address <= all && bytes <= all - address && address.is_multiple_of(bytes) {
        return Ok(address as usize);
    }
    let touch = touch(AccessKind::Read, Space::Param, address, bytes as u32);
    let label = Some("kernel parameters".to_owned());
    let nearest = Some(Region {
        sequence: None,
        label,
        base: 0,
        bytes: all,
    });
    let kind = if address > all || bytes > all - address {
        FaultKind::OutOfBounds { touch, nearest }
    } else {
        FaultKind::Misaligned {
            touch,
            align: bytes as u32,
            nearest,
        }
    };
    Err(UnlocatedFault::lane(lane, kind))
}
