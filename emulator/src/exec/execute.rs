//! Execution of each instruction.
//!
//! Longer than other files because it is a table with one entry per instruction.

use crate::exec::instructions::async_copy;
use crate::exec::instructions::atomics::Atom;
use crate::exec::instructions::barrier;
use crate::exec::instructions::collective;
use crate::exec::instructions::compare::{Comparison, logic};
use crate::exec::instructions::convert;
use crate::exec::instructions::convert::Conversion;
use crate::exec::instructions::fp8;
use crate::exec::instructions::host_simd::Isa;
use crate::exec::instructions::ldmatrix::Matrices;
use crate::exec::instructions::tensor::Form;
use crate::exec::instructions::tensor_map;
use crate::exec::instructions::{
    bits, bulk, calls, float, half, integer, matrix, mbarrier, moves, setmaxnreg, tensor, wgmma,
};
use crate::exec::instructions::{cluster, cluster_barrier, cluster_copy};
use crate::exec::machine::context::Context;
use crate::exec::machine::flow::Flow;
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::ir::*;
use crate::report::FaultKind;
use crate::sanitizer::async_proxy::MOST_FENCES;
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Executes one instruction for the lanes of `m`, which are some of the split's.
///
/// Long because it is a table: one entry per instruction.
#[inline(always)]
pub(crate) fn step<I: Isa>(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    op: &Op,
    all: u32,
) -> Result<Flow, Box<UnlocatedFault>> {
    match *op {
        Op::Ld { access, d, addr } => I::load(cx, w, m, access, d, addr)?,
        Op::St { access, src, addr } => I::store(cx, w, m, access, src, addr)?,
        Op::Fma {
            ty: FloatTy::F32,
            mode,
            d,
            a,
            b,
            c,
        } => I::fma32(w, m, mode, d, [a, b, c]),
        Op::FloatBinary {
            op,
            ty: FloatTy::F32,
            mode,
            d,
            a,
            b,
        } => I::float32(w, m, op, mode, d, a, b),
        Op::IntBinary { op, ty, d, a, b } => I::int_binary(w, m, op, ty, d, a, b),
        Op::Mad {
            part,
            ty,
            d,
            a,
            b,
            c,
        } => I::mad(w, m, part, ty, d, [a, b, c]),
        Op::Mov { w: width, d, a } => I::mov(w, m, width, d, a),
        Op::Lop3 { lut, d, a, b, c } => I::lop3(w, m, lut, d, [a, b, c]),
        Op::Shf {
            left,
            clamp,
            d,
            a,
            b,
            c,
        } => I::shf(w, m, left, clamp, d, [a, b, c]),
        Op::Selp {
            w: width,
            d,
            a,
            b,
            p,
        } => I::selp(w, m, width, d, a, b, p),
        Op::Setp {
            cmp,
            ty,
            ftz,
            combine,
            c,
            p,
            q,
            a,
            b,
        } => {
            I::setp(
                w,
                m,
                &Comparison {
                    cmp,
                    ty,
                    ftz,
                    combine,
                    c,
                },
                p,
                q,
                a,
                b,
            );
        }
        Op::PredLogic { op, d, a, b } => logic(w, m, op, d, a, b),
        Op::Cvt {
            to,
            from,
            mode,
            reg,
            d,
            a,
        } => {
            I::convert(
                w,
                m,
                &Conversion {
                    to,
                    from,
                    mode,
                    reg,
                },
                d,
                a,
            );
        }
        Op::Pack { kind, d, parts } => I::pack(w, m, kind, d, parts),
        Op::Unpack { kind, parts, a } => I::unpack(w, m, kind, parts, a),
        Op::Bra { target, reconverge } => return Ok(branch(cx, w, m, all, target, reconverge)),
        Op::Mma { mma, d, a, b } => {
            matrix::all_lanes(m)?;
            I::mma(w, mma, d, a, b);
        }
        Op::LdMatrix {
            count,
            trans,
            generic,
            d,
            addr,
        } => {
            let kind = Matrices {
                count,
                trans,
                generic,
            };
            I::ldmatrix(cx, w, m, kind, d, addr)?;
        }
        Op::Exit => {
            w.split().pc = w.pc + 1;
            w.exit(m);
            return Ok(Flow::Changed);
        }
        _ => return rare::<I>(cx, w, m, op, all),
    }
    Ok(Flow::Next)
}

/// Branches the lanes of `m` to a target; other lanes continue.
#[inline(always)]
fn branch(cx: &mut Context, w: &mut Warp, m: u32, all: u32, target: Pc, reconverge: Pc) -> Flow {
    if m == all {
        w.split().pc = target;
        return Flow::Next;
    }
    cx.counters.divergent_branches += 1;
    let next = w.pc + 1;
    w.diverge(&[(target, m), (next, all & !m)], reconverge);
    Flow::Changed
}

