//! Tensor maps that a kernel modifies.
use crate::exec::instructions::bulk_access::{read_global, shared_part, write_global};
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{compute, sort};
use crate::exec::memory::shared::{actor, byte_slice, byte_slice_mut, read_units, write_units};
use crate::ir::{Address, Op, Reg, Space};
use crate::report::{AccessKind, AsyncFault};
use crate::sanitizer::{Outcome, UnlocatedFault};
use crate::tensor_map::{Field, MAP_BYTES, MapError, NoMap, TensorMap};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::ReplaceField {
            space,
            map,
            field,
            value,
        } => {
            replace(cx, w, m, (space, map), (field, value))?;
        }
        Op::CopyMap { dst, src } => copy(cx, w, m, [dst, src])?,
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

type Bytes = [u8; MAP_BYTES];

/// Alignment of a map in shared memory, in bytes (PTX ISA, `tensormap.cp_fenceproxy`).
const ALIGN: u32 = 128;

/// Reads a map in shared memory by a lane's ordinary loads.
fn read_shared(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    at: u64,
) -> Result<Bytes, Box<UnlocatedFault>> {
    shared_part(cx, lane, AccessKind::Read, at, ALIGN, ALIGN)?;
    let touched = touch(AccessKind::Read, Space::Shared, at, ALIGN);
    read_units(cx, &actor(w, lane, false), touched)?;
    let mut bytes = [0; MAP_BYTES];
    bytes.copy_from_slice(&byte_slice(&cx.shared.words)[at as usize..][..MAP_BYTES]);
    Ok(bytes)
}

/// The bytes of a map with a field replaced.
fn replaced(bytes: &Bytes, field: Field, value: u64) -> Result<Bytes, NoMap> {
    let map = match TensorMap::decode(bytes) {
        Ok(map) => map,
        // A kernel that builds a map zeroes its bytes first.
        Err(NoMap::NotEncoded) if *bytes == [0; MAP_BYTES] => TensorMap::blank(),
        Err(why) => return Err(why),
    };
    map.replace(field, value)
        .map(|map| map.encode())
        .map_err(|error| match error {
            MapError::Invalid(why) | MapError::Unsupported(why) => NoMap::Invalid(why),
        })
}

/// `tensormap.replace`
pub(crate) fn replace(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    (space, addr): (Space, Address),
    (field, value): (Field, Reg),
) -> Outcome {
    let address = compute(w, addr);
    let parts = match space {
        Space::Generic => sort(m, &address).to_vec(),
        _ => vec![(space, m, address)],
    };
    for (space, mask, address) in parts {
        for lane in lanes(mask) {
            let at = address[lane];
            let value = if field.is_wide() {
                w.u64s(value)[lane]
            } else {
                u64::from(w.u32s(value)[lane])
            };
            let none = |why| {
                UnlocatedFault::lane(lane, AsyncFault::NoTensorMap { address: at, why }.into())
            };
            if space == Space::Shared {
                let new = replaced(&read_shared(cx, w, lane, at)?, field, value).map_err(none)?;
                let touched = touch(AccessKind::Write, Space::Shared, at, ALIGN);
                write_units(cx, &actor(w, lane, false), touched, &new)?;
                byte_slice_mut(&mut cx.shared.words)[at as usize..][..MAP_BYTES]
                    .copy_from_slice(&new);
            } else {
                let mut bytes = [0; MAP_BYTES];
                read_global(cx, w, lane, at, &mut bytes)?;
                write_global(
                    cx,
                    w,
                    lane,
                    at,
                    &replaced(&bytes, field, value).map_err(none)?,
                )?;
            }
        }
    }
    Ok(())
}

/// `tensormap.cp_fenceproxy`: all lanes give the same map, which is copied once.
pub(crate) fn copy(cx: &mut Context, w: &mut Warp, m: u32, [dst, src]: [Address; 2]) -> Outcome {
    let (target, source) = (compute(w, dst), compute(w, src));
    let mut done = None;
    for lane in lanes(m) {
        let places = (target[lane], source[lane]);
        if done != Some(places) {
            let bytes = read_shared(cx, w, lane, source[lane])?;
            write_global(cx, w, lane, target[lane], &bytes)?;
            done = Some(places);
        }
    }
    Ok(())
}
