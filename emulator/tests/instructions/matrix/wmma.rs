//! `wmma`: loads, products and stores of every shape, layout and type, and `mma` of eight rows.
//!
//! All elements are small integers, so the products and sums are exact in every type and the
//! results must be equal to the bit, in whatever order the sums are formed. Nothing but the
//! instructions orders the lanes that write, load, store and read.

use super::harness::{Lanes, Random, run};
use half::{bf16, f16};

/// Shapes of a product of `m` x `k` by `k` x `n`.
const SHAPES: [[usize; 3]; 3] = [[16, 16, 16], [32, 8, 16], [8, 32, 16]];

/// A matrix in shared memory.
struct Matrix {
    rows: usize,
    columns: usize,
    row_major: bool,
    /// Elements from one row (or column) to the next.
    pitch: usize,
    ty: &'static str,
    /// Start in the tile, in bytes.
    start: usize,
    values: Vec<i32>,
}

impl Matrix {
    fn new(
        (rows, columns): (usize, usize),
        row_major: bool,
        ty: &'static str,
        start: usize,
        random: &mut Random,
    ) -> Matrix {
        let dense = if row_major { columns } else { rows };
        let count = if row_major { rows } else { columns };
        // A gap between rows where the tile has room for it.
        let gap = 16 / bytes(ty);
        let fits = count * (dense + gap) * bytes(ty) <= 1024;
        let signed = !ty.starts_with('u');
        let values = (0..rows * columns).map(|_| {
            let value = (random.bits() % 9) as i32;
            if signed { value - 4 } else { value }
        });
        Matrix {
            rows,
            columns,
            row_major,
            pitch: if fits { dense + gap } else { dense },
            ty,
            start,
            values: values.collect(),
        }
    }

    fn at(&self, row: usize, column: usize) -> i32 {
        self.values[row * self.columns + column]
    }

    /// The byte of the tile at which an element starts.
    fn offset(&self, row: usize, column: usize) -> usize {
        let (far, near) = if self.row_major {
            (row, column)
        } else {
            (column, row)
        };
        self.start + (far * self.pitch + near) * bytes(self.ty)
    }

    fn write(&self, tile: &mut [u8]) {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let (at, size) = (self.offset(row, column), bytes(self.ty));
                tile[at..at + size].copy_from_slice(&encode(self.ty, self.at(row, column))[..size]);
            }
        }
    }

    fn layout(&self) -> &'static str {
        if self.row_major { "row" } else { "col" }
    }

    /// The stride as an operand; none where it is what the instruction takes without one.
    fn stride(&self) -> String {
        let dense = if self.row_major {
            self.columns
        } else {
            self.rows
        };
        if self.pitch == dense {
            String::new()
        } else {
            format!(", {}", self.pitch)
        }
    }
}

fn bytes(ty: &str) -> usize {
    match ty {
        "f32" | "s32" | "tf32" => 4,
        "f16" | "bf16" => 2,
        _ => 1,
    }
}

fn encode(ty: &str, value: i32) -> [u8; 4] {
    let word = match ty {
        "f32" | "tf32" => (value as f32).to_bits(),
        "f16" => f16::from_f32(value as f32).to_bits().into(),
        "bf16" => bf16::from_f32(value as f32).to_bits().into(),
        _ => value.cast_unsigned(),
    };
    word.to_le_bytes()
}

/// Names of so many registers, in braces.
fn list(name: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|i| format!("%{name}{i}")).collect();
    format!("{{{}}}", names.join(","))
}

/// Registers of each operand: of a, of b, of the sums.
fn registers(ty: &str, sum: &str, [m, n, _]: [usize; 3]) -> [usize; 3] {
    let sums = if sum == "f16" { 4 } else { 8 };
    match ty {
        "f16" => [8, 8, sums],
        "tf32" => [4, 4, sums],
        "bf16" => [m / 4, n / 4, sums],
        _ => [m / 8, n / 8, sums],
    }
}

