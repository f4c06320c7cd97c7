// Barriers of some warps of a block. Barrier 0 is that of __syncthreads.
#pragma once

#include "types.cuh"

// bar.sync: all threads of a warp execute it together.
template <int COUNT>
DEVICE void bar_sync(int id) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(COUNT) : "memory");
}
// barrier.sync: no such condition (PTX 7.8).
DEVICE void barrier_sync(int id, int threads) {
    asm volatile("barrier.cta.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
