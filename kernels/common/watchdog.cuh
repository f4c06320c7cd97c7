// Waits at mbarriers, named for the watchdog (sm_90).
//
// In a watchdog module (config.cuh: WATCHDOG) a wait is bounded. A warp that gives up writes a
// record, lets the other warps of its block write theirs, and traps. The records lie in host memory
// at the address in `warpconv_watchdog`, which the loader sets: one of 16 bytes per warp of a
// block, 0 where nothing was written. Only the block whose number plus one
// `warpconv_watchdog_block` holds writes any: the first that gave up. src/device/watchdog.rs reads
// them.
//
// In other modules a wait is mbarrier_wait, and the names cost nothing.
#pragma once

#include "config.cuh"
#include "ptx/ld_st.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/special_registers.cuh"
#include "ptx/watchdog.cuh"
#include "types.cuh"

// What a barrier is for. The library has the names, in the same order.
enum class BarrierRole {
    FULL,      // full[stage]
    EMPTY,     // empty[stage]
    RESIDUAL,  // residual[consumer][buffer], 2 * consumer + buffer
    MID_FULL,  // mid1_full, mid2_full
    MID_EMPTY  // mid1_empty, mid2_empty
};
struct BarrierName {
    BarrierRole role;
    int index;
};

// Kinds of records.
constexpr unsigned WATCHDOG_WAIT = 1, WATCHDOG_ALIGNMENT = 2;

// A wait gives up after so many tries and nanoseconds, both: a wait of these kernels is for other
// warps of the block and takes microseconds. Tries alone would not do, for how long a try suspends
// its warp is the hardware's choice (WATCHDOG_TRY is a hint, in nanoseconds). Time alone would not
// do either: it goes on while the context is suspended for another one.
constexpr unsigned WATCHDOG_TRIES = 16, WATCHDOG_TRY = 20000000;
constexpr unsigned long long WATCHDOG_NANOSECONDS = 1000000000;
// So long a warp waits for the records of other warps before it traps, which ends them all.
constexpr unsigned long long WATCHDOG_GRACE = 200000000;

// Writes a record in the slot of this warp. Of a wait: role and index of its barrier, parity, and
// when it began; reports begin with the wait that began first. Of an alignment: role 0, its bytes,
// 0, and the address.
DEVICE void watchdog_record(unsigned kind, unsigned role, unsigned index, unsigned parity,
                            unsigned value) {
    unsigned block = ctaid_x(), warp = tid_x() / 32;
    unsigned long long records = ld_watchdog_records();
    unsigned before = atom_cas_watchdog_block(block + 1);
    if (records == 0 || (before != 0 && before != block + 1)) return;
    st_global_v4(records + warp * 16, kind | role << 8 | parity << 16, block, index, value);
    __threadfence_system();
}

// Waits as mbarrier_wait; gives up as described above.
DEVICE void mbarrier_wait_bounded(unsigned barrier, unsigned parity, BarrierName name) {
    unsigned long long start = globaltimer();
    unsigned tries = 0;
    bool recorded = false;
    while (!mbarrier_try_wait(barrier, parity, WATCHDOG_TRY) || recorded) {
        unsigned long long waited = globaltimer() - start;
        if (++tries < WATCHDOG_TRIES || waited < WATCHDOG_NANOSECONDS) continue;
        if (!recorded)
            watchdog_record(WATCHDOG_WAIT, static_cast<unsigned>(name.role), name.index, parity,
                            static_cast<unsigned>(start));
        recorded = true;
        if (waited >= WATCHDOG_NANOSECONDS + WATCHDOG_GRACE) __trap();
    }
}

// Waits until the barrier's phase of this parity is complete.
DEVICE void wait_for(unsigned barrier, unsigned parity, BarrierName name) {
    if constexpr (WATCHDOG)
        mbarrier_wait_bounded(barrier, parity, name);
    else
        mbarrier_wait(barrier, parity);
}

// Traps if shared memory does not begin where the swizzle's pattern does: products would be wrong.
DEVICE void check_alignment(unsigned base, unsigned bytes) {
    if constexpr (WATCHDOG) {
        // The compiler takes the declared alignment for granted.
        asm volatile("" : "+r"(base));
        if (base % bytes != 0) {
            watchdog_record(WATCHDOG_ALIGNMENT, 0, bytes, 0, base);
            __trap();
        }
    }
}
