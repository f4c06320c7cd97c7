// The end of bottleneck/mma.cu: accumulators of the last product become elements of y, rounded
// once. A lane has whole chunks of 16 bytes of its pixels (bottleneck/mma_filters.cuh),
// neighbouring lanes of a quad neighbouring chunks, so an access of 16 bytes per lane fills whole
// sectors. Where rows of 16-bit types are aligned to 4 elements only, or not at all, eight pixels
// at a time pass through shared memory, and a warp writes rows in one run. Rows of f32 are then
// written in parts as they are.
//
// Shared memory: output[8 pixels][64 filters] a warp; chunk c of pixel g lies at c ^ turn(g), the
// turns of two neighbours differing in bit 2, so that the two pixels of a quarter warp fill eight
// different chunks.
#pragma once

#include "bottleneck/mma_patch.cuh"
#include "common/epilogue.cuh"

// Elements of y and the residual per access.
DEVICE int output_width(const BottleneckArgs& args) {
    if (!args.y_vector) return 1;
    if (ELEMENT_BYTES == 4) return 4;
    auto aligned = [](const void* pointer, const Strides& strides) {
        return reinterpret_cast<unsigned long long>(pointer) % 16 == 0 &&
               strides.image % CHUNK_ELEMENTS == 0 && strides.pixel % CHUNK_ELEMENTS == 0;
    };
    bool whole = args.k % CHUNK_ELEMENTS == 0 && aligned(args.y, args.y_strides) &&
                 (!args.residual || aligned(args.residual, args.residual_strides));
    return whole ? 8 : 4;
}

// Adds the residual to a chunk of y, of which `count` elements exist.
template <int WIDTH>
DEVICE void add_residual(float (&values)[CHUNK_ELEMENTS], const storage_t* from, int count) {
#pragma unroll
    for (int i = 0; i < CHUNK_ELEMENTS; i += WIDTH)
        if (i < count) {
            auto part = *reinterpret_cast<const Vec<WIDTH>*>(from + i);
#pragma unroll
            for (int e = 0; e < WIDTH; ++e) values[i + e] += to_float(part.v[e]);
        }
}
// Writes a chunk of y (in assembly where the compiler would take a vector apart), of which `count`
// elements exist.
template <int WIDTH>
DEVICE void store_chunk(const float (&values)[CHUNK_ELEMENTS], storage_t* to, int count) {
    if constexpr (ELEMENT_BYTES == 2) {
        st_global_v4(global_address(to), cvt_rn_x2(values[0], values[1]),
                     cvt_rn_x2(values[2], values[3]),
                     cvt_rn_x2(values[4 % CHUNK_ELEMENTS], values[5 % CHUNK_ELEMENTS]),
                     cvt_rn_x2(values[6 % CHUNK_ELEMENTS], values[7 % CHUNK_ELEMENTS]));
    } else if constexpr (WIDTH == 4) {
        *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
#pragma unroll
        for (int i = 0; i < CHUNK_ELEMENTS; ++i)
            if (i < count) to[i] = from_float(values[i]);
    }
}

// The lane's two pixels of each of its warp's blocks, as offsets in an image of y and of the
// residual; NONE beyond the patch or the image.
template <int COUNT>
struct OutputRows {
    static constexpr unsigned NONE = 0xffffffffu;
    unsigned place[COUNT][2];  // p * args.q + q

    DEVICE OutputRows(const BottleneckArgs& args, const Patch& patch, int first_block,
                      unsigned lane) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                int output = (first_block + i) * 16 + half * 8 + lane / 4;
                int row = output / TILE_Q, p = patch.p + row, q = patch.q + output - row * TILE_Q;
                place[i][half] = output < PIXELS && p < args.p && q < args.q ? p * args.q + q
                                                                             : NONE;
            }
    }
};

// The offset of chunk `chunk` of one of eight pixels in a warp's output.
DEVICE unsigned output_chunk(unsigned pixel, unsigned chunk) {
    unsigned turn = pixel % 2 * 4 + pixel / 2;
    return pixel * (BLOCK_K * ELEMENT_BYTES) + ((chunk ^ turn) << 4);
}

