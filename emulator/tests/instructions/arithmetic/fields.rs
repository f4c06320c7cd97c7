//! Bits at every place: shifts, fields, masks, carries, registers taken apart. Compared with the
//! PTX ISA's own loops.

use super::harness::*;

const WIDTHS: [(Type, u32); 3] = [(B16, 16), (B32, 32), (B64, 64)];

/// Numbers around the widths of types.
const EDGES: [u64; 15] = [0, 1, 2, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256];

/// Random first operands with each pair of [`EDGES`] behind them.
fn at_edges() -> Vec<[u64; 3]> {
    let pairs = EDGES.iter().flat_map(|&b| EDGES.map(|c| (b, c)));
    let values = random(EDGES.len() * EDGES.len(), u64::MAX);
    let each = pairs.zip(values);
    each.flat_map(|((b, c), [a, other, _])| [[a, b, c], [!a, b, c], [other, b, c]])
        .collect()
}

/// The low bits, with their sign or without.
fn low(value: u64, bits: u32, signed: bool) -> i128 {
    let up = 64 - bits;
    match signed {
        true => i128::from((value << up) as i64 >> up),
        false => i128::from(value << up >> up),
    }
}

fn bit(value: u64, at: u32) -> u64 {
    value >> at & 1
}

#[test]
fn shifts_by_every_amount() {
    let inputs: Vec<[u64; 3]> = random(80, u64::MAX)
        .into_iter()
        .zip((0..70).chain([255, 256, 257, 1 << 31, u32::MAX.into()]))
        .flat_map(|([a, c, _], amount)| [[a, amount, c], [!a, amount, c]])
        .collect();
    for (register, bits) in WIDTHS {
        let operands = [register, B32, register];
        let amount = |b: u64| (b as u32).min(bits);
        let check = |name: &str, expected: &dyn Fn(u64, u32) -> u64| {
            let code = format!("{name}{bits} %d, %a, %b;");
            integers(&code, register, operands, &inputs, |[a, b, _]| {
                expected(a, amount(b))
            });
        };
        check("shl.b", &|a, n| ((u128::from(a)) << n) as u64);
        check("shr.u", &|a, n| (low(a, bits, false) >> n) as u64);
        check("shr.s", &|a, n| (low(a, bits, true) >> n) as u64);
    }
    for (name, left, clamp) in [
        ("l.wrap", true, false),
        ("l.clamp", true, true),
        ("r.wrap", false, false),
        ("r.clamp", false, true),
    ] {
        // The amount is the third operand there.
        let code = format!("shf.{name}.b32 %d, %a, %c, %b;");
        integers(&code, B32, [B32; 3], &inputs, |[a, n, b]| {
            let both = (b << 32 | a & 0xffff_ffff) as u128;
            let n = if clamp {
                (n as u32).min(32)
            } else {
                n as u32 & 31
            };
            if left {
                (both << n >> 32) as u64
            } else {
                (both >> n) as u64
            }
        });
    }
}

#[test]
fn fields_of_every_place_and_length() {
    for (bits, register) in [(32, B32), (64, B64)] {
        for signed in [false, true] {
            let code = format!(
                "bfe.{}{bits} %d, %a, %b, %c;",
                if signed { "s" } else { "u" }
            );
            let operands = [register, B32, B32];
            integers(&code, register, operands, &at_edges(), |[a, at, length]| {
                let (at, length) = (at as u32 & 0xff, length as u32 & 0xff);
                let sign_at = (at + length).saturating_sub(1).min(bits - 1);
                let sign = if signed && length > 0 {
                    bit(a, sign_at)
                } else {
                    0
                };
                let taken = |i: u32| i < length && at + i < bits;
                (0..bits)
                    .map(|i| (if taken(i) { bit(a, at + i) } else { sign }) << i)
                    .sum()
            });
        }
        let base = 0x55aa_1234_9876_f0f0u64;
        let code = match bits {
            32 => "mov.u32 %i0, 0x9876f0f0;\nbfi.b32 %d, %a, %i0, %b, %c;",
            _ => "mov.u64 %l3, 0x55aa12349876f0f0;\nbfi.b64 %d, %a, %l3, %b, %c;",
        };
        let operands = [register, B32, B32];
        integers(code, register, operands, &at_edges(), |[a, at, length]| {
            let (at, length) = (at as u32 & 0xff, length as u32 & 0xff);
            let put = (0..length).take_while(|i| at + i < bits);
            put.fold(base, |to, i| to & !(1 << (at + i)) | bit(a, i) << (at + i))
        });
    }
}

