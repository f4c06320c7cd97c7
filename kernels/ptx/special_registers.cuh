// Special registers, read anew at each use: a kernel that works out its place again in the epilogue
// leaves the registers of the main loop to the accumulators.
#pragma once

#include "types.cuh"

DEVICE unsigned tid_x() {
    unsigned index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}
DEVICE unsigned ctaid_x() {
    unsigned index;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
    return index;
}
// Nanoseconds since some time.
DEVICE unsigned long long globaltimer() {
    unsigned long long nanoseconds;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(nanoseconds)::"memory");
    return nanoseconds;
}
