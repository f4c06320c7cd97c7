//! Runs one instruction over many operands, a thread for each set of them.

use std::fmt::Debug;

use ptx_emulator::{Device, DeviceConfig, LaunchConfig, Module};

/// A register type with the bits of its values.
#[derive(Clone, Copy)]
pub struct Type {
    /// Type in `.reg`.
    pub register: &'static str,
    /// Type of loads and stores.
    pub memory: &'static str,
}

pub const F32: Type = Type {
    register: "f32",
    memory: "f32",
};
pub const F64: Type = Type {
    register: "f64",
    memory: "f64",
};
pub const B16: Type = Type {
    register: "b16",
    memory: "b16",
};
pub const B32: Type = Type {
    register: "b32",
    memory: "b32",
};
pub const B64: Type = Type {
    register: "b64",
    memory: "b64",
};

/// Runs `code`, which computes `%d` from `%a`, `%b` and `%c` (predicate `%p` is free to use), for
/// each set of operands.
pub fn run(code: &str, result: Type, operands: [Type; 3], inputs: &[[u64; 3]]) -> Vec<u64> {
    let [a, b, c] = operands;
    let text = format!(
        ".version 8.1\n.target sm_90\n.address_size 64\n
.visible .entry op(.param .u64 x, .param .u64 y, .param .u32 n)
{{
    .reg .pred %p, %q;
    .reg .b32 %i<6>;
    .reg .b64 %l<6>;
    .reg .{} %a;
    .reg .{} %b;
    .reg .{} %c;
    .reg .{} %d;
    ld.param.u64 %l1, [x];
    ld.param.u64 %l2, [y];
    ld.param.u32 %i1, [n];
    mov.u32 %i2, %ctaid.x;
    mov.u32 %i3, %tid.x;
    mad.lo.u32 %i4, %i2, 256, %i3;
    setp.ge.u32 %q, %i4, %i1;
    @%q ret;
    mad.wide.u32 %l1, %i4, 24, %l1;
    mad.wide.u32 %l2, %i4, 8, %l2;
    ld.global.{} %a, [%l1];
    ld.global.{} %b, [%l1+8];
    ld.global.{} %c, [%l1+16];
    {code}
    st.global.{} [%l2], %d;
    ret;
}}",
        a.register,
        b.register,
        c.register,
        result.register,
        a.memory,
        b.memory,
        c.memory,
        result.memory
    );
    let module = Module::parse(&text).unwrap_or_else(|error| panic!("{code}: {error}"));
    let device = Device::new(DeviceConfig {
        memory_bytes: 1 << 26,
        ..DeviceConfig::new(90)
    });
    let loaded = device.load(&module).expect("the module fits");
    let memory = device.memory();
    let x = memory
        .alloc(inputs.len() as u64 * 24)
        .expect("enough memory");
    let y = memory
        .alloc(inputs.len() as u64 * 8)
        .expect("enough memory");
    let bytes: Vec<u8> = inputs
        .iter()
        .flatten()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    memory.write(x, &bytes).expect("inside the buffer");
    let mut params = [x.to_le_bytes(), y.to_le_bytes()].concat();
    params.extend((inputs.len() as u32).to_le_bytes());
    let blocks = inputs.len().div_ceil(256) as u32;
    let kernel = loaded.kernel("op").expect("the kernel");
    if let Err(fault) = device.launch(&kernel, LaunchConfig::linear(blocks, 256), &params) {
        panic!("{code}: {fault}");
    }
    let mut bytes = vec![0; inputs.len() * 8];
    memory.read(y, &mut bytes).expect("inside the buffer");
    bytes
        .chunks_exact(8)
        .map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        .collect()
}

/// Runs `code` and compares every result with `expected` of its operands.
pub fn check<T: Debug>(
    code: &str,
    result: Type,
    operands: [Type; 3],
    inputs: &[[u64; 3]],
    decode: impl Fn(u64) -> T,
    same: impl Fn(&T, &T) -> bool,
    expected: impl Fn([u64; 3]) -> T,
) {
    let got = run(code, result, operands, inputs);
    let mut wrong = 0;
    let mut message = String::new();
    for (input, bits) in inputs.iter().zip(got) {
        let (got, want) = (decode(bits), expected(*input));
        if !same(&got, &want) {
            wrong += 1;
            if wrong <= 5 {
                message += &format!("\n  {input:x?}: got {got:?}, expected {want:?}");
            }
        }
    }
    assert!(
        wrong == 0,
        "{code}: {wrong} of {} wrong{message}",
        inputs.len()
    );
}

