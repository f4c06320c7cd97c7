// Order between the generic proxy (ordinary accesses) and the async proxy (TMA, wgmma).
#pragma once

#include "types.cuh"

// Orders this thread's ordinary accesses of shared memory before later ones of TMA or wgmma, of
// threads behind a common barrier.
DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
