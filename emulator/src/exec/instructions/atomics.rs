//! `atom` and `red`. Lanes execute in ascending order.
use crate::exec::instructions::cluster;
use crate::exec::instructions::isa::Isa;
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::flow::{Flow, Step, no_execution};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::softfloat::{BF16, F16, add_odd, round};
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{compute, sort};
use crate::exec::memory::global;
use crate::exec::memory::local::get;
use crate::exec::memory::shared::{actor, byte_slice, byte_slice_mut, check_bounds};
use crate::exec::memory::watch;
use crate::ir::{Address, AtomOp, AtomTy, Op, Reg, Rounding, Space, Width};
use crate::memory::{Allocation, Class};
use crate::report::{AccessKind, FaultKind};
use crate::sanitizer::{Outcome, UnlocatedFault};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Executes an operation of the family.
#[inline(never)]
pub(crate) fn execute<I: Isa>(cx: &mut Context, w: &mut Warp, m: u32, op: &Op) -> Step {
    match *op {
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
        _ => return no_execution(op),
    }
    Ok(Flow::Next)
}

/// An atomic operation.
#[derive(Clone, Copy)]
pub(crate) struct Atom {
    pub op: AtomOp,
    pub ty: AtomTy,
    pub d: Reg,
    pub b: Reg,
    pub c: Reg,
}

impl Atom {
    /// An operation without registers: it returns no value, and its operand is given separately.
    pub(crate) fn of((op, ty): (AtomOp, AtomTy)) -> Atom {
        Atom {
            op,
            ty,
            d: Reg::NONE,
            b: Reg::NONE,
            c: Reg::NONE,
        }
    }

    pub(crate) fn bytes(&self) -> u32 {
        match self.ty {
            AtomTy::B16 | AtomTy::F16 | AtomTy::Bf16 => 2,
            AtomTy::U64 | AtomTy::S64 | AtomTy::F64 => 8,
            _ => 4,
        }
    }

    fn width(&self) -> Width {
        match self.bytes() {
            2 => Width::W16,
            8 => Width::W64,
            _ => Width::W32,
        }
    }

    /// Returns whether it returns or depends on the old value. An exchange with an unused result is
    /// a store.
    fn reads(&self) -> bool {
        self.op != AtomOp::Exch || !self.d.is_none()
    }

    /// Executes the operation for the lanes of `m`.
    pub fn run(
        &self,
        cx: &mut Context,
        w: &mut Warp,
        m: u32,
        space: Space,
        addr: Address,
    ) -> Outcome {
        let address = compute(w, addr);
        match space {
            Space::Shared => match self.shared(cx, w, m, &address) {
                Err(trouble) => match cluster::own_offsets(cx, m, &address) {
                    Some(address) => self.shared(cx, w, m, &address),
                    None => Err(trouble),
                },
                done => done,
            },
            Space::Cluster => self.cluster(cx, w, m, &address),
            Space::Generic => {
                for (space, mask, relative) in sort(m, &address) {
                    match space {
                        _ if mask == 0 => {}
                        Space::Shared => self.cluster(cx, w, mask, &relative)?,
                        Space::Global => self.global(cx, w, mask, &relative)?,
                        _ => return Err(self.wrong_space(mask, space, &relative)),
                    }
                }
                Ok(())
            }
            _ => self.global(cx, w, m, &address),
        }
    }

    fn cluster(&self, cx: &mut Context, w: &mut Warp, m: u32, address: &[u64; 32]) -> Outcome {
        let what = (AccessKind::Atomic, self.bytes(), true);
        cluster::each_block(cx, w, m, what, address, |cx, w, m, address| {
            self.shared(cx, w, m, address)
        })
    }

    #[cold]
    fn wrong_space(&self, m: u32, actual: Space, address: &[u64; 32]) -> Box<UnlocatedFault> {
        let lane = m.trailing_zeros() as usize;
        let touch = touch(
            AccessKind::Atomic,
            Space::Generic,
            address[lane],
            self.bytes(),
        );
        UnlocatedFault::lane(lane, FaultKind::WrongSpace { touch, actual })
    }

