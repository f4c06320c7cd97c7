// The two variables of a watchdog module (config.cuh).
#pragma once

#include "types.cuh"

// Address of the records; 0 until the loader sets it.
DEVICE unsigned long long ld_watchdog_records() {
    unsigned long long records;
    asm volatile("ld.global.u64 %0, [warpconv_watchdog];" : "=l"(records)::"memory");
    return records;
}
// Sets the block that writes records to `block`, a number plus one, where it is 0. Returns what it
// was.
DEVICE unsigned atom_cas_watchdog_block(unsigned block) {
    unsigned before;
    asm volatile("atom.global.cas.b32 %0, [warpconv_watchdog_block], 0, %1;"
                 : "=r"(before)
                 : "r"(block)
                 : "memory");
    return before;
}
