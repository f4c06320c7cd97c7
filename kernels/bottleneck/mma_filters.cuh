// Loads the filters into shared memory, once per block (RESIDENT) or again for each patch: whole
// 16-byte chunks by cp.async where they are rows of those (w_vector), else gathered element by
// element, which is slow where it is done for each patch. Chunks beyond the last channel and rows
// beyond the last filter are zero.
//
// Rows are not in the order of the filters. The accumulators of an instruction lie so that lane l
// has columns 2 (l % 4) and the next of each eight; with t = l % 4 the rows are laid so that a
// lane computes what it needs next:
//   w1: whole chunks of 16 bytes of a pixel of mid1, t + 1 two chunks after t: a quarter warp's two
//       pixels, whose keys differ in their last bit, then fill eight different chunks;
//   w2: 16-bit types: in order: two accumulators are a register of the next product's operand. f32:
//       t and t + 4 of each eight, since there an operand's registers hold those;
//   w3: whole chunks of y, t + 1 next to t: four lanes write 64 bytes in a row.
#pragma once

#include "bottleneck/mma_patch.cuh"

// The chunk of a pixel of mid1 that lane t of column warp `warp` has as its u-th.
constexpr DEVICE int mid_chunk(int warp, int u, int t) {
    return FIRST_COLUMN_WARPS == 2 ? u * 8 + t * 2 + warp : t;
}

struct FirstFilter {
    DEVICE int operator()(int row) const {
        int column = row / 8 % FIRST_COLUMNS;
        int chunk = mid_chunk(row / (8 * FIRST_COLUMNS), column / (CHUNK_ELEMENTS / 2),
                              row % 8 / 2);
        return chunk * CHUNK_ELEMENTS + column % (CHUNK_ELEMENTS / 2) * 2 + row % 2;
    }
};
struct SecondFilter {
    DEVICE int operator()(int row) const {
        return ELEMENT_BYTES == 2 ? row : row / 8 * 8 + row % 8 / 2 + row % 2 * 4;
    }
};
struct ThirdFilter {
    int first;
    DEVICE int operator()(int row) const {
        int column = row / 8;
        int chunk = column / (CHUNK_ELEMENTS / 2) * 4 + row % 8 / 2;
        return first + chunk * CHUNK_ELEMENTS + column % (CHUNK_ELEMENTS / 2) * 2 + row % 2;
    }
};

// A matrix of filters: element (filter, channel) is at filter * k + channel * c.
struct FilterMatrix {
    address_t from;
    int k, c;
    int filters, channels;
};

DEVICE unsigned load_element(address_t from, bool valid) {
    if (ELEMENT_BYTES == 2) return ld_global_u16_x32(from, valid);
    return ld_global_u32(from, valid);
}

