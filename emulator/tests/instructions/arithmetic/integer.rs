//! Whole numbers: wrap-around, halves of products, shifts, bits.

use super::harness::*;

fn inputs() -> Vec<[u64; 3]> {
    let mut inputs = pairs(&special_integers());
    inputs.extend(random(4000, u64::MAX));
    inputs
}

/// Sign-extends the low bits.
fn s(raw: u64, bits: u32) -> i128 {
    i128::from(((raw << (64 - bits)) as i64) >> (64 - bits))
}

/// Zero-extends the low bits.
fn u(raw: u64, bits: u32) -> i128 {
    i128::from(raw << (64 - bits) >> (64 - bits))
}

const WIDTHS: [(Type, u32); 3] = [(B16, 16), (B32, 32), (B64, 64)];

#[test]
fn arithmetic_wraps() {
    for (register, bits) in WIDTHS {
        let three = [register; 3];
        let check = |name: &str, signed: bool, op: &dyn Fn(i128, i128) -> i128| {
            let code = format!(
                "{name}.{}{bits} %d, %a, %b;",
                if signed { "s" } else { "u" }
            );
            let read = if signed { s } else { u };
            integers(&code, register, three, &inputs(), |[a, b, _]| {
                op(read(a, bits), read(b, bits)) as u64
            });
        };
        for signed in [false, true] {
            check("add", signed, &|a, b| a + b);
            check("sub", signed, &|a, b| a - b);
            check("mul.lo", signed, &|a, b| a.wrapping_mul(b));
            check("min", signed, &|a, b| a.min(b));
            check("max", signed, &|a, b| a.max(b));
        }
        check("mul.hi", false, &|a, b| {
            ((a as u128 * b as u128) >> bits) as i128
        });
        check("mul.hi", true, &|a, b| (a * b) >> bits);
        integers(
            &format!("neg.s{bits} %d, %a;"),
            register,
            three,
            &inputs(),
            |[a, ..]| -s(a, bits) as u64,
        );
        integers(
            &format!("abs.s{bits} %d, %a;"),
            register,
            three,
            &inputs(),
            |[a, ..]| s(a, bits).unsigned_abs() as u64,
        );
    }
}

#[test]
fn quotients_are_cut_off() {
    for (register, bits) in WIDTHS {
        for (sign, read) in [("u", u as fn(u64, u32) -> i128), ("s", s)] {
            let divisible: Vec<_> = inputs()
                .into_iter()
                .filter(|[_, b, _]| u(*b, bits) != 0)
                .collect();
            let code = format!("div.{sign}{bits} %d, %a, %b;");
            integers(&code, register, [register; 3], &divisible, |[a, b, _]| {
                (read(a, bits) / read(b, bits)) as u64
            });
            // The remainder of the least number by -1 is not defined.
            let defined: Vec<_> = divisible
                .into_iter()
                .filter(|[_, b, _]| s(*b, bits) != -1)
                .collect();
            let code = format!("rem.{sign}{bits} %d, %a, %b;");
            integers(&code, register, [register; 3], &defined, |[a, b, _]| {
                (read(a, bits) % read(b, bits)) as u64
            });
        }
    }
}

#[test]
fn products_and_sums_are_fused() {
    let triples = {
        let mut triples = inputs();
        triples
            .iter_mut()
            .for_each(|[a, b, c]| *c = c.wrapping_add(a.rotate_left(17) ^ b.rotate_right(5)));
        triples
    };
    integers(
        "mad.lo.s32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &triples,
        |[a, b, c]| (s(a, 32) * s(b, 32) + s(c, 32)) as u64,
    );
    integers(
        "mad.hi.u32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &triples,
        |[a, b, c]| (((u(a, 32) * u(b, 32)) >> 32) + u(c, 32)) as u64,
    );
    integers(
        "mul.wide.s32 %d, %a, %b;",
        B64,
        [B32; 3],
        &triples,
        |[a, b, _]| (s(a, 32) * s(b, 32)) as u64,
    );
    integers(
        "mul.wide.u16 %d, %a, %b;",
        B32,
        [B16; 3],
        &triples,
        |[a, b, _]| (u(a, 16) * u(b, 16)) as u64,
    );
    integers(
        "mad.wide.u32 %d, %a, %b, %c;",
        B64,
        [B32, B32, B64],
        &triples,
        |[a, b, c]| ((u(a, 32) * u(b, 32)) as u64).wrapping_add(c),
    );
    integers(
        "add.sat.s32 %d, %a, %b;",
        B32,
        [B32; 3],
        &triples,
        |[a, b, _]| (a as i32).saturating_add(b as i32) as u64,
    );
    integers(
        "sub.sat.s32 %d, %a, %b;",
        B32,
        [B32; 3],
        &triples,
        |[a, b, _]| (a as i32).saturating_sub(b as i32) as u64,
    );
    integers(
        "mul24.lo.s32 %d, %a, %b;",
        B32,
        [B32; 3],
        &triples,
        |[a, b, _]| (s(a, 24) * s(b, 24)) as u64,
    );
    integers(
        "sad.s32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &triples,
        |[a, b, c]| ((s(a, 32) - s(b, 32)).abs() + s(c, 32)) as u64,
    );
}

