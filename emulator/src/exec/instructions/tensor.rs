//! Bulk tensor copies.
use crate::exec::instructions::bulk_access::{begin_store, put_global, read_global, shared_part};
use crate::exec::instructions::cluster::own_offsets;
use crate::exec::instructions::destinations::Destinations;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{compute, space_of, window};
use crate::exec::memory::shared::{byte_slice, byte_slice_mut};
use crate::ir::{Address, AtomOp, AtomTy, Op, Reg, Space};
use crate::report::{AccessKind, AsyncFault, FaultKind};
use crate::sanitizer::{Outcome, UnlocatedFault};
use crate::tensor_map::{MAP_BYTES, MAX_RANK, MapError, NoMap, TensorMap, Walk};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::TensorLoad {
            dst,
            map,
            barrier,
            mode,
            list,
        } => {
            let list = cx.grid.kernel.list(list);
            let (list, mask) = match list.split_last() {
                Some((mask, list)) if mode.multicast() => (list, Some(*mask)),
                _ => (list, None),
            };
            let form = if mode.im2col() {
                Form::Im2col
            } else {
                Form::Tile
            };
            load(cx, w, m, [dst, map, barrier], (list, form), mask)?;
        }
        Op::TensorStore {
            map,
            src,
            im2col,
            reduce,
            list,
        } => {
            let list = cx.grid.kernel.list(list);
            let form = if im2col {
                Form::Im2colNoOffsets
            } else {
                Form::Tile
            };
            store(cx, w, m, [map, src], (list, form), reduce)?;
        }
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// Alignment of a copy's part in shared memory, in bytes.
const SHARED_ALIGN: u32 = 128;

/// The tensor map at a generic address.
fn read_map(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    address: u64,
) -> Result<TensorMap, Box<UnlocatedFault>> {
    let mut bytes = [0; MAP_BYTES];
    let space = space_of(address);
    if !address.is_multiple_of(64) {
        let touch = touch(AccessKind::Read, space, address, MAP_BYTES as u32);
        let kind = FaultKind::Misaligned {
            touch,
            align: 64,
            nearest: None,
        };
        return Err(UnlocatedFault::lane(lane, kind));
    }
    let none = |why| UnlocatedFault::lane(lane, AsyncFault::NoTensorMap { address, why }.into());
    if space == Space::Param {
        let at = (address - window(space)) as usize;
        let found = cx.grid.params.get(at..at + MAP_BYTES);
        let found = found.ok_or_else(|| none(NoMap::NotEncoded))?;
        bytes.copy_from_slice(found);
    } else {
        read_global(cx, w, lane, address, &mut bytes)?;
    }
    let map = TensorMap::decode(&bytes).map_err(none)?;
    map.check().map_err(|error| match error {
        MapError::Invalid(why) | MapError::Unsupported(why) => none(NoMap::Invalid(why)),
    })?;
    Ok(map)
}

/// Naming of the elements by an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `.tile`
    Tile,
    /// `.im2col`: coordinates, then one offset per dimension between channels and images.
    Im2col,
    /// `.im2col_no_offs`: coordinates only.
    Im2colNoOffsets,
}

/// A copy of one lane.
struct Copy {
    map: TensorMap,
    lane: usize,
    /// Its address in shared memory.
    shared: u64,
    at: [i64; MAX_RANK],
    /// For im2col: offsets added to the positions of pixels.
    offsets: [i64; 3],
}

impl Copy {
    fn new(
        cx: &mut Context,
        w: &Warp,
        lane: usize,
        (map, shared): (u64, u64),
        (list, form): (&[Reg], Form),
    ) -> Result<Copy, Box<UnlocatedFault>> {
        let map = read_map(cx, w, lane, map)?;
        let im2col = form != Form::Tile;
        let offsets = form == Form::Im2col;
        let rank = if offsets {
            list.len().div_ceil(2) + 1
        } else {
            list.len()
        };
        let is_im2col = matches!(map.walk, Walk::Im2col { .. });
        if map.rank != rank || is_im2col != im2col {
            let fault = AsyncFault::OtherTensorMap {
                rank: map.rank as u32,
                im2col: is_im2col,
            };
            return Err(UnlocatedFault::lane(lane, fault.into()));
        }
        let value = |i: usize| i64::from(w.u32s(list[i])[lane].cast_signed());
        let mut copy = Copy {
            map,
            lane,
            shared,
            at: std::array::from_fn(|i| if i < rank { value(i) } else { 0 }),
            offsets: [0; 3],
        };
        if offsets {
            for i in 0..rank - 2 {
                copy.offsets[i] = value(rank + i) & 0xffff;
            }
        }
        if im2col {
            copy.check_im2col()?;
        }
        Ok(copy)
    }

