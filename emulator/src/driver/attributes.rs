//! Attributes of a function, read-only and settable.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::driver::cluster;
use crate::driver::current::healthy;
use crate::driver::device_profiles::Card;
use crate::driver::resources::{card, max_threads, registers};
use crate::driver::state::{Function, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{Handle, Out, check};
use crate::ir::Kernel;

/// The maximum of dynamic shared memory of a function on a card.
fn dynamic_shared_limit(card: &Card, kernel: &Kernel) -> u32 {
    (card.shared_per_block_optin as u32).saturating_sub(kernel.dynamic_shared_offset())
}

fn attribute(function: &Arc<Function>, number: c_int) -> Result<i32> {
    let kernel = function.kernel.kernel();
    let program = function.module.program.program();
    let value = match number {
        0 => max_threads(kernel),
        1 => kernel.static_shared,
        // The user's constant memory; parameters are not counted.
        2 => program
            .globals
            .iter()
            .filter(|global| global.constant)
            .fold(0u64, |sum, global| sum.saturating_add(global.size))
            .min(i32::MAX as u64) as u32,
        3 => kernel.local_bytes,
        4 => registers(kernel),
        5 => program.target,
        6 => card(function)?.capability,
        7 => 0,
        8 => function.max_dynamic_shared.load(Ordering::Relaxed),
        9 => function.carveout.load(Ordering::Relaxed),
        10..=15 => cluster::attribute(function, number),
        _ => return Err(CUresult::INVALID_VALUE),
    };
    Ok(value as i32)
}

fn set_attribute(function: &Arc<Function>, number: c_int, value: c_int) -> Result {
    match number {
        8 => {
            let wanted = u32::try_from(value).map_err(|_| CUresult::INVALID_VALUE)?;
            check(wanted <= dynamic_shared_limit(card(function)?, function.kernel.kernel()))?;
            function.max_dynamic_shared.store(wanted, Ordering::Relaxed);
            Ok(())
        }
        9 => {
            check((-1..=100).contains(&value))?;
            function.carveout.store(value as u32, Ordering::Relaxed);
            Ok(())
        }
        11..=15 => cluster::set_attribute(function, number, value),
        _ => Err(CUresult::INVALID_VALUE),
    }
}

driver! {
    fn cuFuncGetAttribute(out: Out<c_int>, number: c_int, handle: Handle) {
        check(!out.is_null())?;
        healthy()?;
        out.set(attribute(&driver()?.functions.get(handle)?, number)?)
    }

    fn cuFuncSetAttribute(handle: Handle, number: c_int, value: c_int) {
        healthy()?;
        set_attribute(&driver()?.functions.get(handle)?, number, value)
    }

    fn cuFuncSetCacheConfig(handle: Handle, config: c_uint) {
        check(config <= 3)?;
        healthy()?;
        driver()?.functions.get(handle).map(|_| ())
    }

    fn cuFuncSetSharedMemConfig(handle: Handle, config: c_uint) {
        check(config <= 2)?;
        healthy()?;
        driver()?.functions.get(handle).map(|_| ())
    }

    fn cuFuncGetModule(out: Out<Handle>, handle: Handle) {
        out.set(driver()?.functions.get(handle)?.module.handle)
    }

    fn cuFuncGetName(out: Out<*const c_char>, handle: Handle) {
        let function = driver()?.functions.get(handle)?;
        out.set(function.name.as_ptr())
    }

    fn cuFuncGetParamInfo(handle: Handle, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let function = driver()?.functions.get(handle)?;
        let param = function.kernel.kernel().params.get(index).copied()
            .ok_or(CUresult::INVALID_VALUE)?;
        bytes.set_if_wanted(param.size as usize);
        offset.set(param.offset as usize)
    }

    fn cuFuncGetParamCount(handle: Handle, count: Out<usize>) {
        count.set(driver()?.functions.get(handle)?.kernel.kernel().params.len())
    }

    fn cuFuncIsLoaded(state: Out<c_uint>, handle: Handle) {
        driver()?.functions.get(handle)?;
        state.set(1)
    }

    fn cuFuncLoad(handle: Handle) {
        driver()?.functions.get(handle).map(|_| ())
    }
}
