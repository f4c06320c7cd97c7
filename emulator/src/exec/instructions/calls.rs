//! `printf` and `assert` of device code.
//!
//! The output of a launch is kept until its end, in a buffer of `CU_LIMIT_PRINTF_FIFO_SIZE` bytes.
//! As CUDA documents it, the buffer is circular: the oldest text of a longer output is lost.
use crate::exec::instructions::format;
use crate::exec::instructions::format::Arguments;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{space_of, window};
use crate::ir::{Op, Reg, Space};
use crate::memory::find;
use crate::report::FaultKind;
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::AssertFail {
            message,
            file,
            line,
            function,
        } => {
            return Err(assertion(cx, w, m, [message, file, function], line));
        }
        Op::Printf { d, format, args } => printf(cx, w, m, d, format, args)?,
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// Maximum length of a string; longer ones are truncated.
const LONGEST: u64 = 4096;

/// The byte at a generic address, if it is valid.
fn byte(cx: &Context, w: &Warp, lane: usize, address: u64) -> Option<u8> {
    match space_of(address) {
        Space::Local => w.local.byte(lane, address - window(Space::Local)),
        Space::Global => {
            let allocation = find(&cx.grid.allocations, address, 1)?;
            Some(
                crate::exec::memory::global::read_element(allocation, address - allocation.base, 1)
                    as u8,
            )
        }
        _ => None,
    }
}

/// The string at a generic address, up to its NUL.
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
) -> Box<UnlocatedFault> {
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
    UnlocatedFault::lane(lane, kind)
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
    cx.check_time()?;
    for lane in lanes(m) {
        let format = string(cx, w, lane, w.u64s(format)[lane]);
        let address = if args.is_none() {
            0
        } else {
            w.u64s(args)[lane]
        };
        let mut arguments = Values {
            cx,
            w,
            lane,
            address,
        };
        let (text, count) = format::expand(&format, &mut arguments);
        cx.grid.printed.add(cx.block_number(), &text);
        if !d.is_none() {
            w.u32s_mut(d)[lane] = count;
        }
    }
    Ok(())
}

/// Reader of a `printf`'s arguments, which lie one after another, each aligned to its size.
struct Values<'a> {
    cx: &'a Context<'a>,
    w: &'a Warp,
    lane: usize,
    address: u64,
}

impl Arguments for Values<'_> {
    fn next(&mut self, bytes: u64) -> u64 {
        // Reads beyond the end of the address space give zero.
        let start = self.address.checked_next_multiple_of(bytes);
        let start = start.unwrap_or(u64::MAX - bytes);
        self.address = start.saturating_add(bytes);
        (0..bytes).rev().fold(0, |value, i| {
            let byte = byte(self.cx, self.w, self.lane, start.saturating_add(i));
            value << 8 | u64::from(byte.unwrap_or(0))
        })
    }

    fn text(&mut self) -> String {
        let address = self.next(8);
        string(self.cx, self.w, self.lane, address)
    }
}
