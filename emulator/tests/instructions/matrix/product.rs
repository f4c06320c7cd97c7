//! An `mma` as the tests know it: fragments, registers and values.
//!
//! The fragments are those of the PTX ISA, "Matrix Fragments for mma.m16n8k4" and its like: of the
//! lane with `group = lane / 4` and `thread = lane % 4`, element `i` of a lane's part of each
//! matrix is in the row and column that the functions here say.

use half::{bf16, f16};
use ptx_emulator::{MatrixKind, MatrixWork};

use super::harness::{Lanes, Random, run};

/// The bits of an element, which lie in the low ones.
pub type Bits = u32;

/// An `mma` as the tests know it.
#[derive(Clone, Copy)]
pub struct Product {
    pub name: &'static str,
    pub kind: MatrixKind,
    pub depth: usize,
    /// Bits of an element of the factors.
    pub bits: usize,
    /// True if the sums are f16.
    pub narrow: bool,
}

pub const FLOATS: [Product; 8] = [
    float("m16n8k16.row.col.f32.f16.f16.f32", MatrixKind::F16, 16),
    float("m16n8k8.row.col.f32.f16.f16.f32", MatrixKind::F16, 8),
    float("m16n8k16.row.col.f32.bf16.bf16.f32", MatrixKind::Bf16, 16),
    float("m16n8k8.row.col.f32.bf16.bf16.f32", MatrixKind::Bf16, 8),
    float("m16n8k8.row.col.f32.tf32.tf32.f32", MatrixKind::Tf32, 8),
    float("m16n8k4.row.col.f32.tf32.tf32.f32", MatrixKind::Tf32, 4),
    float("m16n8k16.row.col.f16.f16.f16.f16", MatrixKind::F16, 16),
    float("m16n8k8.row.col.f16.f16.f16.f16", MatrixKind::F16, 8),
];

const fn float(name: &'static str, kind: MatrixKind, depth: usize) -> Product {
    Product {
        name,
        kind,
        depth,
        bits: if matches!(kind, MatrixKind::Tf32) {
            32
        } else {
            16
        },
        narrow: name.as_bytes()[name.len() - 2] == b'1',
    }
}

/// Three matrices of one case: `a` and `c` by rows, `b` by columns.
#[derive(Clone)]
pub struct Matrices {
    pub a: Vec<Bits>,
    pub b: Vec<Bits>,
    pub c: Vec<Bits>,
}

impl Product {
    /// Elements of `a` that a lane holds.
    pub fn a_elements(self) -> usize {
        16 * self.depth / 32
    }

    pub fn b_elements(self) -> usize {
        8 * self.depth / 32
    }

    /// Elements of a word.
    pub fn per_word(self) -> usize {
        32 / self.bits
    }

    pub fn sum_words(self) -> usize {
        if self.narrow { 2 } else { 4 }
    }

    /// Row and column of element `i` of a lane's part of `a`.
    pub fn a_place(self, lane: usize, i: usize) -> (usize, usize) {
        let (group, thread, per) = (lane / 4, lane % 4, self.per_word());
        let row = if (i / per).is_multiple_of(2) {
            group
        } else {
            group + 8
        };
        (row, thread * per + i % per + i / (2 * per) * 4 * per)
    }

    /// Row and column of element `i` of a lane's part of `b`.
    pub fn b_place(self, lane: usize, i: usize) -> (usize, usize) {
        let (group, thread, per) = (lane / 4, lane % 4, self.per_word());
        (thread * per + i % per + i / per * 4 * per, group)
    }

    /// Row and column of element `i` of a lane's part of the sums.
    pub fn c_place(self, lane: usize, i: usize) -> (usize, usize) {
        let row = if i < 2 { lane / 4 } else { lane / 4 + 8 };
        (row, lane % 4 * 2 + i % 2)
    }

