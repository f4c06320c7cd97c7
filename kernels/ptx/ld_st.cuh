// Loads and stores that stay as they are written: predicated loads, where the compiler would make
// branches, and accesses of shared memory by address, in one chunk.
#pragma once

#include "common/address.cuh"

// ---- ld.global, 0 (or `otherwise`) where it is not valid: nothing is read.
DEVICE unsigned short ld_global_u16(address_t from, bool valid) {
    unsigned short value;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b16 %0, 0; @p ld.global.u16 %0, [%1];}"
                 : "=h"(value)
                 : "l"(from), "r"(static_cast<int>(valid))
                 : "memory");
    return value;
}
DEVICE unsigned short ld_global_u16(const storage_t* from, bool valid) {
    return ld_global_u16(reinterpret_cast<address_t>(from), valid);
}
// 16 bits into a register of 32.
DEVICE unsigned ld_global_u16_x32(address_t from, bool valid) {
    unsigned value;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, 0; @p ld.global.u16 %0, [%1];}"
                 : "=r"(value)
                 : "l"(from), "r"(static_cast<int>(valid))
                 : "memory");
    return value;
}
DEVICE unsigned ld_global_u32(address_t from, bool valid) {
    unsigned value;
    asm volatile("{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, 0; @p ld.global.u32 %0, [%1];}"
                 : "=r"(value)
                 : "l"(from), "r"(static_cast<int>(valid))
                 : "memory");
    return value;
}
DEVICE float ld_global_f32(address_t from, bool valid) {
    float value;
    asm volatile(
        "{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, 0f00000000; @p ld.global.f32 %0, [%1];}"
        : "=f"(value)
        : "l"(from), "r"(static_cast<int>(valid))
        : "memory");
    return value;
}
DEVICE uint4 ld_global_v4(address_t from, bool valid) {
    uint4 value;
    asm volatile(
        "{.reg .pred p; setp.ne.s32 p, %5, 0;"
        " mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;"
        " @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
        : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
        : "l"(from), "r"(static_cast<int>(valid))
        : "memory");
    return value;
}
template <unsigned OTHERWISE>
DEVICE uint4 ld_global_v4_or(address_t from, bool valid) {
    uint4 value;
    asm volatile(
        "{.reg .pred p; setp.ne.s32 p, %5, 0;"
        " mov.b32 %0, %6; mov.b32 %1, %6; mov.b32 %2, %6; mov.b32 %3, %6;"
        " @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
        : "=&r"(value.x), "=&r"(value.y), "=&r"(value.z), "=&r"(value.w)
        : "l"(from), "r"(static_cast<int>(valid)), "n"(OTHERWISE)
        : "memory");
    return value;
}
// One stored element, in the lower half of the register if it has 16 bits.
template <unsigned OTHERWISE>
DEVICE unsigned ld_global_element_or(address_t from, bool valid) {
    unsigned value;
    if constexpr (DTYPE == DType::F32)
        asm volatile(
            "{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, %3; @p ld.global.u32 %0, [%1];}"
            : "=&r"(value)
            : "l"(from), "r"(static_cast<int>(valid)), "n"(OTHERWISE)
            : "memory");
    else
        asm volatile(
            "{.reg .pred p; setp.ne.s32 p, %2, 0; mov.b32 %0, %3; @p ld.global.u16 %0, [%1];}"
            : "=&r"(value)
            : "l"(from), "r"(static_cast<int>(valid)), "n"(OTHERWISE & 0xffffu)
            : "memory");
    return value;
}
// Past L1, which is not coherent: data of other blocks.
DEVICE float4 ld_global_cg_v4(address_t from) {
    float4 value;
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "l"(from)
                 : "memory");
    return value;
}

// ---- st.global
DEVICE void st_global_v4(address_t to, float a, float b, float c, float d) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "f"(a), "f"(b), "f"(c), "f"(d)
                 : "memory");
}
DEVICE void st_global_v4(address_t to, unsigned a, unsigned b, unsigned c, unsigned d) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}
DEVICE void st_global_v2(address_t to, uint2 value) {
    asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(value.x), "r"(value.y)
                 : "memory");
}
DEVICE void st_global_v2_if(address_t to, uint2 value, bool valid) {
    asm volatile("{.reg .pred p; setp.ne.s32 p, %3, 0; @p st.global.v2.u32 [%0], {%1, %2};}"
                 :
                 : "l"(to), "r"(value.x), "r"(value.y), "r"(static_cast<int>(valid))
                 : "memory");
}
// Has the L2 cache fetch a line.
DEVICE void prefetch_l2(address_t at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

// A copy by the thread itself: 32 bits from global to shared memory, or zero.
DEVICE void ld_global_st_shared_b32(unsigned to, address_t from, bool valid) {
    asm volatile(
        "{.reg .pred p; .reg .b32 v; setp.ne.s32 p, %2, 0; mov.b32 v, 0;"
        " @p ld.global.b32 v, [%1]; st.shared.b32 [%0], v;}"
        :
        : "r"(to), "l"(from), "r"(static_cast<int>(valid))
        : "memory");
}

// ---- ld.shared
DEVICE unsigned short ld_shared_u16(unsigned from) {
    unsigned short value;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(value) : "r"(from) : "memory");
    return value;
}
DEVICE unsigned ld_shared_u32(unsigned from) {
    unsigned value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
    return value;
}
DEVICE float ld_shared_f32(unsigned from) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(from) : "memory");
    return value;
}
DEVICE unsigned long long ld_shared_u64(unsigned from) {
    unsigned long long value;
    asm volatile("ld.shared.u64 %0, [%1];" : "=l"(value) : "r"(from) : "memory");
    return value;
}
DEVICE uint2 ld_shared_v2(unsigned from) {
    uint2 value;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                 : "=r"(value.x), "=r"(value.y)
                 : "r"(from)
                 : "memory");
    return value;
}
DEVICE float2 ld_shared_v2_f32(unsigned from) {
    float2 value;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                 : "=f"(value.x), "=f"(value.y)
                 : "r"(from)
                 : "memory");
    return value;
}
DEVICE ulonglong2 ld_shared_v2_u64(unsigned from) {
    unsigned long long first, second;
    asm volatile("ld.shared.v2.u64 {%0, %1}, [%2];"
                 : "=l"(first), "=l"(second)
                 : "r"(from)
                 : "memory");
    return make_ulonglong2(first, second);
}
DEVICE uint4 ld_shared_v4(unsigned from) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
}
DEVICE float4 ld_shared_v4_f32(unsigned from) {
    float4 value;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "r"(from)
                 : "memory");
    return value;
}

// ---- st.shared
DEVICE void st_shared_u16(unsigned to, unsigned short value) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(value) : "memory");
}
DEVICE void st_shared_u32(unsigned to, unsigned value) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory");
}
DEVICE void st_shared_f32(unsigned to, float value) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(value) : "memory");
}
DEVICE void st_shared_u64(unsigned to, unsigned long long value) {
    asm volatile("st.shared.u64 [%0], %1;" ::"r"(to), "l"(value) : "memory");
}
DEVICE void st_shared_v2_f32(unsigned to, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(first), "f"(second) : "memory");
}
DEVICE void st_shared_v2_u64(unsigned to, unsigned long long first, unsigned long long second) {
    asm volatile("st.shared.v2.u64 [%0], {%1, %2};" ::"r"(to), "l"(first), "l"(second) : "memory");
}
DEVICE void st_shared_v4(unsigned to, uint4 value) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "r"(to), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
                 : "memory");
}
