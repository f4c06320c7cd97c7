// setmaxnreg: how the warpgroups of a block share out its registers (sm_90a).
#pragma once

#include "types.cuh"

constexpr int SM_REGISTERS = 65536;  // of 32 bits, shared by the blocks of an SM

template <int REGISTERS>
DEVICE void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
DEVICE void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
