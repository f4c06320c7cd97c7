//! Pixels of a convolution's input.

use super::harness::{BF16, Bench, F32, byte, swizzled, tensor};
use ptx_emulator::tensor_map::{Tensor, TensorMap};

/// A convolution of a tensor of `n` images of `h` by `w` pixels of `c` channels.
#[derive(Clone, Copy, Debug)]
struct Case {
    element: (u32, u32),
    c: u64,
    w: u64,
    h: u64,
    n: u64,
    pixel: u64,
    filter: [i64; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
    pad: [i64; 2],
    channels: u32,
    pixels: u32,
    swizzle: (u32, usize),
}

impl Case {
    /// Output columns and rows.
    fn output(&self) -> [i64; 2] {
        [(self.w, 0), (self.h, 1)].map(|(size, i)| {
            let reach = (self.filter[i] - 1) * self.dilation[i] + 1;
            (size as i64 + 2 * self.pad[i] - reach) / self.stride[i] + 1
        })
    }

    fn map(&self, bench: &Bench, strides: &mut Vec<u64>) -> TensorMap {
        let [q, p] = self.output();
        let dims = [self.c, self.w, self.h, self.n];
        let plain = tensor(self.element, &dims, self.pixel, strides);
        let steps = [1, self.stride[0] as u32, self.stride[1] as u32, 1];
        let tensor = Tensor {
            address: bench.address,
            element_strides: &steps,
            swizzle: self.swizzle.0,
            ..plain
        };
        let lower = self.pad.map(|pad| -pad as i32);
        let upper = [(q, self.w, 0), (p, self.h, 1)].map(|(count, size, i)| {
            ((count - 1) * self.stride[i] - self.pad[i] - (size as i64 - 1)) as i32
        });
        TensorMap::im2col(&tensor, &lower, &upper, self.channels, self.pixels).expect("a good map")
    }