#[test]
fn masks_and_extensions_of_every_length() {
    for clamp in [false, true] {
        let mode = if clamp { "clamp" } else { "wrap" };
        let code = format!("bmsk.{mode}.b32 %d, %b, %c;");
        integers(&code, B32, [B32; 3], &at_edges(), |[_, at, length]| {
            let (from, count) = (at & 31, length & 31);
            let ones = |n: u64| if n >= 32 { 0 } else { u64::from(u32::MAX << n) };
            let beyond = clamp && length >= 32;
            let below = if clamp && at >= 32 { 0 } else { ones(from) };
            below & !if beyond { 0 } else { ones(from + count) }
        });
        for signed in [false, true] {
            let code = format!(
                "szext.{mode}.{}32 %d, %a, %b;",
                if signed { "s" } else { "u" }
            );
            integers(&code, B32, [B32; 3], &at_edges(), |[a, length, _]| {
                let length = if clamp { length.min(32) } else { length & 31 } as u32;
                match length {
                    0 => 0,
                    length => low(a, length, signed) as u64,
                }
            });
        }
    }
    let inputs: Vec<[u64; 3]> = random(32 * 24, 0xffff_ffff)
        .into_iter()
        .enumerate()
        .map(|(i, [a, b, _])| {
            let mask = [a, a & b, 0, u32::MAX.into(), 1, 1 << 31][i / 128];
            [mask, i as u64 % 32, (i as u64 / 32 % 9).wrapping_sub(4)]
        })
        .collect();
    integers(
        "fns.b32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &inputs,
        |[mask, base, offset]| {
            let (mut at, offset) = (base as i64, offset as i32);
            if offset == 0 {
                return if bit(mask, at as u32) == 1 {
                    base
                } else {
                    u64::MAX
                };
            }
            let mut left = offset.abs() - 1;
            while (0..32).contains(&at) {
                match bit(mask, at as u32) {
                    1 if left == 0 => return at as u64,
                    one => left -= one as i32,
                }
                at += i64::from(offset.signum());
            }
            u64::MAX
        },
    );
}

#[test]
fn products_of_bytes_are_summed() {
    let inputs = random(2000, u64::MAX);
    for (x, y) in [
        ("u32", "u32"),
        ("u32", "s32"),
        ("s32", "u32"),
        ("s32", "s32"),
    ] {
        let part = |value: u64, at: u32, bits, name: &str| low(value >> at, bits, name == "s32");
        let code = format!("dp4a.{x}.{y} %d, %a, %b, %c;");
        integers(&code, B32, [B32; 3], &inputs, |[a, b, c]| {
            let products = [0, 8, 16, 24].map(|at| part(a, at, 8, x) * part(b, at, 8, y));
            (i128::from(c) + products.iter().sum::<i128>()) as u64
        });
        for (half, first) in [("lo", 0), ("hi", 16)] {
            let code = format!("dp2a.{half}.{x}.{y} %d, %a, %b, %c;");
            integers(&code, B32, [B32; 3], &inputs, |[a, b, c]| {
                let product = |i: u32| part(a, 16 * i, 16, x) * part(b, first + 8 * i, 8, y);
                (i128::from(c) + product(0) + product(1)) as u64
            });
        }
    }
}