/// Executes an instruction that is rare in main loops. Also a table.
#[inline(never)]
fn rare<I: Isa>(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    op: &Op,
    all: u32,
) -> Result<Flow, Box<UnlocatedFault>> {
    match *op {
        Op::BrxIdx {
            index,
            table,
            reconverge,
        } => {
            return branch_table(cx, w, m, all, index, table, reconverge);
        }
        Op::Trap => {
            return Err(UnlocatedFault::lane(
                m.trailing_zeros() as usize,
                FaultKind::Trap,
            ));
        }
        Op::AssertFail {
            message,
            file,
            line,
            function,
        } => {
            return Err(calls::assertion(cx, w, m, [message, file, function], line));
        }
        Op::Printf { d, format, args } => calls::printf(cx, w, m, d, format, args)?,
        Op::Barrier { .. } => {
            let goes_on = barrier::arrive(cx, w, m, op)?;
            return Ok(match goes_on {
                true if cx.barriers.is_any_complete() => Flow::Yield,
                true => Flow::Next,
                false => Flow::Changed,
            });
        }
        Op::WarpSync { mask } => {
            if !collective::warp_sync(w, m, mask)? {
                return Ok(Flow::Changed);
            }
        }
        Op::Shfl { mask, .. }
        | Op::Vote { mask, .. }
        | Op::Match { mask, .. }
        | Op::Redux { mask, .. }
        | Op::Elect { mask, .. } => {
            if !collective::step(w, m, mask, op, &cx.grid.kernel.code)? {
                return Ok(Flow::Changed);
            }
        }
        Op::ActiveMask { d } => w.set32(m, d, &[m; 32]),
        Op::Atom {
            space,
            op,
            ty,
            d,
            addr,
            b,
            c,
        } => {
            Atom { op, ty, d, b, c }.run(cx, w, m, space, addr)?;
        }
        Op::CpAsync {
            bytes,
            dst,
            src,
            src_size,
        } => {
            I::copy_async(cx, w, m, bytes, [dst, src], src_size)?;
        }
        Op::StMatrix {
            count,
            trans,
            generic,
            src,
            addr,
        } => {
            let kind = Matrices {
                count,
                trans,
                generic,
            };
            I::stmatrix(cx, w, m, kind, src, addr)?;
        }
        Op::MovMatrix { d, a } => {
            matrix::all_lanes(m)?;
            matrix::transpose(w, d, a);
        }
        Op::Fence => {
            // Orders blocks on other cores: x86 may reorder loads before earlier stores.
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            if cx.order.is_exhausted() {
                return Err(UnlocatedFault::warp(FaultKind::TooManyBarriers));
            }
            cx.order.fence(w.index);
        }
        Op::CpAsyncCommit => async_copy::commit(w, m),
        Op::CpAsyncWait { pending } => I::wait_async(cx, w, m, Some(pending)),
        Op::CpAsyncWaitAll => I::wait_async(cx, w, m, None),
        Op::Mbarrier { .. } => return mbarrier::run(cx, w, m, op),
        Op::BulkLoad {
            dst,
            src,
            barrier,
            list,
        } => {
            let list = &cx.grid.kernel.lists[usize::from(list)][..];
            bulk::load(cx, w, m, [dst, src, barrier], list)?;
        }
        Op::MapBlock { .. }
        | Op::RankOf { .. }
        | Op::BulkShared { .. }
        | Op::StoreAsync { .. }
        | Op::ReduceAsync { .. } => clusters(cx, w, m, op)?,
        Op::ClusterArrive { relaxed, aligned } => {
            return cluster_barrier::arrive(cx, w, m, (relaxed, aligned));
        }
        Op::ClusterWait { aligned } => return cluster_barrier::wait(cx, w, m, aligned),
        Op::BulkStore {
            dst,
            src,
            size,
            reduce,
        } => bulk::store(cx, w, m, [dst, src], (size, reduce))?,
        Op::ReplaceField {
            space,
            map,
            field,
            value,
        } => tensor_map::replace(cx, w, m, (space, map), (field, value))?,
        Op::CopyMap { dst, src } => tensor_map::copy(cx, w, m, [dst, src])?,
        Op::BulkCommit => bulk::commit(w, m),
        Op::BulkWait { pending } => bulk::wait(cx, w, m, pending.into()),
        Op::TensorLoad {
            dst,
            map,
            barrier,
            mode,
            list,
        } => {
            let list = &cx.grid.kernel.lists[usize::from(list)][..];
            let (list, mask) = match list.split_last() {
                Some((mask, list)) if mode.multicast() => (list, Some(*mask)),
                _ => (list, None),
            };
            let form = if mode.im2col() {
                Form::Im2col
            } else {
                Form::Tile
            };
            tensor::load(cx, w, m, [dst, map, barrier], (list, form), mask)?;
        }
        Op::TensorStore {
            map,
            src,
            im2col,
            reduce,
            list,
        } => {
            let list = &cx.grid.kernel.lists[usize::from(list)][..];
            let form = if im2col {
                Form::Im2colNoOffsets
            } else {
                Form::Tile
            };
            tensor::store(cx, w, m, [map, src], (list, form), reduce)?;
        }
        Op::Wgmma { .. } => return wgmma::arrive(cx, w, m, op),
        Op::WgmmaFence => wgmma::fence(w, m)?,
        Op::WgmmaCommit => wgmma::commit(w, m)?,
        Op::WgmmaWait { pending } => wgmma::wait(cx, w, m, pending.into())?,
        Op::ProxyFence { mbarrier_init } => {
            let lanes = (m, m == w.alive);
            let (warp, sync) = (w.index as usize, w.sync_count);
            let noted = cx
                .fences
                .add(&mut cx.order, warp, lanes, sync, mbarrier_init);
            if !noted {
                return Err(UnlocatedFault::warp(FaultKind::TooMany {
                    what: "fences between the proxies in one warp of a block",
                    most: MOST_FENCES as u64,
                }));
            }
        }
        Op::SetMaxRegisters { count, more } => {
            return setmaxnreg::set(cx, w, m, count.into(), more);
        }
        _ => arithmetic::<I>(cx, w, m, op),
    }
    Ok(Flow::Next)
}

