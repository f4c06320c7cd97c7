//! Runs one chain of products.

use super::layout::Layout;
use half::{bf16, f16};
use ptx_emulator::{Device, DeviceConfig, LaunchConfig, Module};
use std::fmt::Write as _;

/// The type of the factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
}

/// The type of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    F32,
    /// In pairs.
    F16,
    S32,
    /// With `.satfinite`.
    Saturated,
}

/// The number of eight bits that is a value, found among all of them.
pub fn fp8(value: f32, exponent_bits: u32) -> u8 {
    let fraction_bits = 7 - exponent_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let decoded = |code: u8| {
        let exponent = i32::from(code & 0x7f) >> fraction_bits;
        let fraction = f32::from(code & ((1 << fraction_bits) - 1)) / (1 << fraction_bits) as f32;
        let magnitude = match exponent {
            0 => fraction * 2f32.powi(1 - bias),
            _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
        };
        if code & 0x80 != 0 {
            -magnitude
        } else {
            magnitude
        }
    };
    let codes = (0..=255u8).filter(|&code| code & 0x7f != 0x7f);
    codes
        .into_iter()
        .find(|&code| decoded(code) == value)
        .expect("a number of eight bits")
}

impl Factor {
    fn size(self) -> usize {
        match self {
            Factor::Tf32 => 4,
            Factor::F16 | Factor::Bf16 => 2,
            _ => 1,
        }
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Factor::S8 | Factor::U8)
    }

    fn name(self) -> &'static str {
        match self {
            Factor::F16 => "f16",
            Factor::Bf16 => "bf16",
            Factor::Tf32 => "tf32",
            Factor::E4m3 => "e4m3",
            Factor::E5m2 => "e5m2",
            Factor::S8 => "s8",
            Factor::U8 => "u8",
        }
    }

    fn bytes(self, value: f32) -> Vec<u8> {
        match self {
            Factor::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
            Factor::Bf16 => bf16::from_f32(value).to_le_bytes().to_vec(),
            Factor::Tf32 => value.to_le_bytes().to_vec(),
            Factor::E4m3 => vec![fp8(value, 4)],
            Factor::E5m2 => vec![fp8(value, 5)],
            Factor::S8 => vec![(value as i8).cast_unsigned()],
            Factor::U8 => vec![value as u8],
        }
    }
}

/// Instructions that follow each other along the summed dimension.
const STEPS: usize = 4;

/// A product of 64 rows.
#[derive(Clone, Debug)]
pub struct Product {
    pub factor: Factor,
    /// The type of the right matrix.
    pub factor_b: Factor,
    pub sum: Sum,
    pub columns: usize,
    /// The left matrix in shared memory; `None` for registers.
    pub a: Option<Layout>,
    pub b: Layout,
    /// Adds to what the sums hold.
    pub add: bool,
    pub negate_a: bool,
    pub negate_b: bool,
    /// Bytes by which the right matrix's descriptor is wrong.
    pub shift_b: usize,
}

impl Product {
    pub fn new(factor: Factor, columns: usize, a: Option<Layout>, b: Layout) -> Product {
        Product {
            factor,
            factor_b: factor,
            sum: if factor.is_integer() {
                Sum::S32
            } else {
                Sum::F32
            },
            columns,
            a,
            b,
            add: false,
            negate_a: false,
            negate_b: false,
            shift_b: 0,
        }
    }

    /// Registers of sums of a thread.
    fn registers(&self) -> usize {
        self.columns / if self.sum == Sum::F16 { 4 } else { 2 }
    }

    /// Places along the summed dimension.
    pub fn depth(&self) -> usize {
        STEPS * 32 / self.factor.size()
    }
}

type Matrix<'a> = &'a dyn Fn(usize, usize) -> f32;

/// Row and column of a thread's register.
fn place(thread: usize, register: usize) -> (usize, usize) {
    let (warp, lane) = (thread / 32, thread % 32);
    let row = 16 * warp + lane / 4 + 8 * (register / 2 % 2);
    (row, register / 4 * 8 + lane % 4 * 2 + register % 2)
}

