//! Accesses to the shared memory of another block of the cluster: its last byte, and the first
//! beyond.
use super::accesses::{Access, LOADS, STORES, STRONG};
use super::harness::{Bench, LANES, Params, legal, reported, text, touch};
use ptx_emulator::ir::Space;
use ptx_emulator::{Fault, FaultKind};

/// Two blocks with `size` bytes each, all written; one lane of the first accesses `at` in the
/// second, others its start.
fn run(
    bench: &Bench,
    access: &Access,
    size: u32,
    at: u32,
    lane: u32,
    all: bool,
) -> Result<(), Fault> {
    let others = if all {
        "setp.eq.u32 %p2, %r2, %r2;"
    } else {
        "setp.eq.u32 %p2, %r2, %r6;"
    };
    let body = format!(
        "    mov.u32 %r1, tile;
    mov.u32 %r2, %tid.x;
    mov.u32 %r3, %r2;
FILL:
    setp.ge.u32 %p1, %r3, {size};
    @%p1 bra FILLED;
    st.shared.u8 [%r3], 0;
    add.u32 %r3, %r3, 32;
    bra FILL;
FILLED:
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;
    ld.param.u32 %r5, [at];
    ld.param.u32 %r6, [lane];
    setp.eq.u32 %p1, %r2, %r6;
    selp.b32 %r5, %r5, 0, %p1;
    mapa.shared::cluster.u32 %r7, %r5, 1;
    cvt.u64.u32 %rd1, %r7;
    {others}
    mov.u32 %r8, %cluster_ctarank;
    setp.ne.u32 %p4, %r8, 0;
    @%p4 bra MET;
    @%p2 {};
MET:
    barrier.cluster.arrive.release.aligned;
    barrier.cluster.wait.acquire.aligned;",
        access.text.replace("{}", ".shared::cluster")
    );
    let variables = ".extern .shared .align 16 .b8 tile[];";
    let kernel = bench.kernel(&text(
        90,
        variables,
        ".param .u32 at, .param .u32 lane",
        &body,
    ));
    bench.run_cluster(&kernel, size, &Params::default().u32(at).u32(lane))
}

#[test]
fn shared_memory_of_another_block() {
    let bench = Bench::new(90);
    // Atomics of 16 bits come at `.shared::cluster` under the same names.
    for access in LOADS.iter().chain(&STORES).chain(&STRONG) {
        let bytes = access.bytes;
        for size in [bytes, bytes + 1, 2 * bytes - 1, 33] {
            let beyond = size / bytes * bytes;
            for (lane, all) in LANES
                .into_iter()
                .flat_map(|lane| [(lane, false), (lane, true)])
            {
                let what = format!(
                    "`{}` at {beyond} of {size}, lane {lane}, all {all}",
                    access.text
                );
                legal(run(&bench, access, size, beyond - bytes, lane, all), &what);
                let fault = reported(run(&bench, access, size, beyond, lane, all), &what);
                let wanted = touch(access.kind, Space::Shared, beyond.into(), bytes);
                let good = match &*fault.kind {
                    FaultKind::InCluster {
                        block: [1, 0, 0],
                        fault,
                    } => {
                        matches!(&**fault, FaultKind::OutOfBounds { touch, .. } if *touch == wanted)
                    }
                    _ => false,
                };
                assert!(good, "{what}\n{fault}");
                assert_eq!(fault.thread, Some([lane, 0, 0]), "{what}");
            }
        }
    }
}