// Writes the eight pixels in the warp's output at `from`, WIDTH elements per lane in a row. `place`
// is of pixel lane / 4.
template <int WIDTH>
DEVICE void write_rows(const BottleneckArgs& args, storage_t* y, unsigned place, unsigned from,
                       int first, unsigned lane) {
    constexpr int LANES = BLOCK_K / WIDTH < 32 ? BLOCK_K / WIDTH : 32;  // along a row
    __syncwarp();
#pragma unroll
    for (int pixel = 0; pixel < 8; pixel += 32 / LANES) {
        unsigned row = pixel + lane / LANES, at = __shfl_sync(0xffffffffu, place, row * 4);
#pragma unroll
        for (int filter = lane % LANES * WIDTH; filter < BLOCK_K; filter += LANES * WIDTH) {
            unsigned source = from + output_chunk(row, filter / CHUNK_ELEMENTS) +
                              filter % CHUNK_ELEMENTS * ELEMENT_BYTES;
            bool valid = at != 0xffffffffu && first + filter < args.k;
            storage_t* to = y + static_cast<long long>(at) * args.y_strides.pixel + first + filter;
            if constexpr (WIDTH == 4) {
                uint2 value = ld_shared_v2(source);
                if (valid) st_global_v2(global_address(to), value);
            } else {
                unsigned short value = ld_shared_u16(source);
                if (valid) *to = value;
            }
        }
    }
    __syncwarp();
}

// Writes channels `first` .. first + BLOCK_K of the warp's pixels. `output` is the warp's
// part of shared memory.
template <int COUNT, int WIDTH>
DEVICE void write_acc(const BottleneckArgs& args, const Patch& patch, const OutputRows<COUNT>& rows,
                      const float (&acc)[COUNT][BLOCK_K / 8][4], int first, unsigned output,
                      unsigned lane) {
    constexpr int COLUMNS = CHUNK_ELEMENTS / 2;  // of eight filters, that share a chunk
    constexpr bool BY_ROWS = ELEMENT_BYTES == 2 && WIDTH < 8;
    storage_t* y = static_cast<storage_t*>(args.y) + patch.image * args.y_strides.image;
    const storage_t* residual = static_cast<const storage_t*>(args.residual) +
                                patch.image * args.residual_strides.image;
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            unsigned place = rows.place[i][half];
            bool valid = place != OutputRows<COUNT>::NONE;
#pragma unroll
            for (int u = 0; u < BLOCK_K / 8 / COLUMNS; ++u) {
                int filter = first + (u * 4 + lane % 4) * CHUNK_ELEMENTS,
                    count = valid ? args.k - filter : 0;
                float values[CHUNK_ELEMENTS];
#pragma unroll
                for (int e = 0; e < CHUNK_ELEMENTS; ++e)
                    values[e] = acc[i][u * COLUMNS + e / 2][half * 2 + e % 2];
                if (args.residual)
                    add_residual<WIDTH>(
                        values,
                        residual + static_cast<long long>(place) * args.residual_strides.pixel +
                            filter,
                        count);
                if (args.relu) {
#pragma unroll
                    for (int e = 0; e < CHUNK_ELEMENTS; ++e) values[e] = relu(values[e]);
                }
                if constexpr (BY_ROWS)
                    st_shared_v4(
                        output + output_chunk(lane / 4, u * 4 + lane % 4),
                        make_uint4(cvt_rn_x2(values[0], values[1]), cvt_rn_x2(values[2], values[3]),
                                   cvt_rn_x2(values[4], values[5]),
                                   cvt_rn_x2(values[6], values[7])));
                else if (count > 0)
                    store_chunk<WIDTH>(
                        values, y + static_cast<long long>(place) * args.y_strides.pixel + filter,
                        count);
            }
            if constexpr (BY_ROWS) write_rows<WIDTH>(args, y, place, output, first, lane);
        }
}
