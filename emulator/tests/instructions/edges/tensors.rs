//! Tensor copies: their part of shared memory, the tensor, the map, and the bounding box of im2col.
use super::harness::{
    Bench, LANES, Params, fill_shared, legal, out_of_bounds, reported, text, touch,
};
use ptx_emulator::ir::Space;
use ptx_emulator::report::{AccessKind, AsyncFault};
use ptx_emulator::tensor_map::{MAP_BYTES, Tensor, TensorMap};
use ptx_emulator::{Fault, FaultKind, LoadedKernel};

/// `CU_TENSOR_MAP_DATA_TYPE_UINT8`
const U8: u32 = 0;

/// Bytes that the barrier takes of shared memory, up to the next multiple of the copies' alignment.
const TILE: u32 = 128;

/// A tensor of bytes whose rows are `dims[0]` bytes long, rounded up to 16, and nothing between the
/// dimensions.
fn map(dims: &[u64], extent: &[u32], swizzle: u32) -> (TensorMap, u64) {
    let strides = strides(dims);
    let tensor = tensor(dims, &strides, swizzle);
    let map = TensorMap::tiled(&tensor, extent).expect("a good map");
    (map, reach(dims, &strides))
}

fn strides(dims: &[u64]) -> Vec<u64> {
    let mut stride = dims[0].next_multiple_of(16);
    let mut strides = Vec::new();
    for dim in &dims[1..] {
        strides.push(stride);
        stride *= dim;
    }
    strides
}

fn tensor<'a>(dims: &'a [u64], strides: &'a [u64], swizzle: u32) -> Tensor<'a> {
    Tensor {
        data_type: U8,
        address: 0,
        dims,
        strides,
        element_strides: &[1; 5][..dims.len()],
        interleave: 0,
        swizzle,
        promotion: 0,
        fill: 0,
    }
}

/// Bytes from the tensor's first to behind its last.
fn reach(dims: &[u64], strides: &[u64]) -> u64 {
    let outer: u64 = dims[1..]
        .iter()
        .zip(strides)
        .map(|(dim, stride)| (dim - 1) * stride)
        .sum();
    outer + dims[0]
}

/// A kernel in which one thread copies a box at the given place.
fn kernel(
    bench: &Bench,
    load: bool,
    at: &[i32],
    offsets: Option<&[u32]>,
    moved: u32,
) -> LoadedKernel {
    let list = |values: Vec<String>| values.join(", ");
    let at_list = list(at.iter().map(i32::to_string).collect());
    let rank = at.len();
    let (mode, more) = match offsets {
        None => ("tile", String::new()),
        Some(offsets) => {
            let offsets = list(offsets.iter().map(u32::to_string).collect());
            ("im2col", format!(", {{{offsets}}}"))
        }
    };
    let copy = if load {
        format!(
            "    @%p2 mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {moved};
    @%p2 cp.async.bulk.tensor.{rank}d.shared::cluster.global.{mode}.mbarrier::complete_tx::bytes \
             [%r5], [%rd1, {{{at_list}}}], [bar]{more};"
        )
    } else {
        format!(
            "    @%p2 cp.async.bulk.tensor.{rank}d.global.shared::cta.{mode}.bulk_group \
             [%rd1, {{{at_list}}}], [%r5];
    cp.async.bulk.commit_group;
    cp.async.bulk.wait_group 0;"
        )
    };
    let fill = fill_shared("%r2", 0);
    let body = format!(
        "    .shared .align 8 .b64 bar;
    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    ld.param.u64 %rd1, [where];
    setp.ne.u64 %p1, %rd1, 0;
    mov.b64 %rd2, map;
    cvta.param.u64 %rd3, %rd2;
    ld.param.u64 %rd4, [shift];
    add.u64 %rd3, %rd3, %rd4;
    selp.b64 %rd1, %rd1, %rd3, %p1;
    ld.param.u32 %r5, [near];
    ld.param.u32 %r6, [lane];
    setp.eq.u32 %p2, %r2, %r6;
    setp.eq.u32 %p3, %r2, 0;
    @%p3 mbarrier.init.shared::cta.b64 [bar], 1;
    @%p3 fence.mbarrier_init.release.cluster;
{fill}
    fence.proxy.async;
    bar.sync 0;
{copy}"
    );
    let params = ".param .u64 where, .param .u64 shift, .param .u32 near, .param .u32 lane, \
                  .param .align 64 .b8 map[128]";
    bench.kernel(&text(
        90,
        ".extern .shared .align 128 .b8 tile[];",
        params,
        &body,
    ))
}

/// Parameters with the map among them.
fn params(map: &TensorMap, near: u32, lane: u32) -> Params {
    let params = Params::default().u64(0).u64(0).u32(near).u32(lane);
    params.bytes(64, &map.encode())
}