/// Executes instructions on other blocks of the cluster. Also a table.
fn clusters(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Outcome {
    match *op {
        Op::MapBlock {
            generic,
            wide,
            d,
            a,
            b,
        } => cluster::mapa(w, m, [d, a, b], (generic, wide)),
        Op::RankOf {
            generic,
            wide,
            d,
            a,
        } => cluster::rank(cx, w, m, [d, a], (generic, wide)),
        Op::BulkShared {
            reduce,
            dst,
            src,
            barrier,
            list,
        } => {
            let size = cx.grid.kernel.lists[usize::from(list)][0];
            cluster_copy::between(cx, w, m, [dst, src, barrier], (size, reduce))
        }
        Op::StoreAsync {
            bytes,
            addr,
            barrier,
            list,
        } => {
            let list = &cx.grid.kernel.lists[usize::from(list)][..];
            cluster_copy::store(cx, w, m, [addr, barrier], (bytes, list))
        }
        Op::ReduceAsync {
            op,
            ty,
            addr,
            barrier,
            b,
        } => cluster_copy::reduce(cx, w, m, [addr, barrier], (op, ty, b)),
        _ => Ok(()),
    }
}

/// Executes arithmetic that is rare in main loops. Also a table.
fn arithmetic<I: Isa>(cx: &Context, w: &mut Warp, m: u32, op: &Op) {
    match *op {
        Op::Fma {
            ty: FloatTy::F64,
            mode,
            d,
            a,
            b,
            c,
        } => float::fma64(w, m, mode, d, [a, b, c]),
        Op::Fma {
            ty,
            mode,
            d,
            a,
            b,
            c,
        } => I::half_fma(w, m, ty, mode, d, [a, b, c]),
        Op::FloatBinary {
            op,
            ty: FloatTy::F64,
            mode,
            d,
            a,
            b,
        } => {
            float::binary64(w, m, op, mode, d, a, b);
        }
        Op::FloatBinary {
            op,
            ty,
            mode,
            d,
            a,
            b,
        } => I::half_binary(w, m, op, ty, mode, d, [a, b]),
        Op::FloatUnary { op, ty, mode, d, a } => match ty {
            FloatTy::F32 => I::float_unary32(w, m, op, mode, d, a),
            FloatTy::F64 => float::unary64(w, m, op, mode, d, a),
            _ => half::unary(w, m, op, ty, mode, d, a),
        },
        Op::TestP { test, ty, p, a } => float::test(w, m, test, ty, p, a),
        Op::CvtPack {
            bf16,
            mode,
            d,
            a,
            b,
        } => convert::pack(w, m, bf16, mode, d, a, b),
        Op::CvtToFp8 { ty, relu, d, a, b } => fp8::pack(w, m, (ty, relu), d, a, b),
        Op::CvtFromFp8 { ty, relu, d, a } => fp8::unpack(w, m, (ty, relu), d, a),
        Op::CvtPackInt { to, d, a, b, c } => convert::pack_int(w, m, to, d, [a, b, c]),
        Op::Set {
            cmp,
            ty,
            ftz,
            combine,
            c,
            to,
            d,
            a,
            b,
        } => {
            Comparison {
                cmp,
                ty,
                ftz,
                combine,
                c,
            }
            .set(w, m, to, d, a, b);
        }
        Op::SlctS32 {
            w: width,
            d,
            a,
            b,
            c,
        } => moves::slct_s32(w, m, width, d, [a, b, c]),
        Op::SlctF32 {
            w: width,
            d,
            a,
            b,
            c,
            ftz,
        } => moves::slct_f32(w, m, width, d, [a, b, c], ftz),
        Op::Cvta {
            space,
            to_space,
            wide,
            d,
            a,
        } => moves::cvta(w, m, space, to_space, wide, d, a),
        Op::IsSpace { space, p, a } => moves::is_space(w, m, (space, cx.cluster.rank), p, a),
        Op::ReadClock { clock, d } => read_clock(cx, w, m, clock, d),
        Op::IntUnary { op, ty, d, a } => integer::unary(w, m, op, ty, d, a),
        Op::Sad { ty, d, a, b, c } => integer::sad(w, m, ty, d, [a, b, c]),
        Op::Carry {
            op,
            ty,
            carry_in,
            carry_out,
            d,
            a,
            b,
            c,
        } => {
            bits::Carry {
                op,
                ty,
                carry_in,
                carry_out,
            }
            .run(w, m, d, [a, b, c]);
        }
        Op::Prmt { mode, d, a, b, c } => bits::prmt(w, m, mode, d, [a, b, c]),
        Op::Bfe { ty, d, a, b, c } => bits::bfe(w, m, ty, d, a, b, c),
        Op::Bfi {
            w: width,
            d,
            a,
            b,
            pos,
            len,
        } => bits::bfi(w, m, width, d, [a, b, pos, len]),
        Op::Bmsk { clamp, d, a, b } => bits::bmsk(w, m, clamp, d, a, b),
        Op::Szext {
            signed,
            clamp,
            d,
            a,
            b,
        } => bits::szext(w, m, signed, clamp, d, a, b),
        Op::Fns {
            d,
            mask,
            base,
            offset,
        } => bits::fns(w, m, d, mask, base, offset),
        Op::Dp4a {
            a_signed,
            b_signed,
            d,
            a,
            b,
            c,
        } => {
            bits::dp4a(w, m, [a_signed, b_signed], d, [a, b, c]);
        }
        Op::Dp2a {
            a_signed,
            b_signed,
            hi,
            d,
            a,
            b,
            c,
        } => {
            bits::dp2a(w, m, [a_signed, b_signed], hi, d, [a, b, c]);
        }
        // Hints have no effect.
        _ => {}
    }
}

/// Branches each lane to the target of its index.
fn branch_table(
    cx: &mut Context,
    w: &mut Warp,
    m: u32,
    all: u32,
    index: Reg,
    table: u16,
    reconverge: Pc,
) -> Result<Flow, Box<UnlocatedFault>> {
    let targets = &cx.grid.kernel.branch_tables[usize::from(table)];
    let index = *w.u32s(index);
    let mut ways: Vec<(Pc, u32)> = Vec::new();
    if all & !m != 0 {
        ways.push((w.pc + 1, all & !m));
    }
    for lane in lanes(m) {
        let Some(&target) = targets.get(index[lane] as usize) else {
            let kind = FaultKind::BranchIndex {
                index: index[lane],
                len: targets.len() as u32,
            };
            return Err(UnlocatedFault::lane(lane, kind));
        };
        match ways.iter_mut().find(|way| way.0 == target) {
            Some(way) => way.1 |= 1 << lane,
            None => ways.push((target, 1 << lane)),
        }
    }
    if let [(target, _)] = ways[..] {
        w.split().pc = target;
    } else {
        cx.counters.divergent_branches += 1;
        w.diverge(&ways, reconverge);
    }
    Ok(Flow::Changed)
}

fn read_clock(cx: &Context, w: &mut Warp, m: u32, clock: Clock, d: Reg) {
    let cycles = w.executed;
    let nanoseconds = cx.grid.began.elapsed().as_nanos() as u64;
    let (value, wide) = match clock {
        Clock::Clock32 => (cycles, false),
        Clock::ClockHi => (cycles >> 32, false),
        Clock::Clock64 => (cycles, true),
        Clock::GlobalTimer => (nanoseconds, true),
        Clock::GlobalTimerLo => (nanoseconds, false),
        Clock::GlobalTimerHi => (nanoseconds >> 32, false),
    };
    if wide {
        w.set64(m, d, &[value; 32]);
    } else {
        w.set32(m, d, &[value as u32; 32]);
    }
}
