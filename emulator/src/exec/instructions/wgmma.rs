//! Matrix products of a warpgroup: completion, and the state of their registers.
//!
//! A product executes when the last of the four warps arrives at it, for all of them; until then
//! the other warps wait at it. Its accumulators are in flight until the warp has waited for the
//! product's group, although they are already computed.
pub(crate) mod arithmetic;
pub(crate) mod operands;

use crate::exec::instructions::isa::Isa;
use crate::exec::instructions::matrix::all_lanes;
use crate::exec::machine::context::Context;
use crate::exec::machine::copies::OPEN;
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::warp::{State, Warp};
use crate::exec::machine::wgmma_state::{Product, Products, Use};
use crate::ir::{MatrixSum, Op, Reg, Wgmma};
use crate::report::{AsyncFault, FaultKind, WaitsFor};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
        Op::Wgmma { .. } => return arrive(cx, w, m, op),
        Op::WgmmaFence => fence(w, m)?,
        Op::WgmmaCommit => commit(w, m)?,
        Op::WgmmaWait { pending } => wait(cx, w, m, pending.into())?,
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// Maximum number of products in flight: far more than there are registers for their accumulators.
const MOST_PRODUCTS: usize = 1 << 12;

/// Warps per warpgroup.
pub(crate) const WARPS: usize = 4;

fn fault<T>(kind: AsyncFault) -> Result<T, Box<UnlocatedFault>> {
    Err(UnlocatedFault::warp(kind.into()))
}

/// Checks the registers of an instruction other than a product against products in flight.
#[cold]
pub(crate) fn touch(cx: &Context, w: &mut Warp, pc: u32) -> Outcome {
    let Some(watch) = &cx.grid.kernel.watched[pc as usize] else {
        return Ok(());
    };
    for (regs, write) in [(&watch.reads, false), (&watch.writes, true)] {
        for reg in regs {
            let row = &mut w.products.rows[usize::from(reg.0)];
            if row.used == Use::Sum || (row.used == Use::Factor && write) {
                return fault(AsyncFault::RegisterUnderWay {
                    write,
                    sum: row.used == Use::Sum,
                    line: cx.line(row.by),
                });
            }
            row.touched = pc + 1;
        }
    }
    Ok(())
}

/// `wgmma.fence`
pub(crate) fn fence(w: &mut Warp, m: u32) -> Outcome {
    all_lanes(m)?;
    w.products.fenced = true;
    for row in &mut w.products.rows {
        row.touched = 0;
    }
    Ok(())
}

/// `wgmma.commit_group`
pub(crate) fn commit(w: &mut Warp, m: u32) -> Outcome {
    all_lanes(m)?;
    let group = w.products.committed;
    for product in &mut w.products.list {
        if product.group == OPEN {
            product.group = group;
        }
    }
    w.products.committed = w.products.committed.saturating_add(1).min(OPEN - 1);
    Ok(())
}

/// `wgmma.wait_group`
pub(crate) fn wait(cx: &mut Context, w: &mut Warp, m: u32, pending: u32) -> Outcome {
    all_lanes(m)?;
    let products = &mut w.products;
    let committed = products.committed;
    products
        .list
        .retain(|p| p.group == OPEN || p.group.saturating_add(pending) >= committed);
    for row in &mut products.rows {
        row.used = Use::None;
    }
    for i in 0..products.list.len() {
        note_rows(cx, products, i);
    }
    if products.latest == 0 {
        // No products so far: a kernel without products does not record their reads.
        return Ok(());
    }
    let first = products.list.iter().map(|p| p.time).min();
    let over = first.map_or(products.latest, |time| time.saturating_sub(1));
    cx.order
        .learn_read(w.index as usize, w.own as usize / WARPS, over);
    Ok(())
}

/// Marks the registers of a product in flight.
fn note_rows(cx: &Context, products: &mut Products, product: usize) {
    let Product {
        list, wgmma, pc, ..
    } = products.list[product];
    let regs = &cx.grid.kernel.lists[usize::from(list)];
    for (i, reg) in regs.iter().enumerate() {
        let row = &mut products.rows[usize::from(reg.0)];
        row.used = if i < wgmma.sums() {
            Use::Sum
        } else {
            Use::Factor
        };
        row.by = pc;
    }
}

/// Checks that a product may use its registers.
fn check_registers(cx: &Context, w: &Warp, wgmma: Wgmma, regs: &[Reg]) -> Outcome {
    if !w.products.fenced {
        return fault(AsyncFault::RegisterUnfenced { line: None });
    }
    for (i, reg) in regs.iter().enumerate() {
        let row = w.products.rows[usize::from(reg.0)];
        if row.touched != 0 {
            let line = Some(cx.line(row.touched - 1));
            return fault(AsyncFault::RegisterUnfenced { line });
        }
        let sum = i < wgmma.sums();
        let good = match row.used {
            Use::None => true,
            Use::Factor => !sum,
            // Consecutive products of one shape may use the same accumulators.
            Use::Sum => {
                let same = |p: &&Product| p.pc == row.by;
                let earlier = w.products.list.iter().find(same);
                let shape = |p: Wgmma| (p.columns, p.ty, p.ty_b, p.sum);
                sum && earlier.is_none_or(|p| shape(p.wgmma) == shape(wgmma))
            }
        };
        if !good {
            return fault(AsyncFault::RegisterUnderWay {
                write: sum,
                sum: row.used == Use::Sum,
                line: cx.line(row.by),
            });
        }
    }
    Ok(())
}