#[test]
fn boxes_at_the_end_of_shared_memory() {
    let bench = Bench::new(90);
    // Extents, swizzle, and the bytes of shared memory that the box takes with it.
    for (extent, swizzle, takes) in [
        (&[16u32][..], 0, 16),
        (&[48], 0, 48),
        (&[16, 3], 0, 48),
        (&[16, 3], 1, 64),
        (&[32, 2, 2], 1, 128),
        (&[64, 3], 2, 192),
        (&[64, 3], 3, 256),
        (&[16, 1, 3, 2, 2], 3, 256),
    ] {
        let dims = [48, 4, 4, 4, 4];
        let dims = &dims[..extent.len()];
        let dims: Vec<u64> = dims
            .iter()
            .zip(extent)
            .map(|(d, e)| *d.max(&u64::from(*e)))
            .collect();
        let (map, reach) = map(&dims, extent, swizzle);
        let address = bench.filled(reach);
        let map = TensorMap { address, ..map };
        let moved: u32 = extent.iter().product();
        for (load, kind) in [(true, AccessKind::Write), (false, AccessKind::Read)] {
            let kernel = kernel(&bench, load, &vec![0; extent.len()], None, moved);
            for more in [0, 1, 16, 127, 128, 129] {
                for lane in LANES {
                    let shared = takes + more;
                    let run = |near: u32| {
                        let params = params(&map, near, lane);
                        bench.run(&kernel, (32, shared), &params)
                    };
                    let last = TILE + more / 128 * 128;
                    let what =
                        format!("load {load}, box {extent:?}, swizzle {swizzle}, {shared} bytes");
                    legal(run(last), &what);
                    let wanted = touch(kind, Space::Shared, u64::from(last + 128), takes);
                    // The next place is 128 bytes further: at least one byte beyond, at most 128.
                    out_of_bounds(run(last + 128), wanted, Some(lane), &what);
                }
            }
            // One byte short, and the least that alignment allows.
            for missing in [1, 15, 16] {
                let result = bench.run(&kernel, (32, takes - missing), &params(&map, TILE, 17));
                let wanted = touch(kind, Space::Shared, TILE.into(), takes);
                out_of_bounds(result, wanted, Some(17), "too short");
            }
        }
    }
}

/// Tensors that end with their allocation, and one byte behind it.
#[test]
fn tensors_at_the_end_of_an_allocation() {
    let bench = Bench::new(90);
    for dims in [
        &[16u64][..],
        &[33],
        &[17, 3],
        &[31, 2, 2],
        &[16, 3, 1, 2],
        &[5, 2, 2, 2, 2],
    ] {
        let extent: Vec<u32> = dims.iter().map(|&d| d as u32).collect();
        let extent = [&[extent[0].next_multiple_of(16)][..], &extent[1..]].concat();
        let (map, reach) = map(dims, &extent, 0);
        let moved: u32 = extent.iter().product();
        for (load, kind) in [(true, AccessKind::Read), (false, AccessKind::Write)] {
            let kernel = kernel(&bench, load, &vec![0; dims.len()], None, moved);
            for missing in [0, 1, 2] {
                let address = bench.filled(reach - missing);
                let map = TensorMap { address, ..map };
                let result = bench.run(&kernel, (32, moved), &params(&map, TILE, 31));
                let what = format!("load {load}, {dims:?}, {missing} bytes short");
                if missing == 0 {
                    legal(result, &what);
                    continue;
                }
                let wanted = touch(
                    kind,
                    Space::Global,
                    address + reach - dims[0],
                    dims[0] as u32,
                );
                out_of_bounds(result, wanted, Some(31), &what);
            }
        }
    }
}

/// Elements outside of the tensor are not touched, however far away.
#[test]
fn boxes_that_lie_outside_of_the_tensor() {
    let bench = Bench::new(90);
    let dims = [32, 4, 3];
    let (map, reach) = map(&dims, &[16, 2, 2], 0);
    for at in [
        [-15, -1, -1],
        [31, 3, 2],
        [32, 0, 0],
        [-16, 0, 0],
        [0, -2, 0],
        [0, 4, 0],
        [0, 0, 3],
        [i32::MAX, i32::MAX, i32::MAX],
        [i32::MIN, i32::MIN, i32::MIN],
    ] {
        for load in [true, false] {
            let kernel = kernel(&bench, load, &at, None, 64);
            let address = bench.filled(reach);
            let map = TensorMap { address, ..map };
            legal(
                bench.run(&kernel, (32, 64), &params(&map, TILE, 0)),
                &format!("{at:?}"),
            );
        }
    }
}

