// Bulk tensor copies between global and shared memory, through the maps of wgmma_args.cuh. One thread issues a copy.
#pragma once

#include "mbarrier.cuh"
#include "wgmma_args.cuh"

DEVICE unsigned long long map_address(const TensorMap& map) { return reinterpret_cast<unsigned long long>(&map); }

// The box of x that starts at channel c and at the position whose tap (0, 0) is column, row of image, shifted by a tap's
// offsets. Arrives at `barrier` with the box's bytes.
DEVICE void copy_im2col(unsigned to, const TensorMap& map, unsigned barrier, int c, int column, int row, int image,
                        unsigned column_offset, unsigned row_offset) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes"
        " [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(to),
        "l"(map_address(map)), "r"(barrier), "r"(c), "r"(column), "r"(row), "r"(image),
        "h"(static_cast<unsigned short>(column_offset)), "h"(static_cast<unsigned short>(row_offset))
        : "memory");
}

// The box of a tiled map at these coordinates. Arrives at `barrier` with the box's bytes.
DEVICE void copy_tile(unsigned to, const TensorMap& map, unsigned barrier, int inner, int middle, int outer) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
        "l"(map_address(map)), "r"(barrier), "r"(inner), "r"(middle), "r"(outer)
        : "memory");
}

// From shared to global memory: what lies beyond the map's dimensions is not written. Belongs to the thread's group of copies
// that `store_commit` closes next.
DEVICE void store_tile(const TensorMap& map, unsigned from, int inner, int middle, int outer) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map_address(map)),
                 "r"(from), "r"(inner), "r"(middle), "r"(outer)
                 : "memory");
}
DEVICE void store_commit() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
// Waits until at most PENDING of this thread's groups still read shared memory.
template <int PENDING>
DEVICE void store_wait_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}
// Waits until at most PENDING of this thread's groups are not yet written.
template <int PENDING>
DEVICE void store_wait() {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
}
