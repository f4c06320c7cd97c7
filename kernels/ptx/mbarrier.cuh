// mbarrier: barriers in shared memory at which threads and asynchronous copies arrive (sm_90).
// Addresses are bytes in shared memory.
#pragma once

#include "types.cuh"

// One phase of the barrier takes `arrivals` arrivals and all bytes expected in it.
DEVICE void mbarrier_init(unsigned barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}
// Makes initialised barriers visible to the async proxy; a block barrier then makes them visible to
// the block.
DEVICE void fence_mbarrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
DEVICE void mbarrier_arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives, and expects bytes of asynchronous copies.
DEVICE void mbarrier_arrive_expect_tx(unsigned barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}
// Tests once whether the phase of this parity is complete.
DEVICE bool mbarrier_test_wait(unsigned barrier, unsigned parity) {
    unsigned done;
    asm volatile(
        "{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, "
        "p;}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
    return done;
}
// Tests whether the phase of this parity is complete, suspended for up to about `nanoseconds` until
// it is.
DEVICE bool mbarrier_try_wait(unsigned barrier, unsigned parity, unsigned nanoseconds) {
    unsigned done;
    asm volatile(
        "{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2, %3; selp.u32 %0, 1, "
        "0, p;}"
        : "=r"(done)
        : "r"(barrier), "r"(parity), "r"(nanoseconds)
        : "memory");
    return done;
}
// Waits until the phase of this parity is complete: a new barrier is in phase 0, so waiting for
// parity 1 returns at once.
DEVICE void mbarrier_wait(unsigned barrier, unsigned parity) {
    unsigned done;
    do {
        asm volatile(
            "{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, "
            "0, p;}"
            : "=r"(done)
            : "r"(barrier), "r"(parity)
            : "memory");
    } while (!done);
}