/// Two words or double words by instructions that hand a carry on.
#[test]
fn carries_are_handed_on() {
    let mut inputs = random(1000, u64::MAX);
    for (i, input) in inputs.iter_mut().enumerate() {
        // Sums and differences that just carry, or just not, by words and by double words.
        match i % 8 {
            0 => input[1] = !input[0],
            1 => input[1] = (!input[0]).wrapping_add(1),
            2 => input[1] = input[0],
            3 => input[1] = input[0].wrapping_add(1),
            4 => input[2] = u64::MAX,
            5 => (input[1], input[2]) = (input[0], 0),
            _ => {}
        }
    }
    for (bits, register) in [(32u32, B32), (64, B64)] {
        let wide = |value: u64| low(value, bits, false) as u128;
        let over = |sum: u128| sum >> bits & 1;
        // Of the double word (b, a) and (a, c).
        let check =
            |first: String, second: String, last: &str, want: &dyn Fn([u128; 3]) -> [u128; 3]| {
                let t = if bits == 32 { "%i5" } else { "%l3" };
                let steps = [format!("{first} %d, %a, "), format!("{second} {t}, %b, ")];
                for shown in 0..3 {
                    let show = match shown {
                        0 => String::new(),
                        1 => format!("mov.b{bits} %d, {t};"),
                        _ => format!("{last} %d, 0, 0;"),
                    };
                    let code =
                        format!("{}%a2; {}%c; {show}", steps[0], steps[1]).replace("%a2", "%b");
                    integers(&code, register, [register; 3], &inputs, |[a, b, c]| {
                        want([a, b, c].map(wide))[shown] as u64
                    });
                }
            };
        let op = |name: &str| format!("{name}.u{bits}");
        check(op("add.cc"), op("addc.cc"), &op("addc"), &|[a, b, c]| {
            let next = b + c + over(a + b);
            [a + b, next, over(next)]
        });
        check(op("sub.cc"), op("subc.cc"), &op("subc"), &|[a, b, c]| {
            let borrow = u128::from(a < b);
            let next = b.wrapping_sub(c).wrapping_sub(borrow);
            let again = u128::from(b < c + borrow);
            [a.wrapping_sub(b), next, 0u128.wrapping_sub(again)]
        });
        for (name, half) in [("lo", 0), ("hi", bits)] {
            let d = if bits == 32 { "%i5" } else { "%l3" };
            let part = |a: u128, b: u128| wide(((a * b) >> half) as u64);
            let code = format!(
                "mad.{name}.cc.u{bits} {d}, %a, %b, %c;\nmadc.{name}.cc.u{bits} {d}, %b, %c, {d};\n\
                addc.u{bits} %d, {d}, 0;"
            );
            integers(&code, register, [register; 3], &inputs, |[a, b, c]| {
                let [a, b, c] = [a, b, c].map(wide);
                let first = part(a, b) + c;
                let second = part(b, c) + wide(first as u64) + over(first);
                (wide(second as u64) + over(second)) as u64
            });
        }
        let signed = |value: u64| low(value, bits, true);
        let d = if bits == 32 { "%i5" } else { "%l3" };
        let code = format!("mad.hi.cc.s{bits} {d}, %a, %b, %c;\naddc.u{bits} %d, {d}, 0;");
        integers(&code, register, [register; 3], &inputs, |[a, b, c]| {
            let product = wide(((signed(a) * signed(b)) >> bits) as u64);
            let sum = product + wide(c);
            (sum + over(sum)) as u64
        });
    }
}

#[test]
fn registers_are_taken_apart_and_put_together() {
    let inputs = random(500, u64::MAX);
    let parts = |value: u64, count: u32, bits: u32| {
        let part = move |i: u32| low(value >> (bits * i), bits, false) as u64;
        // The first becomes the last.
        (0..count)
            .map(|i| part(i) << (bits * (count - 1 - i)))
            .sum::<u64>()
    };
    for (register, whole, part, count) in [
        (B16, 16, 8, 2),
        (B32, 32, 8, 4),
        (B32, 32, 16, 2),
        (B64, 64, 32, 2),
        (B64, 64, 16, 4),
    ] {
        let names: Vec<String> = (0..count).map(|i| format!("%x{i}")).collect();
        let back: Vec<String> = names.iter().rev().cloned().collect();
        let code = format!(
            "{{\n.reg .b{part} %x<4>;\nmov.b{whole} {{{}}}, %a;\nmov.b{whole} %d, {{{}}};\n}}",
            names.join(", "),
            back.join(", ")
        );
        integers(&code, register, [register; 3], &inputs, |[a, ..]| {
            parts(a, count, part)
        });
    }
}

#[test]
fn selections_look_at_the_sign() {
    let of_zero = [
        0,
        1,
        0x7fff_ffff,
        0x8000_0000,
        0x8000_0001,
        0xffff_ffff,
        0x7fc0_0000,
    ];
    let inputs: Vec<[u64; 3]> = random(70, u64::MAX)
        .into_iter()
        .enumerate()
        .map(|(i, [a, b, _])| [a, b, of_zero[i % 7]])
        .collect();
    for (bits, register) in [(32, B32), (64, B64)] {
        let operands = [register, register, B32];
        let code = format!("slct.b{bits}.s32 %d, %a, %b, %c;");
        integers(&code, register, operands, &inputs, |[a, b, c]| {
            if c as i32 >= 0 { a } else { b }
        });
        let operands = [register, register, F32];
        let code = format!("slct.b{bits}.f32 %d, %a, %b, %c;");
        integers(&code, register, operands, &inputs, |[a, b, c]| {
            // A denormal is one; minus zero is zero, NaN is not.
            if f(c) >= 0.0 { a } else { b }
        });
    }
}