    /// Compares the copies of every tap with what a convolution's index formula reads.
    fn check(&self, first_pixel: i64, first_channel: i64) {
        let bench = Bench::new(1 << 17);
        let mut strides = Vec::new();
        let map = self.map(&bench, &mut strides);
        let [q, p] = self.output();
        let split = |pixel: i64| (pixel % q, pixel / q % p, pixel / (q * p));
        let (x, y, image) = split(first_pixel);
        let start = [
            first_channel,
            x * self.stride[0] - self.pad[0],
            y * self.stride[1] - self.pad[1],
            image,
        ]
        .map(|at| at as i32);
        let size = self.element.1 as usize;
        for tap in 0..self.filter[0] * self.filter[1] {
            let (s, r) = (tap % self.filter[0], tap / self.filter[0]);
            let offsets = [s * self.dilation[0], r * self.dilation[1]].map(|o| o as u32);
            let got = bench.load(&map, &start, Some(&offsets)).expect("runs");
            for pixel in 0..i64::from(self.pixels) {
                let (x, y, image) = split(first_pixel + pixel);
                let column = x * self.stride[0] - self.pad[0] + s * self.dilation[0];
                let row = y * self.stride[1] - self.pad[1] + r * self.dilation[1];
                for channel in 0..i64::from(self.channels) {
                    let c = first_channel + channel;
                    let inside = (0..self.c as i64).contains(&c)
                        && (0..self.w as i64).contains(&column)
                        && (0..self.h as i64).contains(&row)
                        && image < self.n as i64;
                    let linear = (pixel * i64::from(self.channels) + channel) as usize * size;
                    let at = swizzled(linear, self.swizzle.1);
                    let wanted: Vec<u8> = if inside {
                        let offset = c as u64 * size as u64
                            + column as u64 * strides[0]
                            + row as u64 * strides[1]
                            + image as u64 * strides[2];
                        (offset..offset + size as u64).map(byte).collect()
                    } else {
                        vec![0; size]
                    };
                    assert_eq!(
                        got[at..at + size],
                        wanted,
                        "{self:?}, tap {tap}, pixel {pixel}, channel {c}"
                    );
                }
            }
        }
    }
}

const PLAIN: Case = Case {
    element: BF16,
    c: 64,
    w: 7,
    h: 6,
    n: 3,
    pixel: 128,
    filter: [3, 3],
    stride: [1, 1],
    dilation: [1, 1],
    pad: [1, 1],
    channels: 64,
    pixels: 64,
    swizzle: (3, 128),
};

#[test]
fn pixels_run_over_rows_and_images() {
    PLAIN.check(0, 0);
    PLAIN.check(40, 0);
    // Past the last image.
    PLAIN.check(100, 0);
}

#[test]
fn padding_stride_and_dilation() {
    for (stride, dilation, pad) in [
        ([2, 1], [1, 1], [1, 0]),
        ([1, 3], [2, 1], [0, 1]),
        ([2, 2], [2, 2], [2, 2]),
        ([3, 2], [1, 2], [1, 3]),
    ] {
        let case = Case {
            stride,
            dilation,
            pad,
            ..PLAIN
        };
        case.check(0, 0);
        case.check(5, 0);
    }
}

#[test]
fn channels_end_with_the_tensor() {
    let case = Case {
        c: 40,
        pixel: 96,
        channels: 32,
        swizzle: (2, 64),
        ..PLAIN
    };
    case.check(3, 0);
    case.check(3, 32);
    let case = Case {
        c: 24,
        pixel: 64,
        channels: 16,
        swizzle: (1, 32),
        filter: [2, 4],
        ..PLAIN
    };
    case.check(0, 16);
    let case = Case {
        element: F32,
        c: 28,
        pixel: 112,
        channels: 32,
        pixels: 20,
        ..PLAIN
    };
    case.check(9, 0);
}

#[test]
fn sequences_and_volumes() {
    // Rank 3: one spatial dimension.
    let bench = Bench::new(1 << 16);
    let mut strides = Vec::new();
    let plain = tensor(BF16, &[16, 9, 4], 32, &mut strides);
    let plain = Tensor {
        address: bench.address,
        ..plain
    };
    let map = TensorMap::im2col(&plain, &[-1], &[-2], 16, 12).expect("a good map");
    let got = bench.load(&map, &[0, 3, 0], Some(&[2])).expect("runs");
    // Bounding box: places -1 to 6, eight a sequence.
    for pixel in 0..12i64 {
        let number = 4 + pixel;
        let (x, n) = (number % 8 - 1 + 2, number / 8);
        let offset = (x * 32 + n * 32 * 10) as u64;
        let wanted: Vec<u8> = if x < 9 {
            (offset..offset + 32).map(byte).collect()
        } else {
            vec![0; 32]
        };
        assert_eq!(got[pixel as usize * 32..][..32], wanted, "pixel {pixel}");
    }
    // Rank 5: three.
    let mut strides = Vec::new();
    let plain = tensor(BF16, &[8, 3, 2, 4, 2], 16, &mut strides);
    let plain = Tensor {
        address: bench.address,
        ..plain
    };
    let map = TensorMap::im2col(&plain, &[0, 0, -1], &[-1, 0, -2], 8, 20).expect("a good map");
    let got = bench
        .load(&map, &[0, 1, 1, -1, 0], Some(&[1, 0, 1]))
        .expect("runs");
    // Bounding box: 2 by 2 by 3 places (depth -1 to 1), twelve a volume.
    for pixel in 0..20i64 {
        let number = 3 + pixel;
        let (x, y, z, n) = (
            number % 2 + 1,
            number / 2 % 2,
            number / 4 % 3 - 1 + 1,
            number / 12,
        );
        let offset = (x * 16 + y * 16 * 4 + z * 16 * 4 * 3 + n * 16 * 4 * 3 * 5) as u64;
        let wanted: Vec<u8> = (offset..offset + 16).map(byte).collect();
        assert_eq!(got[pixel as usize * 16..][..16], wanted, "pixel {pixel}");
    }
}

/// A store puts each pixel where a load without offsets would take it from, and nothing outside of
/// the tensor or beside the box's channels. Compared with the index formula, byte by byte over the
/// whole of memory.
#[test]
fn stores_walk_the_bounding_box() {
    for (case, first_pixel, first_channel) in [
        (PLAIN, 0, 0),
        (PLAIN, 100, 0),
        (
            Case {
                stride: [2, 1],
                pad: [2, 0],
                c: 40,
                pixel: 96,
                channels: 32,
                swizzle: (2, 64),
                ..PLAIN
            },
            5,
            32,
        ),
    ] {
        let total = 1 << 17;
        let bench = Bench::new(total);
        let mut strides = Vec::new();
        let map = case.map(&bench, &mut strides);
        let [q, p] = case.output();
        let size = case.element.1 as usize;
        let mut wanted: Vec<u8> = (0..total).map(byte).collect();
        let split = |pixel: i64| {
            [
                pixel % q * case.stride[0] - case.pad[0],
                pixel / q % p * case.stride[1] - case.pad[1],
                pixel / (q * p),
            ]
        };
        for pixel in 0..i64::from(case.pixels) {
            let [x, y, image] = split(first_pixel + pixel);
            for channel in 0..i64::from(case.channels) {
                let c = first_channel + channel;
                let inside = c < case.c as i64
                    && (0..case.w as i64).contains(&x)
                    && (0..case.h as i64).contains(&y)
                    && image < case.n as i64;
                if !inside {
                    continue;
                }
                let linear = (pixel * i64::from(case.channels) + channel) as usize * size;
                let from = swizzled(linear, case.swizzle.1);
                let to = c as usize * size
                    + x as usize * strides[0] as usize
                    + y as usize * strides[1] as usize
                    + image as usize * strides[2] as usize;
                for i in 0..size {
                    wanted[to + i] = byte((from + i) as u64);
                }
            }
        }
        let [x, y, image] = split(first_pixel);
        let at = [first_channel, x, y, image].map(|at| at as i32);
        bench.store(&map, &at).expect("runs");
        let got = bench.read(bench.address, total as usize);
        let differs = got
            .iter()
            .zip(&wanted)
            .position(|(got, wanted)| got != wanted);
        assert_eq!(differs, None, "{case:?}");
    }
}

#[test]
fn stores_outside_of_the_bounding_box_are_reported() {
    let bench = Bench::new(1 << 17);
    let map = PLAIN.map(&bench, &mut Vec::new());
    let report = bench
        .store(&map, &[0, -2, 0, 0])
        .expect_err("before the box");
    assert!(
        report.starts_with(
            "im2col begins outside of its bounding box: at -2 along dimension 1, \
            which runs from -1 to 5"
        ),
        "{report}"
    );
}

#[test]
fn copies_outside_of_the_bounding_box_are_reported() {
    let bench = Bench::new(1 << 17);
    let map = PLAIN.map(&bench, &mut Vec::new());
    let report = bench
        .load(&map, &[0, 6, 0, 0], Some(&[0, 0]))
        .expect_err("past the box");
    assert!(
        report.starts_with(
            "im2col begins outside of its bounding box: at 6 along dimension 1, \
            which runs from -1 to 5"
        ),
        "{report}"
    );
    let report = bench
        .load(&map, &[0, 0, 0, 0], Some(&[0, 256]))
        .expect_err("too far");
    assert!(
        report.starts_with("im2col offset 256 is more than 255"),
        "{report}"
    );
    let report = bench
        .load(&map, &[0, 0, 0, 0], None)
        .expect_err("another mode");
    assert!(
        report.starts_with(
            "the tensor map does not fit the instruction: it has 4 dimensions and is one for im2col"
        ),
        "{report}"
    );
}