/// Source of maps: parameters, to their last byte, and device memory.
#[test]
fn maps_at_the_end_of_their_memory() {
    let bench = Bench::new(90);
    let (map, reach) = map(&[16], &[16], 0);
    let address = bench.filled(reach);
    let map = TensorMap { address, ..map };
    let kernel = kernel(&bench, true, &[0], None, 16);
    legal(
        bench.run(&kernel, (32, 16), &params(&map, TILE, 0)),
        "a parameter",
    );
    let shifted = |by: u64| {
        let params = Params::default()
            .u64(0)
            .u64(by)
            .u32(TILE)
            .u32(0)
            .bytes(64, &map.encode());
        bench.run(&kernel, (32, 16), &params)
    };
    for by in [64, 128, 1 << 20] {
        let fault = reported(shifted(by), "half a map");
        let none = matches!(
            &*fault.kind,
            FaultKind::Asynchronous(AsyncFault::NoTensorMap { .. })
        );
        assert!(none, "{fault}");
    }
    for by in [1, 8, 16, 32] {
        let fault = reported(shifted(by), "no multiple of 64");
        let aligned = matches!(&*fault.kind, FaultKind::Misaligned { align: 64, .. });
        assert!(aligned, "{fault}");
    }
    for (bytes, good) in [(128, true), (127, false)] {
        let place = bench.memory().alloc(bytes).expect("room");
        let encoded = map.encode();
        bench
            .memory()
            .write(place, &encoded[..bytes as usize])
            .expect("inside");
        let params = Params::default().u64(place).u64(0).u32(TILE).u32(0);
        let params = params.bytes(64, &[0; MAP_BYTES]);
        let result = bench.run(&kernel, (32, 16), &params);
        if good {
            legal(result, "device memory");
        } else {
            let wanted = touch(AccessKind::Read, Space::Global, place, 128);
            out_of_bounds(result, wanted, Some(0), "a byte short");
        }
    }
}

fn im2col(at: &[i32], offsets: &[u32], lower: i32, upper: i32) -> Result<(), Fault> {
    let bench = Bench::new(90);
    let spatial = at.len() - 2;
    let mut dims = vec![16, 5, 5, 5];
    dims.truncate(spatial + 1);
    dims.push(2);
    let strides = strides(&dims);
    let tensor = tensor(&dims, &strides, 0);
    let corners = (vec![lower; spatial], vec![upper; spatial]);
    let map = TensorMap::im2col(&tensor, &corners.0, &corners.1, 16, 2).expect("a good map");
    let address = bench.filled(reach(&dims, &strides));
    let map = TensorMap { address, ..map };
    let kernel = kernel(&bench, true, at, Some(offsets), 32);
    bench.run(&kernel, (32, 32), &params(&map, TILE, 17))
}

/// The first pixel lies in the bounding box: its first and last along each dimension are good,
/// those beside are not.
#[test]
fn first_pixels_at_the_edges_of_the_bounding_box() {
    for spatial in 1..=3 {
        for (lower, upper) in [(0, 0), (-1, -2), (1, -1), (-2, 2)] {
            let (first, last) = (lower, 4 + upper);
            for dim in 0..spatial {
                for (value, good) in [
                    (first, true),
                    (last, true),
                    (first - 1, false),
                    (last + 1, false),
                ] {
                    let mut at = vec![first; spatial];
                    at[dim] = value;
                    let at = [&[0][..], &at, &[0]].concat();
                    let result = im2col(&at, &vec![0; spatial], lower, upper);
                    let what = format!("{at:?} in {first}..={last}");
                    if good {
                        legal(result, &what);
                        continue;
                    }
                    let fault = reported(result, &what);
                    let wanted = AsyncFault::Im2colStart {
                        dim: dim as u32 + 1,
                        at: value.into(),
                        first: first.into(),
                        last: last.into(),
                    };
                    assert!(
                        matches!(&*fault.kind, FaultKind::Asynchronous(f) if *f == wanted),
                        "{fault}"
                    );
                }
            }
        }
    }
}

/// Offsets have 16, 8 or 5 bits, by the number of dimensions.
#[test]
fn the_largest_offsets() {
    for (spatial, most) in [(1usize, 65535u32), (2, 255), (3, 31)] {
        for dim in 0..spatial {
            let run = |offset: u32| {
                let mut offsets = vec![0; spatial];
                offsets[dim] = offset;
                im2col(&vec![0; spatial + 2], &offsets, 0, 0)
            };
            legal(run(most), "the largest offset");
            if most == 65535 {
                // There is no larger one.
                continue;
            }
            let fault = reported(run(most + 1), "an offset too large");
            let good = matches!(&*fault.kind,
                FaultKind::Asynchronous(AsyncFault::Im2colOffset { offset, most: limit })
                    if *offset == i64::from(most + 1) && *limit == i64::from(most));
            assert!(good, "{fault}");
        }
    }
}
