//! Boxes.

use super::harness::{BF16, Bench, F32, F64, U8, byte, swizzled, tensor};
use ptx_emulator::tensor_map::{Tensor, TensorMap};

struct Case {
    element: (u32, u32),
    dims: &'static [u64],
    pitch: u64,
    extent: &'static [u32],
    steps: &'static [u32],
    /// `CUtensorMapSwizzle` and its bytes.
    swizzle: (u32, usize),
    at: &'static [i32],
}

/// The offset of a place from the tensor's start; `None` outside.
fn offset(dims: &[u64], strides: &[u64], size: u64, place: &[i64]) -> Option<u64> {
    let mut sum = 0;
    for (i, (&place, &dim)) in place.iter().zip(dims).enumerate() {
        if place < 0 || place >= dim as i64 {
            return None;
        }
        sum += place as u64 * if i == 0 { size } else { strides[i - 1] };
    }
    Some(sum)
}

/// Every element of a box: its byte in shared memory, its place in the tensor.
fn elements(case: &Case) -> Vec<(usize, Vec<i64>)> {
    let counts: Vec<u32> = (0..case.dims.len())
        .map(|i| {
            if i == 0 {
                case.extent[0]
            } else {
                case.extent[i].div_ceil(case.steps[i])
            }
        })
        .collect();
    let total: u32 = counts.iter().product();
    (0..total)
        .map(|number| {
            let mut left = number;
            let place = counts.iter().enumerate().map(|(i, &count)| {
                let index = left % count;
                left /= count;
                let step = if i == 0 { 1 } else { case.steps[i] };
                i64::from(case.at[i]) + i64::from(index * step)
            });
            let place = place.collect();
            let at = number as usize * case.element.1 as usize;
            (swizzled(at, case.swizzle.1), place)
        })
        .collect()
}

const CASES: [Case; 12] = [
    Case {
        element: F32,
        dims: &[100],
        pitch: 400,
        extent: &[32],
        steps: &[1],
        swizzle: (0, 16),
        at: &[60],
    },
    Case {
        element: BF16,
        dims: &[64, 40],
        pitch: 128,
        extent: &[64, 16],
        steps: &[1, 1],
        swizzle: (3, 128),
        at: &[0, 5],
    },
    Case {
        element: BF16,
        dims: &[63, 40],
        pitch: 128,
        extent: &[32, 24],
        steps: &[1, 1],
        swizzle: (2, 64),
        at: &[32, 30],
    },
    Case {
        element: BF16,
        dims: &[16, 40],
        pitch: 48,
        extent: &[16, 64],
        steps: &[1, 1],
        swizzle: (1, 32),
        at: &[0, -7],
    },
    Case {
        element: BF16,
        dims: &[72, 33],
        pitch: 144,
        extent: &[64, 8],
        steps: &[1, 1],
        swizzle: (3, 128),
        at: &[-5, 0],
    },
    Case {
        element: BF16,
        dims: &[64, 9, 5],
        pitch: 160,
        extent: &[64, 1, 128],
        steps: &[1, 1, 1],
        swizzle: (3, 128),
        at: &[0, 8, 1],
    },
    Case {
        element: F32,
        dims: &[32, 9, 5],
        pitch: 160,
        extent: &[32, 4, 3],
        steps: &[1, 2, 1],
        swizzle: (3, 128),
        at: &[0, 3, 1],
    },
    // Rows shorter than the swizzle.
    Case {
        element: F32,
        dims: &[32, 9],
        pitch: 160,
        extent: &[16, 8],
        steps: &[1, 1],
        swizzle: (3, 128),
        at: &[8, 0],
    },
    Case {
        element: U8,
        dims: &[48, 7, 6],
        pitch: 64,
        extent: &[48, 3, 2],
        steps: &[1, 1, 1],
        swizzle: (0, 16),
        at: &[3, 2, -1],
    },
    Case {
        element: F64,
        dims: &[10, 4, 3, 3],
        pitch: 96,
        extent: &[8, 4, 2, 2],
        steps: &[1, 3, 1, 2],
        swizzle: (2, 64),
        at: &[4, 0, 1, 2],
    },
    Case {
        element: BF16,
        dims: &[24, 4, 3, 3, 2],
        pitch: 64,
        extent: &[16, 2, 2, 2, 2],
        steps: &[1, 1, 1, 1, 1],
        swizzle: (1, 32),
        at: &[8, 3, 2, -1, 1],
    },
    Case {
        element: BF16,
        dims: &[256, 4],
        pitch: 512,
        extent: &[256, 3],
        steps: &[1, 1],
        swizzle: (0, 16),
        at: &[0, 2],
    },
];