// A chunk of a filter, gathered; `first` is its first channel.
DEVICE uint4 gather_chunk(const FilterMatrix& w, int filter, int first) {
    unsigned words[4] = {0, 0, 0, 0};
    address_t from = element(w.from, filter * w.k + first * w.c);
#pragma unroll
    for (int e = 0; e < CHUNK_ELEMENTS; ++e) {
        bool valid = filter < w.filters && first + e < w.channels;
        unsigned value = load_element(
            from + static_cast<address_t>(static_cast<unsigned>(e * w.c)) * ELEMENT_BYTES, valid);
        if (ELEMENT_BYTES == 4)
            words[e % 4] = value;
        else
            words[e / 2 % 4] |= value << (e % 2 * 16);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Loads ROWS rows of ROW bytes, channels from `channel` on, to shared byte address `to`. All
// threads of the block call it.
template <int ROWS, int ROW, class Order>
DEVICE void load_block(unsigned to, const FilterMatrix& w, int channel, bool whole, Order order) {
    // Rows between two chunks of a thread.
    constexpr int CHUNKS = ROW / 16, APART = THREADS / CHUNKS;
    unsigned chunk = threadIdx.x % CHUNKS, row = threadIdx.x / CHUNKS;
    int first = channel + chunk * CHUNK_ELEMENTS;
    if (whole) {
#pragma unroll
        for (int i = 0; i < ROWS; i += APART)
            if (i + APART <= ROWS || row + i < ROWS) {
                int filter = order(row + i);
                bool valid = filter < w.filters && first < w.channels;
                cp_async<16>(to + swizzled<ROW>(row + i, chunk),
                             valid ? element(w.from, filter * w.k + first) : w.from, valid);
            }
    } else {
#pragma unroll 1
        for (; row < ROWS; row += APART)
            st_shared_v4(to + swizzled<ROW>(row, chunk), gather_chunk(w, order(row), first));
    }
}

template <class Order>
DEVICE void load_bias(unsigned to, const void* bias, int rows, int count, Order order) {
#pragma unroll 1
    for (int row = threadIdx.x; row < rows; row += THREADS) {
        int filter = order(row);
        float value = bias && filter < count ? to_float(static_cast<const storage_t*>(bias)[filter])
                                             : 0.0f;
        st_shared_u32(to + row * 4, __float_as_uint(value));
    }
}

DEVICE FilterMatrix first_filters(const BottleneckArgs& args) {
    return {global_address(args.w1), args.w1_k, args.w1_c, args.mid_channels, args.c};
}
// Block `index` of w2, w3, counted through all taps and then all blocks of filters.
constexpr int W2_BLOCKS = 9 * MID_CHANNEL_BLOCKS;
DEVICE int filter_blocks(const BottleneckArgs& args) {
    return W2_BLOCKS + ceil_div(args.k, BLOCK_K) * MID_CHANNEL_BLOCKS;
}
DEVICE void load_later_block(const BottleneckArgs& args, unsigned to, int index) {
    int group = index / MID_CHANNEL_BLOCKS,
        channel = index % MID_CHANNEL_BLOCKS * (W_BLOCK_ROW / ELEMENT_BYTES);
    if (index < W2_BLOCKS) {
        FilterMatrix w2 = {element(global_address(args.w2), group * args.w2_tap), args.w2_k,
                           args.w2_c, args.mid_channels, args.mid_channels};
        load_block<MID_CHANNELS, W_BLOCK_ROW>(to, w2, channel, args.w_vector, SecondFilter());
    } else {
        FilterMatrix w3 = {global_address(args.w3), args.w3_k, args.w3_c, args.k,
                           args.mid_channels};
        load_block<BLOCK_K, W_BLOCK_ROW>(to, w3, channel, args.w_vector,
                                         ThirdFilter{(group - 9) * BLOCK_K});
    }
}

DEVICE void load_biases(const BottleneckArgs& args, unsigned shared) {
    load_bias(shared + B1_AT, args.b1, MID_CHANNELS, args.mid_channels, FirstFilter());
    load_bias(shared + B2_AT, args.b2, MID_CHANNELS, args.mid_channels, SecondFilter());
    for (int first = 0; RESIDENT && first < args.k; first += BLOCK_K)
        load_bias(shared + B3_AT + first * 4, args.b3, BLOCK_K, args.k, ThirdFilter{first});
}

// Resident: starts to load all filters. What is beyond the blocks that the problem has stays as it
// is.
DEVICE void load_filters(const BottleneckArgs& args, unsigned shared) {
    for (int block = 0; block * (128 / ELEMENT_BYTES) < args.c; ++block)
        load_block<MID_CHANNELS, 128>(shared + W1_AT + block * W1_BLOCK_BYTES, first_filters(args),
                                      block * (128 / ELEMENT_BYTES), args.w_vector, FirstFilter());
    int blocks = filter_blocks(args);
#pragma unroll 1
    for (int i = 0; i < blocks; ++i) {
        unsigned at = i < W2_BLOCKS ? W2_AT + i * W2_BLOCK_BYTES
                                    : W3_AT + (i - W2_BLOCKS) * W3_BLOCK_BYTES;
        load_later_block(args, shared + at, i);
    }
}

// The blocks of w2 and w3 in the order in which they are needed. Streamed: SLOTS slots are
// filled in turn, from patch to patch; SLOTS - 1 blocks are loaded or in flight when a 3x3 begins.
struct FilterStream {
    unsigned slots;          // shared byte address of the first slot; resident: of the filters
    unsigned read, write;    // slots
    int load_index, blocks;  // block to load next, of how many

    DEVICE FilterStream(const BottleneckArgs& args, unsigned shared)
        : slots(shared + W1_AT), read(0), write(0), load_index(0) {
        blocks = filter_blocks(args);
        if (!RESIDENT)
            for (int i = 0; i < SLOTS - 1; ++i) load(args);
    }
    DEVICE void load(const BottleneckArgs& args) {
        load_later_block(args, slots + write * SLOT_BYTES, load_index);
        cp_async_commit_group();
        write = write == SLOTS - 1 ? 0 : write + 1;
        load_index = load_index == blocks - 1 ? 0 : load_index + 1;
    }
    // The next block's address. The barrier: its copies are seen by all, and the block before has
    // been read by all.
    DEVICE unsigned next(const BottleneckArgs& args) {
        cp_async_wait_group<SLOTS - 2>();
        group_barrier(0);
        load(args);
        unsigned at = slots + read * SLOT_BYTES;
        read = read == SLOTS - 1 ? 0 : read + 1;
        return at;
    }
};

// Rounds the words of shared memory from `from` to `to` to tf32.
DEVICE void round_filters(unsigned from, unsigned to) {
    for (unsigned at = from + threadIdx.x * 4; at < to; at += THREADS * 4)
        st_shared_u32(at, cvt_rna_tf32(ld_shared_u32(at)));
}