/// The words of the left matrix that a thread's registers hold for an instruction.
fn fragment(product: &Product, a: Matrix<'_>, step: usize, thread: usize) -> Vec<u8> {
    let (warp, lane) = (thread / 32, thread % 32);
    let size = product.factor.size();
    let mut bytes = Vec::new();
    for register in 0..4 {
        let row = 16 * warp + lane / 4 + 8 * (register % 2);
        let word = lane % 4 + 4 * (register / 2);
        for i in 0..4 / size {
            let k = step * 32 / size + word * (4 / size) + i;
            bytes.extend(product.factor.bytes(a(row, k)));
        }
    }
    bytes
}

/// Shared memory with both matrices; where the right one starts.
fn image(product: &Product, a: Matrix<'_>, b: Matrix<'_>) -> (Vec<u8>, usize) {
    let (size, depth) = (product.factor.size(), product.depth());
    let left = if product.a.is_some() {
        64 * depth * size
    } else {
        0
    };
    let start = left.next_multiple_of(1024);
    let mut image = vec![0; (start + product.columns * depth * size).next_multiple_of(1024)];
    for k in 0..depth {
        if let Some(layout) = product.a {
            for row in 0..64 {
                let at = layout.at((row, k), (64, depth), size);
                image[at..at + size].copy_from_slice(&product.factor.bytes(a(row, k)));
            }
        }
        for column in 0..product.columns {
            let at = product.b.at((column, k), (product.columns, depth), size);
            let bytes = product.factor_b.bytes(b(column, k));
            image[start + at..start + at + size].copy_from_slice(&bytes);
        }
    }
    (image, start)
}