    fn global(&self, cx: &mut Context, w: &mut Warp, m: u32, address: &[u64; 32]) -> Outcome {
        let bytes = self.bytes();
        let kind = AccessKind::Atomic;
        let Some(allocation) = global::locate(cx, w, m, kind, address, bytes)? else {
            for lane in lanes(m) {
                self.global(cx, w, 1 << lane, address)?;
            }
            return Ok(());
        };
        watch::note(cx, allocation, m, Class::Atomic, address, bytes, false);
        for lane in lanes(m) {
            let offset = address[lane] - allocation.base;
            if !self.reads() {
                allocation.mark_init(offset, u64::from(bytes));
            } else if let Some(first) = allocation.first_uninit(offset, u64::from(bytes)) {
                let touch = touch(kind, Space::Global, address[lane], bytes);
                let nearest = Some(allocation.region());
                let first = allocation.base + first;
                return Err(UnlocatedFault::lane(
                    lane,
                    FaultKind::Uninitialised {
                        touch,
                        first,
                        nearest,
                    },
                ));
            }
            for write in [false, true] {
                let new = u64::from(allocation.touch_sector(offset, cx.grid.epoch, write)) * 32;
                if write {
                    cx.counters.device_bytes_written += new;
                } else {
                    cx.counters.device_bytes_read += new;
                }
            }
            let b = get(w, lane, self.b, self.width());
            let c = if self.c.is_none() {
                0
            } else {
                get(w, lane, self.c, self.width())
            };
            let old = self.exchange(allocation, offset, b, c);
            self.put(w, lane, old);
        }
        cx.counters.global_atomics += u64::from(m.count_ones());
        Ok(())
    }

    /// Applies the operation to memory that other blocks may access concurrently; returns the old
    /// value.
    pub(crate) fn exchange(&self, allocation: &Allocation, offset: u64, b: u64, c: u64) -> u64 {
        let place = allocation.data(offset);
        let order = Ordering::SeqCst;
        let next = |old: u64| self.apply(old, b, c);
        // SAFETY: `locate` has checked bounds and alignment; blocks access such memory atomically.
        let old = unsafe {
            match self.bytes() {
                2 => AtomicU16::from_ptr(place.cast())
                    .fetch_update(order, order, |old| Some(next(u64::from(old)) as u16))
                    .map(u64::from)
                    .map_err(u64::from),
                4 => AtomicU32::from_ptr(place.cast())
                    .fetch_update(order, order, |old| Some(next(u64::from(old)) as u32))
                    .map(u64::from)
                    .map_err(u64::from),
                _ => AtomicU64::from_ptr(place.cast())
                    .fetch_update(order, order, |old| Some(next(old))),
            }
        };
        match old {
            Ok(old) | Err(old) => old,
        }
    }

    /// Combines each element with one of `data`.
    pub(crate) fn combine(&self, elements: &mut [u8], data: &[u8]) {
        let size = self.bytes() as usize;
        for (element, b) in elements.chunks_exact_mut(size).zip(data.chunks_exact(size)) {
            let word = |bytes: &[u8]| {
                let mut word = [0; 8];
                word[..size].copy_from_slice(bytes);
                u64::from_le_bytes(word)
            };
            let new = self.apply(word(element), word(b), 0).to_le_bytes();
            element.copy_from_slice(&new[..size]);
        }
    }

    pub(crate) fn shared(
        &self,
        cx: &mut Context,
        w: &mut Warp,
        m: u32,
        address: &[u64; 32],
    ) -> Outcome {
        let bytes = self.bytes() as usize;
        let kind = AccessKind::Atomic;
        check_bounds(cx, m, kind, address, bytes as u32)?;
        cx.shared.shadow.divide(bytes as u32);
        let shift = cx.shared.shadow.shift;
        for lane in lanes(m) {
            let actor = actor(w, lane, true);
            let touched = touch(kind, Space::Shared, address[lane], bytes as u32);
            let first = address[lane] >> shift;
            for unit in first..first + ((bytes as u64) >> shift).max(1) {
                let shadow = &mut cx.shared.shadow;
                let read = if self.reads() {
                    shadow.read(unit as usize, &cx.order, &actor)
                } else {
                    Ok(())
                };
                let result =
                    read.and_then(|()| shadow.write_atomic(unit as usize, &cx.order, &actor));
                if let Err(conflict) = result {
                    return Err(cx.shared_trouble(conflict, touched, unit << shift, &actor));
                }
                if self.reads() {
                    cx.order.read_flag(unit as usize, actor.warp);
                }
                cx.order.write_flag(unit as usize, actor.warp, true, true);
            }
            let at = address[lane] as usize;
            let mut old = [0; 8];
            old[..bytes].copy_from_slice(&byte_slice(&cx.shared.words)[at..at + bytes]);
            let old = u64::from_le_bytes(old);
            let b = get(w, lane, self.b, self.width());
            let c = if self.c.is_none() {
                0
            } else {
                get(w, lane, self.c, self.width())
            };
            let new = self.apply(old, b, c).to_le_bytes();
            byte_slice_mut(&mut cx.shared.words)[at..at + bytes].copy_from_slice(&new[..bytes]);
            self.put(w, lane, old);
        }
        cx.counters.shared_atomics += u64::from(m.count_ones());
        Ok(())
    }

