// TMA: copies of boxes of tensors between global and shared memory, through tensor maps (sm_90).
// One thread issues a copy.
#pragma once

#include "types.cuh"

// A tensor map as the driver encodes it.
struct alignas(64) TensorMap {
    unsigned char opaque[128];
};

DEVICE unsigned long long tensor_map_address(const TensorMap& map) {
    return reinterpret_cast<unsigned long long>(&map);
}

// Fetches a map into the cache of maps, for copies that come later.
DEVICE void prefetch_tensormap(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(tensor_map_address(map)) : "memory");
}
// im2col: the box of x that starts at channel c and at the position whose tap (0, 0) is column, row
// of image, shifted by a tap's offsets. Arrives at `barrier` with the box's bytes.
DEVICE void tma_load_im2col_4d(unsigned to, const TensorMap& map, unsigned barrier, int c,
                               int column, int row, int image, unsigned column_offset,
                               unsigned row_offset) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(to),
        "l"(tensor_map_address(map)), "r"(barrier), "r"(c), "r"(column), "r"(row), "r"(image),
        "h"(static_cast<unsigned short>(column_offset)),
        "h"(static_cast<unsigned short>(row_offset))
        : "memory");
}
// The box of a tiled map at these coordinates. Arrives at `barrier` with the box's bytes.
DEVICE void tma_load_3d(unsigned to, const TensorMap& map, unsigned barrier, int inner, int middle,
                        int outer) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(tensor_map_address(map)), "r"(barrier), "r"(inner), "r"(middle), "r"(outer)
        : "memory");
}
// From shared to global memory; what lies beyond the map's dimensions is not written. Part of the
// thread's next bulk group.
DEVICE void tma_store_3d(const TensorMap& map, unsigned from, int inner, int middle, int outer) {
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::
            "l"(tensor_map_address(map)),
        "r"(from), "r"(inner), "r"(middle), "r"(outer)
        : "memory");
}
DEVICE void cp_async_bulk_commit_group() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Waits until at most PENDING of this thread's bulk groups still read shared memory.
template <int PENDING>
DEVICE void cp_async_bulk_wait_group_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}
// Waits until at most PENDING of this thread's bulk groups are not yet written.
template <int PENDING>
DEVICE void cp_async_bulk_wait_group() {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
}