    /// Checks that the first pixel lies in the bounding box and the offsets are valid.
    fn check_im2col(&self) -> Outcome {
        let Walk::Im2col { lower, upper, .. } = self.map.walk else {
            return Ok(());
        };
        let most = match self.map.rank {
            3 => 65535,
            4 => 255,
            _ => 31,
        };
        for i in 0..self.map.rank - 2 {
            let (first, last) = self.bounds(i, &lower, &upper);
            let at = self.at[i + 1];
            if at < first || at > last {
                let dim = i as u32 + 1;
                let fault = AsyncFault::Im2colStart {
                    dim,
                    at,
                    first,
                    last,
                };
                return Err(UnlocatedFault::lane(self.lane, fault.into()));
            }
            if self.offsets[i] > most {
                let offset = self.offsets[i];
                let fault = AsyncFault::Im2colOffset { offset, most };
                return Err(UnlocatedFault::lane(self.lane, fault.into()));
            }
        }
        Ok(())
    }

    /// First and last position of the bounding box along the `i`-th dimension between channels and
    /// images.
    fn bounds(&self, i: usize, lower: &[i32; 3], upper: &[i32; 3]) -> (i64, i64) {
        let last = self.map.dims[i + 1] as i64 - 1;
        (lower[i].into(), last + i64::from(upper[i]))
    }

    /// Calls `each` with the index of every row and the position of its first element.
    fn rows(&self, mut each: impl FnMut(u32, &[i64; MAX_RANK]) -> Outcome) -> Outcome {
        let (_, rows) = self.map.rows();
        match self.map.walk {
            Walk::Tile { .. } => {
                let counts: [u32; MAX_RANK] = std::array::from_fn(|dim| self.map.count(dim));
                for row in 0..rows {
                    let mut place = self.at;
                    let mut left = row;
                    for dim in 1..MAX_RANK {
                        place[dim] += i64::from(left % counts[dim] * self.map.steps[dim]);
                        left /= counts[dim];
                    }
                    each(row, &place)?;
                }
            }
            Walk::Im2col { lower, upper, .. } => {
                let mut pixel = self.at;
                let images = self.map.rank - 1;
                for row in 0..rows {
                    let mut place = pixel;
                    for i in 0..images - 1 {
                        place[i + 1] += self.offsets[i];
                    }
                    each(row, &place)?;
                    self.next_pixel(&mut pixel, &lower, &upper);
                }
            }
        }
        Ok(())
    }

    /// Advances to the next pixel of the bounding box; after the last pixel of an image to the
    /// first one of the next image.
    fn next_pixel(&self, pixel: &mut [i64; MAX_RANK], lower: &[i32; 3], upper: &[i32; 3]) {
        let images = self.map.rank - 1;
        for i in 0..images - 1 {
            let (first, last) = self.bounds(i, lower, upper);
            pixel[i + 1] += i64::from(self.map.steps[i + 1]);
            if pixel[i + 1] <= last {
                return;
            }
            pixel[i + 1] = first;
        }
        pixel[images] += i64::from(self.map.steps[images]);
    }

    /// The part of a row inside the tensor: its first byte within the row, its number of bytes, its
    /// address.
    fn inside(&self, place: &[i64; MAX_RANK]) -> Option<(usize, usize, u64)> {
        let map = &self.map;
        let outer = 1..map.rank;
        if outer
            .clone()
            .any(|dim| place[dim] < 0 || place[dim] >= map.dims[dim] as i64)
        {
            return None;
        }
        let first = place[0].max(0);
        let end = (place[0] + i64::from(map.count(0))).min(map.dims[0] as i64);
        if first >= end {
            return None;
        }
        let size = u64::from(map.size);
        let offset = outer.fold(first as u64 * size, |sum, dim| {
            sum.wrapping_add((place[dim] as u64).wrapping_mul(map.strides[dim]))
        });
        let skip = (first - place[0]) as u64 * size;
        let bytes = (end - first) as u64 * size;
        Some((
            skip as usize,
            bytes as usize,
            map.address.wrapping_add(offset),
        ))
    }

    /// Bytes of shared memory that the copy occupies, and bytes that it transfers.
    fn bytes(&self) -> (u32, u32) {
        let (row, rows) = self.map.rows();
        let moved = row * rows;
        (moved.next_multiple_of(self.map.swizzle.span()), moved)
    }

    fn fill(&self, row: &mut [u8]) {
        row.fill(0);
        if self.map.nan {
            let size = self.map.size as usize;
            for element in row.chunks_exact_mut(size) {
                element.fill(0xff);
                element[size - 1] = 0x7f;
            }
        }
    }
}

