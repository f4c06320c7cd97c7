// Addresses in global and shared memory as numbers.
#pragma once

#include "types.cuh"

typedef unsigned long long address_t;  // a byte address in global memory

DEVICE address_t global_address(const void* pointer) {
    return static_cast<address_t>(__cvta_generic_to_global(pointer));
}
DEVICE unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}
// The address of an element of an image or a filter: `offset` is under 2^31 wherever the element is
// valid, and wraps harmlessly where it is not (padding), since then it is never read.
DEVICE address_t element(address_t base, unsigned offset) {
    return base + static_cast<address_t>(offset) * ELEMENT_BYTES;
}
// The address `count` strides further on; count * ELEMENT_BYTES fits 32 bits.
DEVICE address_t strided(address_t base, int stride, int count) {
    return base + static_cast<long long>(stride) * (count * ELEMENT_BYTES);
}
