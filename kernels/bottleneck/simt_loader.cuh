// The loaders of bottleneck/simt.cu: the elements of x and of the filters that a
// thread copies. Past the last step a loader copies nothing but zeros.
#pragma once

#include "bottleneck/simt_tile.cuh"

// Fills the first stages of a phase. The phase itself starts a loader anew (`behind`): one that
// lived on through the end of the phase before would take registers from its accumulators.
template <class Loader, class Stage>
DEVICE void fill_first(const BottleneckArgs& args, Stage* stages) {
    Loader loader(args);
#pragma unroll 1
    for (int i = 0; i < STAGES - 1; ++i) {
        loader.fill(args, stages[i]);
        commit();
    }
}
template <class Loader>
DEVICE Loader behind(const BottleneckArgs& args) {
    Loader loader(args);
#pragma unroll
    for (int i = 0; i < STAGES - 1; ++i) loader.advance(args);
    return loader;
}

// Copies STEP channels of FILTERS filters of a 1x1, transposed: stage[channel][filter]. Thread:
// channel thread % 8, filter thread / 8 (whose element `from` is), and those 8 channels, 32 filters
// further on; `channels` and `filters` are left from the thread's own on.
template <int STEP, int FILTERS, int PITCH>
DEVICE void fill_pointwise(float (&stage)[STEP][PITCH], address_t from, int w_k, int w_c,
                           int channels, int filters) {
    if (FILTERS < 32 && thread_index() >= FILTERS * 8) return;
    unsigned to = shared_address(&stage[thread_index() % 8][thread_index() / 8]);
#pragma unroll
    for (int k = 0; k < FILTERS; k += 32)
#pragma unroll
        for (int c = 0; c < STEP; c += 8)
            copy_f32(to + 4 * (c * PITCH + k),
                     further(from, c * w_c) + static_cast<long long>(k) * w_k * 4,
                     c < channels && k < filters);
}
// The thread's first element.
DEVICE address_t pointwise_element(const void* w, int w_k, int w_c) {
    return further(global_address(w), thread_index() % 8 * w_c) +
           static_cast<long long>(thread_index() / 8) * w_k * 4;
}

// Filters of the first 1x1.
struct W1Loader {
    address_t from;
    int channels, filters;

    DEVICE W1Loader(const BottleneckArgs& args) {
        from = pointwise_element(args.w1, args.w1_k, args.w1_c);
        channels = args.c - thread_index() % 8;
        filters = args.mid_channels - thread_index() / 8;
    }
    DEVICE void fill(const BottleneckArgs& args, Stage1& stage) {
        fill_pointwise<STEP_1, MID_CHANNELS>(stage.w, from, args.w1_k, args.w1_c, channels,
                                             filters);
        from = further(from, STEP_1 * args.w1_c);
        channels -= STEP_1;
    }
};

// Filters of the last 1x1: all channels of 64 filters, then the next 64.
struct W3Loader {
    address_t first;  // of the 64
    int c, filters;   // channels done of them; left from the thread's first on

    DEVICE W3Loader(const BottleneckArgs& args) {
        first = pointwise_element(args.w3, args.w3_k, args.w3_c);
        c = 0;
        filters = args.k - thread_index() / 8;
    }
    DEVICE void fill(const BottleneckArgs& args, Stage3& stage) {
        int channels = args.mid_channels - c - static_cast<int>(thread_index() % 8);
        fill_pointwise<STEP_3, CHUNK>(stage.w, further(first, c * args.w3_c), args.w3_k, args.w3_c,
                                      channels, filters);
        advance(args);
    }
    DEVICE void advance(const BottleneckArgs& args) {
        c += STEP_3;
        if (c >= args.mid_channels) {
            c = 0;
            first += static_cast<long long>(CHUNK) * args.w3_k * 4;
            filters -= CHUNK;
        }
    }
};

// Filters of the 3x3, STEP_2 channels per step. Thread: channel thread_index() % 4, filter
// thread_index() / 4, all taps.
struct W2Loader {
    address_t from;
    int channels;  // left from the thread's own on; none where its filter does not exist

    DEVICE W2Loader(const BottleneckArgs& args) {
        int channel = thread_index() % STEP_2, filter = thread_index() / STEP_2;
        from = further(global_address(args.w2), channel * args.w2_c) +
               static_cast<long long>(filter) * args.w2_k * 4;
        channels = filter < args.mid_channels ? args.mid_channels - channel : 0;
    }
    DEVICE void fill(const BottleneckArgs& args, Stage2& stage) {
        if (MID_CHANNELS == 64 || thread_index() < MID_CHANNELS * STEP_2) {
            unsigned to = shared_address(
                &stage.w[thread_index() % STEP_2][0][thread_index() / STEP_2]);
#pragma unroll
            for (int tap = 0; tap < 9; ++tap)
                copy_f32(to + 4 * tap * W2_PITCH, further(from, tap * args.w2_tap), channels > 0);
        }
        advance(args);
    }
    DEVICE void advance(const BottleneckArgs& args) {
        from = further(from, STEP_2 * args.w2_c);
        channels -= STEP_2;
    }
};