/// Compares f32 results; every NaN is like any other, zeros have signs.
pub fn f32s(
    code: &str,
    operands: [Type; 3],
    inputs: &[[u64; 3]],
    expected: impl Fn([u64; 3]) -> f32,
) {
    let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    check(
        code,
        F32,
        operands,
        inputs,
        |bits| f32::from_bits(bits as u32),
        same,
        expected,
    );
}

/// Compares f64 results likewise.
pub fn f64s(
    code: &str,
    operands: [Type; 3],
    inputs: &[[u64; 3]],
    expected: impl Fn([u64; 3]) -> f64,
) {
    let same = |a: &f64, b: &f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    check(code, F64, operands, inputs, f64::from_bits, same, expected);
}

/// Compares whole numbers.
pub fn integers(
    code: &str,
    result: Type,
    operands: [Type; 3],
    inputs: &[[u64; 3]],
    expected: impl Fn([u64; 3]) -> u64,
) {
    let mask = match result.register {
        "b16" => 0xffff,
        "b32" => 0xffff_ffff,
        _ => u64::MAX,
    };
    check(
        code,
        result,
        operands,
        inputs,
        |bits| bits & mask,
        |a, b| a == b,
        |input| expected(input) & mask,
    );
}

/// The f32 of an operand.
pub fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// The f64 of an operand.
pub fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// f32 values where arithmetic goes wrong first.
pub fn special_f32() -> Vec<u64> {
    let positive = [
        0.0f32,
        f32::from_bits(1),
        f32::from_bits(0x007f_ffff),
        f32::MIN_POSITIVE,
        f32::from_bits(0x0080_0001),
        1e-30,
        1e-10,
        0.1,
        0.5,
        1.0 - f32::EPSILON / 2.0,
        1.0,
        1.0 + f32::EPSILON,
        1.5,
        2.0,
        2.5,
        3.0,
        std::f32::consts::PI,
        127.5,
        65_504.0,
        65_520.0,
        8_388_607.5,
        16_777_216.0,
        2_147_483_520.0,
        2_147_483_648.0,
        4_294_967_296.0,
        1e19,
        1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ];
    positive
        .iter()
        .flat_map(|&value| [value, -value])
        .map(|value| u64::from(value.to_bits()))
        .collect()
}

/// f64 values likewise.
pub fn special_f64() -> Vec<u64> {
    let positive = [
        0.0f64,
        f64::from_bits(1),
        f64::MIN_POSITIVE,
        1e-200,
        1e-40,
        0.1,
        0.5,
        1.0,
        1.0 + f64::EPSILON,
        1.0 + f64::from(f32::EPSILON) / 2.0,
        2.5,
        65_504.0,
        1e19,
        f64::from(f32::MAX) * 1.000_000_1,
        1e300,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];
    positive
        .iter()
        .flat_map(|&value| [value, -value])
        .map(f64::to_bits)
        .collect()
}

/// Whole numbers at the edges of their types.
pub fn special_integers() -> Vec<u64> {
    let values: [i64; 24] = [
        0,
        1,
        2,
        3,
        7,
        31,
        32,
        33,
        255,
        256,
        32_767,
        32_768,
        65_535,
        65_536,
        0x1234_5678,
        i32::MAX as i64,
        i32::MAX as i64 + 1,
        u32::MAX as i64,
        u32::MAX as i64 + 1,
        0x0123_4567_89ab_cdef,
        i64::MAX,
        i64::MIN,
        -2,
        -1,
    ];
    values.iter().map(|&value| value as u64).collect()
}

/// Every value with zeros beside it.
pub fn singles(values: &[u64]) -> Vec<[u64; 3]> {
    values.iter().map(|&a| [a, 0, 0]).collect()
}

/// Every pair.
pub fn pairs(values: &[u64]) -> Vec<[u64; 3]> {
    values
        .iter()
        .flat_map(|&a| values.iter().map(move |&b| [a, b, 0]))
        .collect()
}

/// Every triple of each third value, and random bits.
pub fn triples(values: &[u64], mask: u64) -> Vec<[u64; 3]> {
    let few: Vec<u64> = values.iter().copied().step_by(2).collect();
    let all = few.iter().flat_map(|&a| few.iter().map(move |&b| (a, b)));
    let mut triples: Vec<_> = all
        .flat_map(|(a, b)| few.iter().map(move |&c| [a, b, c]))
        .collect();
    triples.extend(random(4000, mask));
    triples
}

/// Random bits under a mask, the same at each run.
pub fn random(count: usize, mask: u64) -> Vec<[u64; 3]> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state & mask
    };
    (0..count).map(|_| [next(), next(), next()]).collect()
}