/// `cp.async.bulk.tensor` to shared memory. `list`: the coordinates, then the offsets of im2col.
/// `mask`: the destination blocks in the cluster.
pub(crate) fn load(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    [dst, map, barrier]: [Address; 3],
    list: (&[Reg], Form),
    mask: Option<Reg>,
) -> Outcome {
    let (target, maps) = (compute(w, dst), compute(w, map));
    let barrier = compute(w, barrier);
    for lane in lanes(m) {
        let copy = Copy::new(cx, w, lane, (maps[lane], target[lane]), list)?;
        let (touched, moved) = copy.bytes();
        let places = [copy.shared, barrier[lane]];
        let written = (AccessKind::Write, touched, SHARED_ALIGN);
        let mut to = Destinations::new(cx, w, lane, places, written, mask)?;
        to.begin(cx, w, lane, (touched, false))?;
        let mut row = vec![0; (copy.map.rows().0) as usize];
        let mut filled = false;
        copy.rows(|number, place| {
            let inside = copy.inside(place);
            if !filled && inside.is_none_or(|(_, bytes, _)| bytes < row.len()) {
                copy.fill(&mut row);
            }
            filled = inside.is_none();
            if let Some((skip, bytes, address)) = inside {
                read_global(cx, w, lane, address, &mut row[skip..skip + bytes])?;
            }
            let start = to.at as u32 + number * row.len() as u32;
            to.each(cx, |cx| {
                let shared = byte_slice_mut(&mut cx.shared.words);
                for (i, piece) in row.chunks_exact(16).enumerate() {
                    let at = copy.map.swizzle.apply(start + 16 * i as u32) as usize;
                    shared[at..at + 16].copy_from_slice(piece);
                }
                Ok(())
            })
        })?;
        cx.counters.global_loads.requests += 1;
        to.end(cx, lane, moved)?;
    }
    Ok(())
}

/// Operation of a reduction of a tensor's elements; `None` where it does not exist.
fn reduction(map: &TensorMap, op: AtomOp) -> Option<(AtomOp, AtomTy)> {
    use AtomOp::{Add, And, Dec, Inc, Max, Min, Or, Xor};
    let ty = match (op, map.data_type) {
        (And | Or | Xor, 2 | 3) | (Add | Min | Max | Inc | Dec, 2) => AtomTy::U32,
        (And | Or | Xor, 4 | 5) | (Add | Min | Max, 4) => AtomTy::U64,
        (Add | Min | Max, 3) => AtomTy::S32,
        (Min | Max, 5) => AtomTy::S64,
        (Add | Min | Max, 6) => AtomTy::F16,
        (Add | Min | Max, 9) => AtomTy::Bf16,
        (Add, 7 | 11) => AtomTy::F32,
        (Add, 8) => AtomTy::F64,
        _ => return None,
    };
    Some((op, ty))
}

/// `cp.async.bulk.tensor` from shared memory, and `cp.reduce.async.bulk.tensor`.
pub(crate) fn store(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    [map, src]: [Address; 2],
    list: (&[Reg], Form),
    reduce: Option<AtomOp>,
) -> Outcome {
    let (source, maps) = (compute(w, src), compute(w, map));
    let source = own_offsets(cx, m, &source).unwrap_or(source);
    for lane in lanes(m) {
        let copy = Copy::new(cx, w, lane, (maps[lane], source[lane]), list)?;
        let reduce = match reduce.map(|op| reduction(&copy.map, op)) {
            None => None,
            Some(Some(reduce)) => Some(reduce),
            Some(None) => {
                let why = NoMap::Invalid("its elements cannot be reduced in this way");
                let address = maps[lane];
                let fault = AsyncFault::NoTensorMap { address, why };
                return Err(UnlocatedFault::lane(lane, fault.into()));
            }
        };
        let (touched, _) = copy.bytes();
        shared_part(
            cx,
            lane,
            AccessKind::Read,
            copy.shared,
            touched,
            SHARED_ALIGN,
        )?;
        begin_store(cx, w, lane, copy.shared, touched)?;
        let mut row = vec![0; (copy.map.rows().0) as usize];
        copy.rows(|number, place| {
            let Some((skip, bytes, address)) = copy.inside(place) else {
                return Ok(());
            };
            let start = copy.shared as u32 + number * row.len() as u32;
            let shared = byte_slice(&cx.shared.words);
            for (i, piece) in row.chunks_exact_mut(16).enumerate() {
                let at = copy.map.swizzle.apply(start + 16 * i as u32) as usize;
                piece.copy_from_slice(&shared[at..at + 16]);
            }
            put_global(cx, w, lane, (address, &row[skip..skip + bytes]), reduce)
        })?;
        cx.counters.global_stores.requests += 1;
    }
    Ok(())
}
