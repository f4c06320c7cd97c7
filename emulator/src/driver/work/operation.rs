//! Execution of the operations of a stream.

use std::sync::Arc;

use crate::driver::current::call_host;
use crate::driver::release::forget;
use crate::driver::state::{AllocationKind, Context, Op, driver};
use crate::driver::status::Result;

impl Op {
    /// Resolves the memory of the operation: invalid addresses are errors of the submitting call.
    pub fn prepare(self) -> Result<Op> {
        Ok(match self {
            Op::Copy(copy) => Op::Transfer(copy.resolve()?),
            Op::Fill(fill) => Op::Fill(fill.resolve()?),
            Op::Free(address) => match driver()?.find(address) {
                // The memory of a graph's own allocation stays allocated until the graph is
                // destroyed.
                Some((_, _, allocation)) if allocation.kind == AllocationKind::Graph => Op::Empty,
                _ => Op::Release(forget(address)?, address),
            },
            other => other,
        })
    }

    /// Performs the operation. An error breaks the context; a kernel's fault has already done so.
    pub fn run(&self, context: &Arc<Context>) -> Result {
        let broken = context.healthy();
        match self {
            Op::Release(device, address) => device.backend.free(*address),
            Op::Callback(stream, function, data) => {
                let code = broken.err().map_or(0, |code| code.0);
                // SAFETY: the caller that added the callback guarantees that it may be called with
                // this argument.
                call_host(|| unsafe { function(*stream, code, data.0) });
            }
            // After a fault, no operation of the context runs. "The function will not be called in
            // the event of an error in the CUDA context" (cuLaunchHostFunc).
            _ if broken.is_err() => {}
            Op::Launch(launch) => launch.run(context)?,
            Op::Transfer(transfer) => transfer.run()?,
            Op::Fill(fill) => fill.run()?,
            Op::Host(function, data) => {
                // SAFETY: the caller that submitted the function guarantees that it may be called
                // with this argument.
                call_host(|| unsafe { function(data.0) });
            }
            Op::Copy(copy) => copy.resolve()?.run()?,
            Op::Empty | Op::Record(_) | Op::Wait | Op::Alloc(_) | Op::Free(_) => {}
        }
        Ok(())
    }
}