/// Runs one product with the layouts of a, b, c and d, which are row-major or not, and compares
/// what is stored.
fn product(
    ty: &'static str,
    sum: &'static str,
    shape: [usize; 3],
    layouts: [bool; 4],
    saturate: bool,
) {
    let [m, n, k] = shape;
    let mut random = Random(3 + (m + 2 * n + k) as u64);
    let a = Matrix::new((m, k), layouts[0], ty, 0, &mut random);
    let b = Matrix::new((k, n), layouts[1], ty, 1024, &mut random);
    let c = Matrix::new((m, n), layouts[2], sum, 2048, &mut random);
    let mut d = Matrix::new((m, n), layouts[3], sum, 3072, &mut random);
    // All of it is read back, and a gap would hold what nobody wrote.
    d.pitch = if d.row_major { n } else { m };
    let mut tile = vec![0; 4096];
    for matrix in [&a, &b, &c] {
        matrix.write(&mut tile);
    }
    let [in_a, in_b, in_c] = registers(ty, sum, shape);
    let name = format!("m{m}n{n}k{k}");
    let types = if ty == "f16" {
        format!("{sum}.{sum}")
    } else {
        format!("{sum}.{ty}.{ty}.{sum}")
    };
    let sat = if saturate { ".satfinite" } else { "" };
    let fill: String = (0..32)
        .map(|i| format!("st.shared.b32 [%t0+{}], %a{i};\n", 4 * i))
        .collect();
    let read: String = (0..8)
        .map(|i| format!("ld.shared.b32 %d{i}, [%t1+{}];\n", 3072 + 4 * i))
        .collect();
    let code = format!(
        "{{ .reg .b32 %e<8>, %g<8>, %h<8>; .reg .b64 %c;
        shl.b32 %t0, %i2, 7; add.u32 %t0, %t0, %s; shl.b32 %t1, %i2, 5; add.u32 %t1, %t1, %s;
        {fill}
        cvt.u64.u32 %c, %s; cvta.shared.u64 %c, %c;
        wmma.load.a.sync.aligned.{}.{name}.shared.{ty} {}, [%s]{};
        wmma.load.b.sync.aligned.{}.{name}.{ty} {}, [%c+1024]{};
        wmma.load.c.sync.aligned.{}.{name}.shared::cta.{sum} {}, [tile+2048]{};
        wmma.mma.sync.aligned.{}.{}.{name}{sat}.{types} {}, {}, {}, {};
        wmma.store.d.sync.aligned.{}.{name}.shared.{sum} [%s+3072], {}{};
        {read} }}",
        a.layout(),
        list("e", in_a),
        a.stride(),
        b.layout(),
        list("g", in_b),
        b.stride(),
        c.layout(),
        list("h", in_c),
        c.stride(),
        a.layout(),
        b.layout(),
        list("h", in_c),
        list("e", in_a),
        list("g", in_b),
        list("h", in_c),
        d.layout(),
        list("h", in_c),
        d.stride(),
    );
    let lanes: Lanes = words(&tile).chunks(32).map(<[u32]>::to_vec).collect();
    let (got, counters) = run(&code, 32, 8, std::slice::from_ref(&lanes));
    let found: Vec<u8> = got[0]
        .iter()
        .flatten()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    for row in 0..m {
        for column in 0..n {
            let products: i32 = (0..k).map(|at| a.at(row, at) * b.at(at, column)).sum();
            let (at, size) = (d.offset(row, column) - 3072, bytes(sum));
            let want = encode(sum, c.at(row, column) + products);
            assert_eq!(
                found[at..at + size],
                want[..size],
                "{code}\nrow {row}, column {column}"
            );
        }
    }
    let adds: u64 = counters.matrix.iter().map(|work| work.multiply_adds).sum();
    assert_eq!(adds, (m * n * k) as u64);
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect()
}

/// Every combination of layouts.
fn layouts() -> impl Iterator<Item = [bool; 4]> {
    (0..16).map(|bits| [0, 1, 2, 3].map(|i| bits >> i & 1 == 1))
}

#[test]
fn halves_in_every_layout() {
    for shape in SHAPES {
        for layouts in layouts() {
            product("f16", "f32", shape, layouts, false);
            product("f16", "f16", shape, layouts, false);
        }
    }
}

#[test]
fn brain_floats_and_tf32() {
    for layouts in layouts().step_by(3) {
        for shape in SHAPES {
            product("bf16", "f32", shape, layouts, false);
        }
        product("tf32", "f32", [16, 16, 8], layouts, false);
    }
}

#[test]
fn integers() {
    for layouts in layouts().step_by(5) {
        for shape in SHAPES {
            product("s8", "s32", shape, layouts, false);
            product("u8", "s32", shape, layouts, true);
        }
    }
}

/// PTX ISA: of `mma.m8n8`, lane `4 * g + t` has row `g` of `a` and column `g` of `b`, elements
/// `4 * t` and the next three (half bytes: `8 * t` and the next seven), and of the sums row `g`,
/// columns `2 * t` and the next.
#[test]
fn integers_of_eight_rows() {
    for (shape, ty, depth) in [
        ("m8n8k16", "s8", 16),
        ("m8n8k16", "u8", 16),
        ("m8n8k32", "s4", 32),
        ("m8n8k32", "u4", 32),
    ] {
        let mut random = Random(9);
        let lanes: Lanes = (0..32)
            .map(|_| (0..4).map(|_| random.bits() as u32 >> 4).collect())
            .collect();
        let code = format!(
            "mma.sync.aligned.{shape}.row.col.s32.{ty}.{ty}.s32 {{%d0,%d1}}, {{%a0}}, {{%a1}}, \
            {{%a2,%a3}};"
        );
        let (got, counters) = run(&code, 4, 2, std::slice::from_ref(&lanes));
        let bits = 128 / depth;
        let element = |which: usize, line: usize, k: usize| {
            let (lane, part) = (4 * line + k * bits / 32, k % (32 / bits));
            let top = lanes[lane][which] << (32 - bits - part * bits);
            match ty.starts_with('s') {
                true => top.cast_signed() >> (32 - bits),
                false => (top >> (32 - bits)).cast_signed(),
            }
        };
        for (lane, sums) in got[0].iter().enumerate() {
            for (odd, &sum) in sums.iter().enumerate() {
                let (row, column) = (lane / 4, lane % 4 * 2 + odd);
                let products: i32 = (0..depth)
                    .map(|k| element(0, row, k) * element(1, column, k))
                    .sum();
                let want = lanes[lane][2 + odd].cast_signed().wrapping_add(products);
                assert_eq!(sum.cast_signed(), want, "{code} row {row}, column {column}");
            }
        }
        let adds: u64 = counters.matrix.iter().map(|work| work.multiply_adds).sum();
        assert_eq!(adds, 8 * 8 * depth as u64);
    }
}