    /// The code, with the registers spelled as inline assembly has them.
    pub fn code(self) -> String {
        let list = |letter: char, from: usize, count: usize| {
            let names: Vec<String> = (from..from + count)
                .map(|i| format!("%{letter}{i}"))
                .collect();
            format!("{{{}}}", names.join(", "))
        };
        let a = self.a_elements() / self.per_word();
        let b = self.b_elements() / self.per_word();
        let c = self.sum_words();
        format!(
            "mma.sync.aligned.{} {}, {}, {}, {};",
            self.name,
            list('d', 0, c),
            list('a', 0, a),
            list('a', a, b),
            list('a', a + b, c)
        )
    }

    /// The registers of a warp.
    pub fn fragments(self, case: &Matrices) -> Lanes {
        let per = self.per_word();
        let pack = |elements: Vec<Bits>, bits: usize| -> Vec<u32> {
            let word = |part: &[Bits]| {
                let shifted = part
                    .iter()
                    .enumerate()
                    .map(|(i, &e)| u64::from(e) << (bits * i));
                shifted.fold(0, |word, bits| word | bits) as u32
            };
            elements.chunks(32 / bits).map(word).collect()
        };
        (0..32)
            .map(|lane| {
                let a = (0..self.a_elements()).map(|i| {
                    let (row, column) = self.a_place(lane, i);
                    case.a[row * self.depth + column]
                });
                let b = (0..self.b_elements()).map(|i| {
                    let (row, column) = self.b_place(lane, i);
                    case.b[column * self.depth + row]
                });
                let c = (0..4).map(|i| {
                    let (row, column) = self.c_place(lane, i);
                    case.c[row * 8 + column]
                });
                let mut words = pack(a.collect(), 32 / per);
                words.extend(pack(b.collect(), 32 / per));
                words.extend(pack(c.collect(), if self.narrow { 16 } else { 32 }));
                words
            })
            .collect()
    }

    /// Runs the cases and gives the sums, by rows.
    pub fn run(self, cases: &[Matrices]) -> Vec<Vec<Bits>> {
        let fragments: Vec<Lanes> = cases.iter().map(|case| self.fragments(case)).collect();
        let (lanes, counters) = run(
            &self.code(),
            fragments[0][0].len(),
            self.sum_words(),
            &fragments,
        );
        let work = MatrixWork {
            instructions: cases.len() as u64,
            multiply_adds: (cases.len() * 16 * 8 * self.depth) as u64,
        };
        for kind in MatrixKind::ALL {
            let expected = if kind == self.kind {
                work
            } else {
                MatrixWork::default()
            };
            assert_eq!(counters.matrix(kind), expected, "{}: {kind:?}", self.name);
        }
        lanes.iter().map(|lanes| self.sums(lanes)).collect()
    }

    pub fn sums(self, lanes: &Lanes) -> Vec<Bits> {
        let mut out = vec![0; 16 * 8];
        for (lane, words) in lanes.iter().enumerate() {
            for i in 0..4 {
                let (row, column) = self.c_place(lane, i);
                out[row * 8 + column] = if self.narrow {
                    words[i / 2] >> (16 * (i % 2)) & 0xffff
                } else {
                    words[i]
                };
            }
        }
        out
    }

    /// The value of an element of a factor, which f32 holds exactly.
    pub fn factor(self, bits: Bits) -> f32 {
        match self.kind {
            MatrixKind::F16 => f16::from_bits(bits as u16).to_f32(),
            MatrixKind::Bf16 => bf16::from_bits(bits as u16).to_f32(),
            _ => f32::from_bits(bits & 0xffff_e000),
        }
    }

    pub fn sum(self, bits: Bits) -> f32 {
        if self.narrow {
            f16::from_bits(bits as u16).to_f32()
        } else {
            f32::from_bits(bits)
        }
    }

    /// An element near `value`; of tf32 with random bits where hardware ignores them.
    pub fn element(self, value: f64, random: &mut Random) -> Bits {
        match self.kind {
            MatrixKind::F16 => u32::from(f16::from_f64(value).to_bits()),
            MatrixKind::Bf16 => u32::from(bf16::from_f64(value).to_bits()),
            _ => (value as f32).to_bits() & 0xffff_e000 | random.bits() as u32 & 0x1fff,
        }
    }
}