fn map_of(case: &Case, bench: &Bench, fill: u32) -> TensorMap {
    let mut strides = Vec::new();
    let tensor = tensor(case.element, case.dims, case.pitch, &mut strides);
    let tensor = Tensor {
        address: bench.address,
        element_strides: case.steps,
        swizzle: case.swizzle.0,
        fill,
        ..tensor
    };
    TensorMap::tiled(&tensor, case.extent).expect("a good map")
}

fn strides_of(case: &Case) -> Vec<u64> {
    let mut strides = Vec::new();
    tensor(case.element, case.dims, case.pitch, &mut strides);
    strides
}

const TENSOR_BYTES: u64 = 1 << 16;

#[test]
fn boxes_arrive_swizzled_with_zeros_outside() {
    let bench = Bench::new(TENSOR_BYTES);
    for (number, case) in CASES.iter().enumerate() {
        for nan in [false, true] {
            if nan && case.element == U8 {
                continue;
            }
            let got = bench
                .load(&map_of(case, &bench, nan.into()), case.at, None)
                .expect("runs");
            let strides = strides_of(case);
            let size = case.element.1 as usize;
            for (at, place) in elements(case) {
                let wanted: Vec<u8> = match offset(case.dims, &strides, size as u64, &place) {
                    Some(offset) => (offset..offset + size as u64).map(byte).collect(),
                    None if nan => [vec![0xff; size - 1], vec![0x7f]].concat(),
                    None => vec![0; size],
                };
                assert_eq!(got[at..at + size], wanted, "case {number}, place {place:?}");
            }
        }
    }
}

#[test]
fn boxes_are_stored_clipped() {
    for (number, case) in CASES.iter().enumerate() {
        let bench = Bench::new(TENSOR_BYTES);
        bench
            .store(&map_of(case, &bench, 0), case.at)
            .expect("runs");
        let strides = strides_of(case);
        let size = case.element.1 as usize;
        let mut wanted: Vec<u8> = (0..TENSOR_BYTES).map(byte).collect();
        for (at, place) in elements(case) {
            if let Some(offset) = offset(case.dims, &strides, size as u64, &place) {
                for i in 0..size {
                    wanted[offset as usize + i] = byte((at + i) as u64);
                }
            }
        }
        let got = bench.read(bench.address, TENSOR_BYTES as usize);
        let differs = got
            .iter()
            .zip(&wanted)
            .position(|(got, wanted)| got != wanted);
        assert_eq!(differs, None, "case {number}");
    }
}

#[test]
fn maps_that_do_not_fit_are_reported() {
    let bench = Bench::new(TENSOR_BYTES);
    let map = map_of(&CASES[1], &bench, 0);
    // The coordinates decide the instruction's rank, so tell another.
    let other = TensorMap { rank: 3, ..map };
    let report = bench
        .load(&other, &[0, 0, 0], Some(&[0]))
        .expect_err("a tiled map");
    assert!(
        report.starts_with(
            "the tensor map does not fit the instruction: it has 3 dimensions and is a tiled one"
        ),
        "{report}"
    );
    // Behind the tensor's memory.
    let map = TensorMap {
        address: bench.address + TENSOR_BYTES - 128,
        ..map
    };
    let report = bench.load(&map, &[0, 0], None).expect_err("out of bounds");
    assert!(
        report.starts_with("out of bounds: global read of 128 bytes at"),
        "{report}"
    );
}

/// CUTLASS clears bit 21 of the second 64-bit word of small tensors' maps: the copy is as if it had
/// not. Any other change of a map is reported, in memory and as a parameter.
#[test]
fn a_map_may_lose_one_bit_and_no_other() {
    let mut bench = Bench::new(1 << 14);
    let mut strides = Vec::new();
    let plain = tensor(BF16, &[64, 16], 128, &mut strides);
    let plain = Tensor {
        address: bench.address,
        ..plain
    };
    let map = TensorMap::tiled(&plain, &[64, 8]).expect("a good map");
    let untouched = bench.load(&map, &[0, 4], None).expect("runs");
    bench.poke = vec![64 + 21];
    let cleared = bench.load(&map, &[0, 4], None).expect("runs");
    assert_eq!(cleared, untouched);
    for bit in [32, 64 + 20, 64 + 22, 28 * 32 + 21, 30 * 32, 31 * 32] {
        bench.poke = vec![64 + 21, bit];
        let report = bench.load(&map, &[0, 4], None).expect_err("changed");
        assert!(
            report.contains("its bytes were changed after it was encoded"),
            "{report}"
        );
    }
}
