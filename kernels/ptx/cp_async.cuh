// cp.async: copies from global to shared memory that a thread does not wait for (compute_80).
#pragma once

#include "common/address.cuh"

// Copies `bytes` of BYTES (4, 8, 16) and fills the rest with zeros; 0 reads nothing. Copies of 16
// bytes bypass L1.
template <int BYTES>
DEVICE void cp_async_zfill(unsigned to, address_t from, int bytes) {
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                     :
                     : "r"(to), "l"(from), "r"(bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;"
                     :
                     : "r"(to), "l"(from), "r"(bytes), "n"(BYTES)
                     : "memory");
}
template <int BYTES>
DEVICE void cp_async_zfill(unsigned to, const void* from, int bytes) {
    cp_async_zfill<BYTES>(to, global_address(from), bytes);
}
// The same of all BYTES, or of none.
template <int BYTES>
DEVICE void cp_async(unsigned to, address_t from, bool valid) {
    cp_async_zfill<BYTES>(to, from, valid ? BYTES : 0);
}

DEVICE void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING groups of this thread are in flight.
template <int PENDING>
DEVICE void cp_async_wait_group() {
    if constexpr (PENDING == 0)
        asm volatile("cp.async.wait_group 0;" ::: "memory");
    else
        asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