#[test]
fn neighbours_are_told_apart() {
    let inputs: Vec<[u64; 3]> = random(300, u64::MAX)
        .into_iter()
        .chain(pairs(&special_integers()))
        .flat_map(|[a, ..]| {
            [
                [a, a, 0],
                [a, a ^ 1, 0],
                [a, a.wrapping_add(1), 0],
                [a, a.wrapping_sub(1), 0],
            ]
        })
        .collect();
    type Holds = fn(i128, i128) -> bool;
    let tests: [(&str, Holds); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (register, bits) in WIDTHS {
        for signed in [false, true] {
            for (name, holds) in tests {
                let ty = if signed { "s" } else { "u" };
                // Both predicates: the comparison and its opposite.
                let code = format!(
                    "setp.{name}.{ty}{bits} %p|%q, %a, %b;\nselp.u32 %d, 1, 0, %p;\n@%q add.u32 \
                    %d, %d, 2;"
                );
                integers(&code, B32, [register; 3], &inputs, |[a, b, _]| {
                    let [a, b] = [a, b].map(|value| low(value, bits, signed));
                    if holds(a, b) { 1 } else { 2 }
                });
            }
        }
    }
}

/// Both modes with an index of their own and the six that the ISA has a table for.
#[test]
fn bytes_are_permuted_in_every_mode() {
    let inputs: Vec<[u64; 3]> = random(400, u64::MAX)
        .into_iter()
        .enumerate()
        .map(|(i, [a, b, c])| [a, b, if i % 2 == 0 { c } else { i as u64 / 2 % 4 }])
        .collect();
    // For each of the last operand's two low bits the bytes of the result, the first one last.
    let tables: [(&str, [[u32; 4]; 4]); 6] = [
        (
            ".f4e",
            [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]],
        ),
        (
            ".b4e",
            [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]],
        ),
        (".rc8", [[0; 4], [1; 4], [2; 4], [3; 4]]),
        (
            ".ecl",
            [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]],
        ),
        (
            ".ecr",
            [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]],
        ),
        (
            ".rc16",
            [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]],
        ),
    ];
    for (mode, table) in tables {
        let code = format!("prmt.b32{mode} %d, %a, %b, %c;");
        integers(&code, B32, [B32; 3], &inputs, |[a, b, c]| {
            let bytes = a & 0xffff_ffff | b << 32;
            let row = table[c as usize & 3];
            row.iter()
                .fold(0, |word, at| word << 8 | bytes >> (8 * at) & 0xff)
        });
    }
}

#[test]
fn words_of_16_bits_are_multiplied_and_added() {
    let inputs: Vec<[u64; 3]> = random(2000, u64::MAX)
        .into_iter()
        .chain(triples(
            &[0, 1, 2, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff],
            u64::MAX,
        ))
        .collect();
    for signed in [false, true] {
        let ty = if signed { "s16" } else { "u16" };
        let product = |a: u64, b: u64| low(a, 16, signed) * low(b, 16, signed);
        for (part, shift) in [("lo", 0), ("hi", 16)] {
            let code = format!("mad.{part}.{ty} %d, %a, %b, %c;");
            integers(&code, B16, [B16; 3], &inputs, |[a, b, c]| {
                ((product(a, b) >> shift) + i128::from(c)) as u64
            });
        }
        let code = format!("mad.wide.{ty} %d, %a, %b, %c;");
        integers(&code, B32, [B16, B16, B32], &inputs, |[a, b, c]| {
            (product(a, b) + i128::from(c)) as u64
        });
    }
}

/// Two saturated integers beside each other, and of bytes what was there before above them.
#[test]
fn integers_are_packed_and_saturated() {
    let edges = [
        0i64,
        1,
        127,
        128,
        255,
        256,
        32767,
        32768,
        65535,
        65536,
        i64::from(i32::MAX),
    ];
    let values: Vec<u64> = edges
        .iter()
        .flat_map(|&x| [x, -x - 1])
        .map(|x| x as u64)
        .collect();
    let mut inputs = pairs(&values);
    inputs.extend(random(500, u64::MAX));
    for (i, input) in inputs.iter_mut().enumerate() {
        input[2] = i as u64 * 0x9e37_79b9;
    }
    for (ty, bits, least, most) in [
        ("u16", 16, 0, 0xffff),
        ("s16", 16, -0x8000, 0x7fff),
        ("u8", 8, 0, 0xff),
        ("s8", 8, -0x80, 0x7f),
    ] {
        let code = match bits {
            16 => format!("cvt.pack.sat.{ty}.s32 %d, %a, %b;"),
            _ => format!("cvt.pack.sat.{ty}.s32.b32 %d, %a, %b, %c;"),
        };
        integers(&code, B32, [B32; 3], &inputs, |[a, b, c]| {
            let part = |x: u64| (low(x, 32, true).clamp(least, most) as u64) & ((1 << bits) - 1);
            let above = if bits == 8 { c << 16 } else { 0 };
            above | part(a) << bits | part(b)
        });
    }
}