    fn put(&self, w: &mut Warp, lane: usize, old: u64) {
        if self.d.is_none() {
            return;
        }
        match self.width() {
            Width::W64 => w.u64s_mut(self.d)[lane] = old,
            _ => w.u32s_mut(self.d)[lane] = old as u32,
        }
    }

    /// The new value.
    fn apply(&self, old: u64, b: u64, c: u64) -> u64 {
        match self.ty {
            AtomTy::U32 | AtomTy::U64 | AtomTy::B16 => self.integer(old, b, c, false),
            AtomTy::S32 => {
                let wide = |x: u64| x as u32 as i32 as i64 as u64;
                self.integer(wide(old), wide(b), wide(c), true)
            }
            AtomTy::S64 => self.integer(old, b, c, true),
            AtomTy::F32 => {
                let (x, y) = (f32::from_bits(old as u32), f32::from_bits(b as u32));
                u64::from(match self.op {
                    AtomOp::Min => {
                        crate::exec::instructions::float::min_max(x.to_bits(), y.to_bits(), false)
                    }
                    AtomOp::Max => {
                        crate::exec::instructions::float::min_max(x.to_bits(), y.to_bits(), true)
                    }
                    AtomOp::Exch => return b,
                    _ => crate::exec::instructions::float::canonical(x + y),
                })
            }
            AtomTy::F64 => match self.op {
                AtomOp::Exch => b,
                _ => (f64::from_bits(old) + f64::from_bits(b)).to_bits(),
            },
            AtomTy::F16 => u64::from(self.half(old as u32, b as u32, false)),
            AtomTy::Bf16 => u64::from(self.half(old as u32, b as u32, true)),
            AtomTy::F16x2 | AtomTy::Bf16x2 => {
                let bf16 = self.ty == AtomTy::Bf16x2;
                let (old, b) = (old as u32, b as u32);
                u64::from(self.half(old, b, bf16) | self.half(old >> 16, b >> 16, bf16) << 16)
            }
        }
    }

    fn half(&self, old: u32, b: u32, bf16: bool) -> u32 {
        let (x, y) = (
            crate::exec::instructions::half::value(old, bf16),
            crate::exec::instructions::half::value(b, bf16),
        );
        let result = match self.op {
            AtomOp::Min => f64::from(x.min(y)),
            AtomOp::Max => f64::from(x.max(y)),
            _ => add_odd(f64::from(x), f64::from(y)),
        };
        round(result, if bf16 { BF16 } else { F16 }, Rounding::Rn)
    }

    fn integer(&self, old: u64, b: u64, c: u64, signed: bool) -> u64 {
        let less = if signed {
            (b as i64) < old as i64
        } else {
            b < old
        };
        match self.op {
            AtomOp::Add => old.wrapping_add(b),
            AtomOp::Min => {
                if less {
                    b
                } else {
                    old
                }
            }
            AtomOp::Max => {
                if less {
                    old
                } else {
                    b
                }
            }
            AtomOp::And => old & b,
            AtomOp::Or => old | b,
            AtomOp::Xor => old ^ b,
            AtomOp::Exch => b,
            AtomOp::Cas => {
                if old == b {
                    c
                } else {
                    old
                }
            }
            AtomOp::Inc => {
                if old >= b {
                    0
                } else {
                    old + 1
                }
            }
            AtomOp::Dec => {
                if old == 0 || old > b {
                    b
                } else {
                    old - 1
                }
            }
        }
    }
}
