//! `printf` and `assert` of device code.
use super::address::{space_of, window};
use super::context::Context;
use super::lanes::lanes;
use super::warp::Warp;
use crate::check::{Outcome, Trouble};
use crate::ir::{Reg, Space};
use crate::memory::find;
use crate::report::FaultKind;

/// Strings longer than this are cut.
const LONGEST: u64 = 4096;

/// A byte at a generic address, if there is one.
fn byte(cx: &Context, w: &Warp, lane: usize, address: u64) -> Option<u8> {
    match space_of(address) {
        Space::Local => w.local.byte(lane, address - window(Space::Local)),
        Space::Global => {
            let allocation = find(&cx.grid.allocations, address, 1)?;
            Some(super::global::read_element(allocation, address - allocation.base, 1) as u8)
        }
        _ => None,
    }
}

/// A string that ends with a zero byte.
fn string(cx: &Context, w: &Warp, lane: usize, address: u64) -> String {
    let bytes: Vec<u8> = (address..address.saturating_add(LONGEST))
        .map_while(|a| byte(cx, w, lane, a).filter(|&b| b != 0))
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The fault of a failed `assert`.
pub(crate) fn assertion(
    cx: &Context,
    w: &Warp,
    m: u32,
    [message, file, function]: [Reg; 3],
    line: Reg,
) -> Box<Trouble> {
    let lane = m.trailing_zeros() as usize & 31;
    let text = |r: Reg| {
        if r.is_none() {
            String::new()
        } else {
            string(cx, w, lane, w.u64s(r)[lane])
        }
    };
    let line = if line.is_none() {
        0
    } else {
        w.u32s(line)[lane]
    };
    let kind = FaultKind::Assert {
        message: text(message),
        file: text(file),
        line,
        function: text(function),
    };
    Trouble::lane(lane, kind)
}

/// The arguments of a `printf`, one after the other, each aligned to its size.
struct Arguments<'a> {
    cx: &'a Context<'a>,
    w: &'a Warp,
    lane: usize,
    address: u64,
    count: u32,
}

impl Arguments<'_> {
    fn next(&mut self, bytes: u64) -> u64 {
        self.address = self.address.next_multiple_of(bytes);
        let value = (0..bytes).rev().fold(0, |value, i| {
            value << 8 | u64::from(byte(self.cx, self.w, self.lane, self.address + i).unwrap_or(0))
        });
        self.address += bytes;
        self.count += 1;
        value
    }
}

/// `vprintf`.
pub(crate) fn printf(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    d: Reg,
    format: Reg,
    args: Reg,
) -> Outcome {
    for lane in lanes(m) {
        let format = string(cx, w, lane, w.u64s(format)[lane]);
        let address = if args.is_none() {
            0
        } else {
            w.u64s(args)[lane]
        };
        let mut arguments = Arguments {
            cx,
            w,
            lane,
            address,
            count: 0,
        };
        let text = expand(&format, &mut arguments);
        let count = arguments.count;
        cx.printed.push_str(&text);
        if !d.is_none() {
            w.u32s_mut(d)[lane] = count;
        }
    }
    Ok(())
}

/// Fills the places of a format.
fn expand(format: &str, arguments: &mut Arguments) -> String {
    let mut text = String::new();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(&c) = rest.peek() {
            spec.push(c);
            rest.next();
            if c.is_ascii_alphabetic() && !"hlLjzt".contains(c) || c == '%' {
                break;
            }
        }
        text.push_str(&place(&spec, arguments));
    }
    text
}

/// One place of a format, given without its percent sign.
fn place(spec: &str, arguments: &mut Arguments) -> String {
    let Some(kind) = spec.chars().last() else {
        return "%".into();
    };
    if kind == '%' {
        return "%".into();
    }
    let long =
        spec.contains("ll") || spec.contains('l') || spec.contains('z') || spec.contains('j');
    let flags: String = spec.chars().take_while(|c| "-+ #0".contains(*c)).collect();
    let numbers: String = spec[flags.len()..]
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    let (width, precision) = match numbers.split_once('.') {
        Some((width, precision)) => (
            width.parse().unwrap_or(0),
            Some(precision.parse().unwrap_or(0)),
        ),
        None => (numbers.parse().unwrap_or(0), None),
    };
    let integer = |arguments: &mut Arguments| arguments.next(if long { 8 } else { 4 });
    let body = match kind {
        'd' | 'i' if long => (integer(arguments) as i64).to_string(),
        'd' | 'i' => (integer(arguments) as u32 as i32).to_string(),
        'u' => integer(arguments).to_string(),
        'x' => format!("{:x}", integer(arguments)),
        'X' => format!("{:X}", integer(arguments)),
        'o' => format!("{:o}", integer(arguments)),
        'c' => char::from(arguments.next(4) as u8).to_string(),
        'p' => format!("{:#x}", arguments.next(8)),
        's' => {
            let address = arguments.next(8);
            string(arguments.cx, arguments.w, arguments.lane, address)
        }
        'f' | 'F' => float(arguments, |x| format!("{x:.*}", precision.unwrap_or(6))),
        'e' | 'E' => float(arguments, |x| exponent(x, precision.unwrap_or(6))),
        'g' | 'G' | 'a' | 'A' => float(arguments, |x| x.to_string()),
        _ => format!("%{spec}"),
    };
    let body = if flags.contains('+') && !body.starts_with('-') && "dieEfFgG".contains(kind) {
        format!("+{body}")
    } else {
        body
    };
    match () {
        () if flags.contains('-') => format!("{body:<width$}"),
        () if flags.contains('0') && body.starts_with('-') => {
            format!("-{:0>1$}", &body[1..], width.max(1) - 1)
        }
        () if flags.contains('0') => format!("{body:0>width$}"),
        () => format!("{body:>width$}"),
    }
}

fn float(arguments: &mut Arguments, show: impl Fn(f64) -> String) -> String {
    let x = f64::from_bits(arguments.next(8));
    match () {
        () if x.is_nan() => "nan".into(),
        () if x.is_infinite() => {
            if x > 0.0 {
                "inf".into()
            } else {
                "-inf".into()
            }
        }
        () => show(x),
    }
}

/// As C writes it: two digits of exponent with a sign.
fn exponent(x: f64, precision: usize) -> String {
    let text = format!("{x:.precision$e}");
    match text.split_once('e') {
        Some((digits, power)) => {
            let power: i32 = power.parse().unwrap_or(0);
            format!(
                "{digits}e{}{:02}",
                if power < 0 { '-' } else { '+' },
                power.abs()
            )
        }
        None => text,
    }
}