#[test]
fn shifts_past_the_width_leave_nothing() {
    for (register, bits) in WIDTHS {
        let operands = [register, B32, register];
        let amount = |b: u64| (b as u32).min(bits);
        integers(
            &format!("shl.b{bits} %d, %a, %b;"),
            register,
            operands,
            &inputs(),
            |[a, b, _]| ((a as u128) << amount(b)) as u64,
        );
        integers(
            &format!("shr.u{bits} %d, %a, %b;"),
            register,
            operands,
            &inputs(),
            |[a, b, _]| (u(a, bits) >> amount(b)) as u64,
        );
        integers(
            &format!("shr.s{bits} %d, %a, %b;"),
            register,
            operands,
            &inputs(),
            |[a, b, _]| (s(a, bits) >> amount(b)) as u64,
        );
    }
    integers(
        "shf.l.wrap.b32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &inputs(),
        |[a, b, c]| (((b << 32) | (a & 0xffff_ffff)) << (c & 31)) >> 32,
    );
    integers(
        "shf.r.clamp.b32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &inputs(),
        |[a, b, c]| ((b << 32) | (a & 0xffff_ffff)) >> (c as u32).min(32),
    );
}

#[test]
fn bits_are_counted_and_moved() {
    let inputs = inputs();
    integers("popc.b32 %d, %a;", B32, [B32; 3], &inputs, |[a, ..]| {
        u64::from((a as u32).count_ones())
    });
    integers("popc.b64 %d, %a;", B32, [B64; 3], &inputs, |[a, ..]| {
        u64::from(a.count_ones())
    });
    integers("clz.b32 %d, %a;", B32, [B32; 3], &inputs, |[a, ..]| {
        u64::from((a as u32).leading_zeros())
    });
    integers("clz.b64 %d, %a;", B32, [B64; 3], &inputs, |[a, ..]| {
        u64::from(a.leading_zeros())
    });
    integers("brev.b32 %d, %a;", B32, [B32; 3], &inputs, |[a, ..]| {
        u64::from((a as u32).reverse_bits())
    });
    integers("brev.b64 %d, %a;", B64, [B64; 3], &inputs, |[a, ..]| {
        a.reverse_bits()
    });
    integers(
        "and.b64 %d, %a, %b;",
        B64,
        [B64; 3],
        &inputs,
        |[a, b, _]| a & b,
    );
    integers("or.b16 %d, %a, %b;", B16, [B16; 3], &inputs, |[a, b, _]| {
        a | b
    });
    integers(
        "xor.b32 %d, %a, %b;",
        B32,
        [B32; 3],
        &inputs,
        |[a, b, _]| a ^ b,
    );
    integers("not.b64 %d, %a;", B64, [B64; 3], &inputs, |[a, ..]| !a);
    integers("cnot.b32 %d, %a;", B32, [B32; 3], &inputs, |[a, ..]| {
        u64::from(a as u32 == 0)
    });
    integers(
        "lop3.b32 %d, %a, %b, %c, 0xE8;",
        B32,
        [B32; 3],
        &inputs,
        |[a, b, c]| (a & b) | (a & c) | (b & c),
    );
    integers("bfind.u32 %d, %a;", B32, [B32; 3], &inputs, |[a, ..]| {
        (a as u32).checked_ilog2().map_or(u64::MAX, u64::from)
    });
    integers("bfind.s32 %d, %a;", B32, [B32; 3], &inputs, |[a, ..]| {
        let a = a as i32;
        let bits = if a < 0 { !a } else { a } as u32;
        bits.checked_ilog2().map_or(u64::MAX, u64::from)
    });
}

#[test]
fn fields_are_taken_and_put() {
    let fields: Vec<[u64; 3]> = (0..40u64)
        .flat_map(|start| {
            (0..40u64).map(move |length| {
                [
                    0x9abc_def0_1234_5678u64.rotate_left((start * 7) as u32),
                    start,
                    length,
                ]
            })
        })
        .collect();
    integers(
        "bfe.u32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &fields,
        |[a, start, length]| (u(a, 32) >> start.min(32)) as u64 & ((1u64 << length.min(32)) - 1),
    );
    integers(
        "bfe.s32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &fields,
        |[a, start, length]| {
            // Past the top, the sign goes on.
            let field = s(a, 32) >> start.min(31);
            if length == 0 {
                0
            } else {
                s(field as u64, (length.min(32)) as u32) as u64
            }
        },
    );
    integers(
        "bfi.b32 %d, %a, 0x55AA55AA, %b, %c;",
        B32,
        [B32; 3],
        &fields,
        |[a, start, length]| {
            let mask = if start >= 32 {
                0
            } else {
                (((1u64 << length.min(32)) - 1) << start) & 0xffff_ffff
            };
            (0x55aa_55aa & !mask) | ((a << start.min(63)) & mask)
        },
    );
    integers(
        "prmt.b32 %d, %a, %b, %c;",
        B32,
        [B32; 3],
        &random(4000, 0xffff_ffff),
        |[a, b, c]| {
            let bytes = ((b << 32) | a).to_le_bytes();
            (0..4).fold(0, |word, place| {
                let selector = (c >> (4 * place)) & 15;
                let byte = bytes[(selector & 7) as usize];
                let byte = if selector & 8 != 0 {
                    ((byte as i8) >> 7) as u8
                } else {
                    byte
                };
                word | (u64::from(byte) << (8 * place))
            })
        },
    );
}

#[test]
fn comparisons_know_signs() {
    type Test = fn(i128, i128) -> bool;
    let tests: [(&str, Test); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (register, bits) in WIDTHS {
        for (sign, read) in [("u", u as fn(u64, u32) -> i128), ("s", s)] {
            for (name, test) in tests {
                let code =
                    format!("setp.{name}.{sign}{bits} %p, %a, %b;\n    selp.u32 %d, 1, 0, %p;");
                integers(&code, B32, [register; 3], &inputs(), |[a, b, _]| {
                    u64::from(test(read(a, bits), read(b, bits)))
                });
            }
        }
    }
}