// x over the halo, STEP_1 channels per step, by groups of four columns (VECTOR_BYTES 16, NCHW):
// numbered through the stage; a thread has every 256th.
struct GroupLoader {
    static constexpr int GROUPS = X_Q / 4 * HALO_P;
    static constexpr int COPIES = (GROUPS * STEP_1 + THREADS - 1) / THREADS;
    static constexpr int NEVER = 0x7fffffff;

    address_t image;      // of the image, at the first channel of the step
    int channels;         // left from the first of the step on
    int offsets[COPIES];  // from the image on
    int needs[COPIES];    // valid where as many channels are left

    DEVICE GroupLoader(const BottleneckArgs& args, const Patch& patch, int*) {
        image = global_address(args.x) + patch.image * args.x_strides.image * 4;
        channels = args.c;
        int row0 = patch.top(), column0 = patch.q * STRIDE - X_LEFT;
#pragma unroll
        for (int i = 0; i < COPIES; ++i) {
            int group = thread_index() + i * THREADS, channel = group / GROUPS,
                place = group % GROUPS;
            int row = row0 + place / (X_Q / 4), column = column0 + place % (X_Q / 4) * 4;
            // A group is wholly inside or wholly outside: the width is a multiple of 4.
            bool in_bounds = row >= 0 && row < args.h && column >= 0 && column < args.width;
            offsets[i] = channel * args.x_strides.channel + row * args.width + column;
            needs[i] = in_bounds ? channel + 1 : NEVER;
        }
    }

    DEVICE void fill(const BottleneckArgs& args, Stage1& stage) {
        unsigned to = shared_address(&stage.x[0][0]) + 16 * thread_index();
#pragma unroll
        for (int i = 0; i < COPIES; ++i)
            if ((i + 1) * THREADS <= GROUPS * STEP_1 ||
                thread_index() + i * THREADS < GROUPS * STEP_1)
                cp_async<16>(to + 16 * THREADS * i, further(image, offsets[i]),
                             channels >= needs[i]);
        image = further(image, STEP_1 * (LAYOUT_NHWC ? 1 : args.x_strides.channel));
        channels -= STEP_1;
    }
};

// The same element by element (VECTOR_BYTES 4): `places` has the place of each pixel.
// NCHW: warp = channel, lane = pixel, every 32nd.
// NHWC: 4 channels of 8 pixels per warp, then 4 channels on, then 64 pixels on.
struct ElementLoader {
    address_t image;  // of the image, at the first channel of the step
    int channels;     // left from the first of the step on
    const int* places;

    DEVICE ElementLoader(const BottleneckArgs& args, const Patch& patch, int* places) {
        image = global_address(args.x) + patch.image * args.x_strides.image * 4;
        channels = args.c;
        int row0 = patch.top(), column0 = patch.q * STRIDE - X_LEFT;
        this->places = places;
#pragma unroll 1
        for (int i = thread_index(); i < PLACES; i += THREADS) {
            int row = row0 + i / X_Q, column = column0 + i % X_Q;
            bool in_bounds = row >= 0 && row < args.h && column >= 0 && column < args.width;
            places[i] = in_bounds
                            ? (row * args.width + column) * (LAYOUT_NHWC ? args.x_strides.pixel : 1)
                            : -1;
        }
        __syncthreads();  // read by other threads than wrote them
    }

    DEVICE void fill(const BottleneckArgs& args, Stage1& stage) {
        if constexpr (LAYOUT_NHWC) {
            int channel = thread_index() % 4;
            unsigned to = shared_address(&stage.x[channel][thread_index() / 4]);
#pragma unroll 1
            for (int pixel = thread_index() / 4; pixel < PLACES; pixel += 64) {
                int place = places[pixel];
                address_t from = further(image, place + channel);
                copy_f32(to, from, place >= 0 && channel < channels);
                copy_f32(to + 16 * X_PITCH, further(from, 4), place >= 0 && channel + 4 < channels);
                to += 256;
            }
        } else {
            int channel = thread_index() / 32, lane = thread_index() % 32;
            address_t from = further(image, channel * args.x_strides.channel);
            unsigned to = shared_address(&stage.x[channel][lane]);
#pragma unroll
            for (int i = 0; i < (PLACES + 31) / 32; ++i)
                if (32 * (i + 1) <= PLACES || lane + 32 * i < PLACES) {
                    int place = places[lane + 32 * i];
                    copy_f32(to + 128 * i, further(from, place), place >= 0 && channel < channels);
                }
        }
        image = further(image, STEP_1 * (LAYOUT_NHWC ? 1 : args.x_strides.channel));
        channels -= STEP_1;
    }
};

typedef Select<X_BY_FOURS, GroupLoader, ElementLoader>::type XLoader;