/// Makes a warp arrive at a product, and wait there for the others.
pub(crate) fn arrive(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    op: &Op,
) -> Result<Flow, Box<UnlocatedFault>> {
    let Op::Wgmma {
        wgmma,
        a,
        b,
        scale,
        list,
    } = *op
    else {
        return Ok(Flow::Next);
    };
    all_lanes(m)?;
    if cx.order.is_exhausted() {
        return Err(UnlocatedFault::warp(FaultKind::TooManyBarriers));
    }
    for descriptor in [a, b] {
        if !descriptor.is_none() {
            let values = w.u64s(descriptor);
            if values.iter().any(|value| *value != values[0]) {
                return fault(AsyncFault::ProductOperandDiffers);
            }
        }
    }
    let keep = w.pred(scale);
    if keep != 0 && keep != u32::MAX {
        return fault(AsyncFault::ProductOperandDiffers);
    }
    check_registers(cx, w, wgmma, &cx.grid.kernel.lists[usize::from(list)])?;
    let pc = w.pc;
    let split = w.split();
    split.pc = pc;
    split.state = State::Warpgroup;
    w.wants = WaitsFor::Warpgroup;
    let warpgroup = w.own as usize / WARPS;
    cx.products_arrived[warpgroup] += 1;
    if cx.products_arrived[warpgroup] as usize == WARPS {
        cx.products_arrived[warpgroup] = 0;
        cx.product_ready = Some(warpgroup);
    }
    Ok(Flow::Changed)
}

/// Executes the product at which four warps have arrived.
pub(crate) fn multiply<I: Isa>(cx: &mut Context, warps: &mut [Warp]) -> Outcome {
    let first = warps[0].pc;
    let Op::Wgmma {
        wgmma,
        a,
        b,
        scale,
        list,
    } = cx.grid.kernel.code[first as usize].op
    else {
        return Ok(());
    };
    let same = |w: &Warp, reg: Reg| reg.is_none() || w.u64s(reg)[0] == warps[0].u64s(reg)[0];
    for w in &*warps {
        if w.pc != first || !same(w, a) || !same(w, b) || w.pred(scale) != warps[0].pred(scale) {
            return fault(AsyncFault::ProductOperandDiffers);
        }
    }
    let kernel = cx.grid.kernel;
    let regs = &kernel.lists[usize::from(list)];
    let (sums, fragment) = regs.split_at(wgmma.sums());
    let time = cx.order.arrive();
    let mut factors = std::mem::take(&mut cx.factors);
    factors.start(wgmma);
    let descriptor = warps[0].u64s(b)[0];
    I::load_right(cx, &warps[0], &mut factors, wgmma, (descriptor, time))?;
    if a.is_none() {
        for (i, w) in warps.iter().enumerate() {
            operands::take_left(w, i, &mut factors, wgmma, fragment);
        }
    } else {
        let descriptor = warps[0].u64s(a)[0];
        I::load_left(cx, &warps[0], &mut factors, wgmma, (descriptor, time))?;
    }
    let keep = warps[0].pred(scale) != 0;
    if warps[0].products.list.len() >= MOST_PRODUCTS {
        return Err(UnlocatedFault::warp(FaultKind::TooMany {
            what: "matrix products of a warpgroup that nobody waits for",
            most: MOST_PRODUCTS as u64,
        }));
    }
    for (i, w) in warps.iter_mut().enumerate() {
        match wgmma.sum {
            MatrixSum::F32 => I::multiply(w, sums, &factors, i, keep),
            MatrixSum::F16 => I::multiply_half(w, sums, &factors, i, keep),
            sum => I::multiply_integers(w, sums, &factors, i, (keep, sum)),
        }
        w.products.list.push(Product {
            group: OPEN,
            time,
            pc: first,
            list,
            wgmma,
        });
        w.products.latest = time;
        let last = w.products.list.len() - 1;
        note_rows(cx, &mut w.products, last);
        for split in &mut w.splits {
            if split.state == State::Warpgroup {
                split.state = State::Ready;
                split.pc += 1;
            }
        }
    }
    cx.factors = factors;
    Ok(())
}

/// Resets the state that the four warps of a warpgroup share: no warp has arrived yet.
pub(crate) fn start_block(cx: &mut Context) {
    cx.product_ready = None;
}
