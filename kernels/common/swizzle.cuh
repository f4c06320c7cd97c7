// The swizzle of shared memory that mma.sync, wgmma and TMA share.
//
// A row of ROW bytes is made of 16-byte chunks. Chunk c of row r lies at chunk c ^ (r / R % C) of
// the row, C being the chunks per row and R the rows in 128 bytes: eight neighbouring rows have
// their chunks c in eight different sixteenths of the banks. So ldmatrix (eight rows, one chunk)
// and the stores of loaders have no bank conflicts. TMA's swizzle of 128, 64 and 32 bytes is the
// same for rows of as many.
#pragma once

#include "types.cuh"

// Bytes after which the pattern of all three swizzles repeats: eight rows of 128 bytes. Operands of
// wgmma and boxes of TMA are aligned to as many.
constexpr int SWIZZLE_ATOM_BYTES = 8 * 128;

// The byte at which chunk `chunk` of row `row` lies, in an array of rows of ROW bytes.
template <int ROW>
DEVICE unsigned swizzled(unsigned row, unsigned chunk) {
    constexpr unsigned CHUNKS = ROW / 16, ROWS = 128 / ROW;
    return row * ROW + ((chunk ^ (row / ROWS % CHUNKS)) << 4);
}
// The same of a byte offset in an array without swizzle: bits 4.. are xored with bits 7..
template <int ROW>
DEVICE unsigned swizzled_offset(unsigned offset) {
    return offset ^ ((offset >> 7 & (ROW / 16 - 1)) << 4);
}
// The byte of the same chunk `rows` rows further on; `rows` is a power of two, `address` lies in a
// row below it.
template <int ROW>
constexpr DEVICE unsigned swizzled_further(unsigned address, unsigned rows) {
    return (address ^ (rows / (128 / ROW) % (ROW / 16) << 4)) + rows * ROW;
}