/// The kernel: fills shared memory, multiplies, writes the sums thread by thread.
fn kernel(product: &Product, image: usize, start: usize) -> String {
    let (size, depth, columns) = (product.factor.size(), product.depth(), product.columns);
    let registers = product.registers();
    let ty = if product.sum == Sum::F32 {
        "f32"
    } else {
        "b32"
    };
    let sums: Vec<String> = (0..registers).map(|i| format!("%f{i}")).collect();
    let mut text = format!(
        "
.version 8.0
.target sm_90a
.address_size 64
.extern .shared .align 1024 .b8 tile[];

.visible .entry product(.param .u64 image, .param .u64 left, .param .u64 sums)
{{
    .reg .pred %p<4>;
    .reg .{ty} %f<{registers}>;
    .reg .b32 %r<8>;
    .reg .b32 %a<{}>;
    .reg .b64 %rd<8>;
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd1, [image];
    ld.param.u64 %rd2, [left];
    ld.param.u64 %rd3, [sums];
    mov.u32 %r2, tile;
    mov.u32 %r3, %r1;
FILL:
    mul.wide.u32 %rd4, %r3, 4;
    add.u64 %rd4, %rd4, %rd1;
    ld.global.u32 %r4, [%rd4];
    shl.b32 %r5, %r3, 2;
    add.u32 %r5, %r5, %r2;
    st.shared.u32 [%r5], %r4;
    add.u32 %r3, %r3, 128;
    setp.lt.u32 %p1, %r3, {};
    @%p1 bra FILL;
    mul.wide.u32 %rd4, %r1, {};
    add.u64 %rd3, %rd3, %rd4;
    mul.wide.u32 %rd4, %r1, 16;
    add.u64 %rd2, %rd2, %rd4;
",
        4 * STEPS,
        image / 4,
        4 * registers,
    );
    for (i, sum) in sums.iter().enumerate() {
        let _ = writeln!(text, "    ld.global.{ty} {sum}, [%rd3+{}];", 4 * i);
    }
    if product.a.is_none() {
        for step in 0..STEPS {
            let regs: Vec<String> = (0..4).map(|i| format!("%a{}", 4 * step + i)).collect();
            let at = step * 128 * 16;
            let _ = writeln!(
                text,
                "    ld.global.v4.u32 {{{}}}, [%rd2+{at}];",
                regs.join(",")
            );
        }
    }
    text += "    fence.proxy.async;\n    bar.sync 0;\n    wgmma.fence.sync.aligned;\n";
    for step in 0..STEPS {
        let a = match product.a {
            Some(layout) => layout.descriptor(0, step, (64, depth), size).to_string(),
            None => format!(
                "{{%a{},%a{},%a{},%a{}}}",
                4 * step,
                4 * step + 1,
                4 * step + 2,
                4 * step + 3
            ),
        };
        let shape = (columns, depth);
        let b = product
            .b
            .descriptor(start + product.shift_b, step, shape, size);
        let scale = u32::from(step > 0 || product.add);
        let sign = |negative| if negative { -1 } else { 1 };
        let (sign_a, sign_b) = (sign(product.negate_a), sign(product.negate_b));
        let (name, name_b) = (product.factor.name(), product.factor_b.name());
        let (sum, saturate) = match product.sum {
            Sum::F32 => ("f32", ""),
            Sum::F16 => ("f16", ""),
            Sum::S32 => ("s32", ""),
            Sum::Saturated => ("s32", ".satfinite"),
        };
        let signs = match product.factor.is_integer() {
            true => String::new(),
            false => format!(", {sign_a}, {sign_b}"),
        };
        let transposes = match (product.factor, product.a) {
            _ if size != 2 => String::new(),
            (_, None) => format!(", {}", u32::from(product.b.transposed)),
            (_, Some(a)) => format!(
                ", {}, {}",
                u32::from(a.transposed),
                u32::from(product.b.transposed)
            ),
        };
        let _ = writeln!(
            text,
            "    setp.ne.u32 %p2, {scale}, \
            0;\n    wgmma.mma_async.sync.aligned.m64n{columns}k{}{saturate}.{sum}.{name}.{name_b} \
             {{{}}}, {a}, {b}, %p2{signs}{transposes};",
            32 / size,
            sums.join(","),
        );
    }
    text += "    wgmma.commit_group.sync.aligned;\n    wgmma.wait_group.sync.aligned 0;\n";
    for (i, sum) in sums.iter().enumerate() {
        let _ = writeln!(text, "    st.global.{ty} [%rd3+{}], {sum};", 4 * i);
    }
    text + "    ret;\n}\n"
}

/// Multiplies; the sums by row and column, or the report.
pub fn run(
    product: &Product,
    a: Matrix<'_>,
    b: Matrix<'_>,
    start: Matrix<'_>,
) -> Result<Vec<Vec<f32>>, String> {
    let config = DeviceConfig {
        memory_bytes: 1 << 24,
        workers: Some(1),
        ..DeviceConfig::new(90)
    };
    let device = Device::new(config);
    let (image, right) = image(product, a, b);
    let module = Module::parse(&kernel(product, image.len(), right)).expect("a good module");
    let kernel = device
        .load(&module)
        .expect("loads")
        .kernel("product")
        .expect("there");
    let registers = product.registers();
    let halves = product.sum == Sum::F16;
    let threads = (0..STEPS).flat_map(|step| (0..128).map(move |thread| (step, thread)));
    let left: Vec<u8> = threads
        .flat_map(|(step, thread)| fragment(product, a, step, thread))
        .collect();
    let places =
        (0..128).flat_map(|thread| (0..product.columns / 2).map(move |i| place(thread, i)));
    let sums: Vec<u8> = places
        .clone()
        .flat_map(|(row, column)| match product.sum {
            Sum::F32 => start(row, column).to_le_bytes().to_vec(),
            Sum::F16 => f16::from_f32(start(row, column)).to_le_bytes().to_vec(),
            Sum::S32 | Sum::Saturated => (start(row, column) as i32).to_le_bytes().to_vec(),
        })
        .collect();
    assert_eq!(sums.len(), 128 * registers * 4);
    let memory = device.memory();
    let mut params = Vec::new();
    let mut address = 0;
    for data in [&image, &left, &sums] {
        address = memory.alloc(data.len() as u64).expect("memory");
        memory.write(address, data).expect("memory");
        params.extend(address.to_le_bytes());
    }
    let mut config = LaunchConfig::linear(1, 128);
    config.shared_bytes = image.len() as u32;
    device
        .launch(&kernel, config, &params)
        .map_err(|fault| fault.to_string())?;
    let mut bytes = vec![0; sums.len()];
    memory.read(address, &mut bytes).expect("memory");
    let mut out = vec![vec![0.0; product.columns]; 64];
    for ((row, column), sum) in places.zip(bytes.chunks_exact(if halves { 2 } else { 4 })) {
        out[row][column] = match (product.sum, sum) {
            (Sum::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (_, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32,
            (_, two) => f16::from_le_bytes([two[0], two[1]]).to_f32(),
        };
    }
    Ok(out)
}
