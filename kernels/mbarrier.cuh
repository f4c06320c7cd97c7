// Barriers in shared memory that threads and copies arrive at (mbarrier), barriers of some warps of a block, and the order
// between ordinary accesses of shared memory and those of the copy engine and of wgmma (the asynchronous proxy).
// Addresses are bytes in shared memory, as cvta.to.shared gives them.
#pragma once

#include "common.cuh"

DEVICE unsigned shared_address(const void* pointer) { return static_cast<unsigned>(__cvta_generic_to_shared(pointer)); }

// One phase of the barrier takes `arrivals` arrivals and all bytes announced in it.
DEVICE void barrier_init(unsigned barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Makes initialised barriers known to the copy engine; a block barrier then makes them known to the block.
DEVICE void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
DEVICE void barrier_arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrives, and announces bytes that copies will bring.
DEVICE void barrier_arrive_expect(unsigned barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Waits until the phase of this parity is complete: a new barrier is in phase 0, so waiting for parity 1 returns at once.
DEVICE void barrier_wait(unsigned barrier, unsigned parity) {
    unsigned done;
    do {
        asm volatile(
            "{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
            : "=r"(done)
            : "r"(barrier), "r"(parity)
            : "memory");
    } while (!done);
}

// Orders this thread's ordinary accesses of shared memory before later ones of the copy engine or of wgmma (of threads that
// it meets at a barrier first).
DEVICE void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Waits for `threads` threads at barrier `id` (1..15; 0 is __syncthreads').
DEVICE void named_barrier(int id, int threads) {
    asm volatile("barrier.cta.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
