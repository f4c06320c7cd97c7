//! Cooperative launches: blocks that wait for each other.

use crate::common::{code, context, kernel};
use cudarc::driver::sys::CUresult;
use cudarc::driver::{LaunchConfig, PushKernelArg};

/// `around(unsigned* arrived, unsigned* x, unsigned* y)`: each block writes its x, waits for all,
/// and copies the x of the next block to its y.
const AROUND: &str = r"
.visible .entry around(.param .u64 arrived, .param .u64 x, .param .u64 y)
{
    .reg .pred %p<4>;
    .reg .b32 %r<10>;
    .reg .b64 %rd<9>;
    ld.param.u64 %rd1, [arrived];
    ld.param.u64 %rd2, [x];
    ld.param.u64 %rd3, [y];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %nctaid.x;
    mov.u32 %r3, %tid.x;
    mul.wide.u32 %rd4, %r1, 4;
    setp.ne.u32 %p1, %r3, 0;
    @%p1 bra waited;
    add.u64 %rd5, %rd2, %rd4;
    mad.lo.u32 %r4, %r1, 3, 7;
    st.global.u32 [%rd5], %r4;
    membar.gl;
    atom.global.add.u32 %r5, [%rd1], 1;
spin:
    ld.volatile.global.u32 %r6, [%rd1];
    setp.lt.u32 %p2, %r6, %r2;
    @%p2 bra spin;
    membar.gl;
waited:
    bar.sync 0;
    @%p1 bra done;
    add.u32 %r7, %r1, 1;
    rem.u32 %r7, %r7, %r2;
    mul.wide.u32 %rd6, %r7, 4;
    add.u64 %rd7, %rd2, %rd6;
    ld.volatile.global.u32 %r8, [%rd7];
    add.u64 %rd8, %rd3, %rd4;
    st.global.u32 [%rd8], %r8;
done:
    ret;
}
";

#[test]
fn blocks_wait_for_each_other() {
    own_process!("PTX_EMULATOR_THREADS" = "2");
    let context = context(80);
    let stream = context.default_stream();
    let around = kernel(&context, AROUND, "around");
    let run = |blocks: u32| {
        let arrived = stream.alloc_zeros::<u32>(1)?;
        // SAFETY: the kernel writes them before it or the host reads.
        let (mut x, mut y) = unsafe {
            let elements = blocks as usize;
            (
                stream.alloc::<u32>(elements)?,
                stream.alloc::<u32>(elements)?,
            )
        };
        let config = LaunchConfig {
            grid_dim: (blocks, 1, 1),
            block_dim: (64, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = stream.launch_builder(&around);
        launch.arg(&arrived).arg(&mut x).arg(&mut y);
        // SAFETY: a counter, and an element a block.
        unsafe { launch.launch_cooperative(config) }?;
        stream.clone_dtoh(&y)
    };
    for blocks in [1, 4, 37] {
        let expected: Vec<u32> = (0..blocks).map(|i| (i + 1) % blocks * 3 + 7).collect();
        assert_eq!(run(blocks), Ok(expected));
    }
    let threads = 64;
    let fit = around
        .occupancy_max_active_blocks_per_multiprocessor(threads, 0, None)
        .expect("a number");
    assert_eq!(
        code(run(fit * 108 + 1)),
        Some(CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE)
    );
    context
        .check_err()
        .expect("a launch that was refused does no harm");
}
