//! `ldmatrix` and `stmatrix`: matrices of eight rows of 16 bytes between shared memory and the
//! registers of a warp.
//!
//! A row is an access of the lane that gives its address; race reports name that lane.
use crate::exec::instructions::isa::Matrices;
use crate::exec::instructions::matrix::{all_lanes, transposed};
use crate::exec::machine::context::{Context, touch};
use crate::exec::machine::lanes::lanes;
use crate::exec::machine::warp::Warp;
use crate::exec::memory::address::{compute, space_of};
use crate::exec::memory::bank_conflicts::count;
use crate::exec::memory::shared::{actor, byte_slice, check_bounds, closer_look, write_units};
use crate::ir::{Address, Reg, SHARED_WINDOW, Space};
use crate::report::{AccessKind, FaultKind};
use crate::sanitizer::{Outcome, UnlocatedFault};

/// Bytes per row.
const ROW: u32 = 16;

impl Matrices {
    /// The lanes whose addresses are used.
    fn givers(self) -> u32 {
        ((1u64 << (8 * self.count)) - 1) as u32
    }

    /// The offsets of the rows in shared memory, checked and counted; and the lanes whose row no
    /// lower lane has.
    #[inline(always)]
    fn rows(
        self,
        cx: &mut Context,
        w: &Warp,
        m: u32,
        kind: AccessKind,
        addr: Address,
    ) -> Result<([u64; 32], u32), Box<UnlocatedFault>> {
        all_lanes(m)?;
        let mut address = compute(w, addr);
        let givers = self.givers();
        // Up to 7.5 all lanes must give valid addresses.
        let checked = if cx.grid.device.sm < 80 { m } else { givers };
        if self.generic {
            to_shared(kind, checked, &mut address)?;
        }
        check_bounds(cx, checked, kind, &address, ROW)?;
        let unique = count(cx, w, givers, kind, &address, ROW);
        for lane in lanes(!givers) {
            address[lane] = 0;
        }
        Ok((address, unique))
    }

    /// `ldmatrix`
    #[inline(always)]
    pub fn load(
        self,
        cx: &mut Context,
        w: &mut Warp,
        m: u32,
        d: [Reg; 4],
        addr: Address,
    ) -> Outcome {
        let kind = AccessKind::Read;
        let (address, unique) = self.rows(cx, w, m, kind, addr)?;
        let shadow = &mut cx.shared.shadow;
        let shift = shadow.shift;
        let units = lanes(unique).map(|lane| (address[lane] >> shift) as usize);
        if !shadow.read_small(units, 16 >> shift, &cx.order, (w.index, w.sync_count)) {
            closer_look(cx, w, self.givers(), ROW, &address)?;
        }
        for (matrix, &reg) in d.iter().enumerate().take(usize::from(self.count)) {
            let mut words = [0; 32];
            for row in 0..8 {
                let first = (address[8 * matrix + row] / 4) as usize;
                words[4 * row..][..4].copy_from_slice(&cx.shared.words[first..first + 4]);
            }
            *w.u32s_mut(reg) = if self.trans {
                transposed(&words)
            } else {
                words
            };
        }
        Ok(())
    }

    /// `stmatrix`
    #[inline(always)]
    pub fn store(
        self,
        cx: &mut Context,
        w: &mut Warp,
        m: u32,
        src: [Reg; 4],
        addr: Address,
    ) -> Outcome {
        let kind = AccessKind::Write;
        let (address, unique) = self.rows(cx, w, m, kind, addr)?;
        let distinct = unique == self.givers();
        for (matrix, &reg) in src.iter().enumerate().take(usize::from(self.count)) {
            let mut words = *w.u32s(reg);
            if self.trans {
                words = transposed(&words);
            }
            for row in 0..8 {
                let lane = 8 * matrix + row;
                let mut new = [0; 4];
                new.copy_from_slice(&words[4 * row..][..4]);
                store_row(cx, w, lane, address[lane], &new, distinct)?;
            }
        }
        Ok(())
    }
}

/// Stores a row. `distinct`: no other lane of the instruction writes it.
#[inline(always)]
fn store_row(
    cx: &mut Context,
    w: &Warp,
    lane: usize,
    address: u64,
    new: &[u32; 4],
    distinct: bool,
) -> Outcome {
    let actor = actor(w, lane, false);
    let first = (address / 4) as usize;
    let shadow = &mut cx.shared.shadow;
    let (unit, len) = ((address >> shadow.shift) as usize, 16 >> shadow.shift);
    if !distinct || !shadow.write_small(unit, len, &cx.order, &actor, false) {
        let touched = touch(AccessKind::Write, Space::Shared, address, ROW);
        write_units(cx, &actor, touched, byte_slice(new))?;
    }
    cx.shared.words[first..first + 4].copy_from_slice(new);
    Ok(())
}

/// Converts generic addresses to offsets in shared memory.
fn to_shared(kind: AccessKind, m: u32, address: &mut [u64; 32]) -> Outcome {
    for lane in lanes(m) {
        let actual = space_of(address[lane]);
        if actual != Space::Shared {
            let touch = touch(kind, Space::Shared, address[lane], ROW);
            return Err(UnlocatedFault::lane(
                lane,
                FaultKind::WrongSpace { touch, actual },
            ));
        }
        address[lane] -= SHARED_WINDOW;
    }
    Ok(())
}
