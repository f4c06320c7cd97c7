// y = f(x), element by element; in place if x == y and the pitches agree.
//
// Both tensors are runs of `length` elements, a pitch apart; a tensor without gaps is a single run.
// A block computes TILE_N consecutive elements across runs, as 16-byte vectors or (unaligned) one
// by one. Neighbouring threads have neighbouring vectors; ROUND loads of a thread are in flight
// together.
//
// Constraints: ReluArgs::vector. Grid: ceil(elements / TILE_N) blocks of THREADS. No shared memory,
// no barrier.
#pragma once

#include "elementwise/args.cuh"

static_assert(TILE_N % (4 * THREADS * 16 / sizeof(storage_t)) == 0,
              "a tile is whole rounds of vectors");

// The first element of a block: a run and an offset in it. Then the one `step` further
// lies.
struct RunPosition {
    long long run;
    long long offset;

    DEVICE RunPosition after(unsigned step, const ReluArgs& a) const {
        long long at = offset + step;
        if (at < a.length) {
            return {run, at};
        }
        if (a.length >= TILE_N) {
            return {run + 1, at - a.length};
        }
        // Short runs: offset < length < TILE_N, so that `at` is small.
        unsigned runs = fast_div(static_cast<unsigned>(at), a.by_length);
        return {run + runs, at - static_cast<long long>(runs) * a.length};
    }
};

template <typename Access, int WIDTH, typename Function>
DEVICE void tile(const ReluArgs& a, long long first, const RunPosition& start,
                 const Function& function) {
    const storage_t* x = static_cast<const storage_t*>(a.x);
    storage_t* y = static_cast<storage_t*>(a.y);
    constexpr int ROUND = 4;  // loads in flight
#pragma unroll 1
    for (unsigned done = 0; done < TILE_N; done += ROUND * THREADS * WIDTH) {
        Access data[ROUND];
        long long to[ROUND];
#pragma unroll
        for (int i = 0; i < ROUND; i++) {
            unsigned step = done + (i * THREADS + threadIdx.x) * WIDTH;
            to[i] = -1;
            if (first + step + WIDTH <= a.elements) {
                RunPosition at = start.after(step, a);
                data[i] = *reinterpret_cast<const Access*>(x + at.run * a.x_pitch + at.offset);
                to[i] = at.run * a.y_pitch + at.offset;
            }
        }
#pragma unroll
        for (int i = 0; i < ROUND; i++) {
            storage_t* values = reinterpret_cast<storage_t*>(&data[i]);
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                values[j] = function(values[j]);
            }
            if (to[i] >= 0) {
                *reinterpret_cast<Access*>(y + to[i]) = data[i];
            }
        }
    }
}

// This block's part of y = function(x), from storage type to storage type.
template <typename Function>
DEVICE void elementwise(const ReluArgs& a, const Function& function) {
    long long first = static_cast<long long>(blockIdx.x) * TILE_N;
    long long run = a.length == a.elements ? 0 : first / a.length;
    RunPosition start = {run, first - run * a.length};
    if (!a.vector) {
        tile<storage_t, 1>(a, first, start, function);
        return;
    }
    tile<Vec<VECTOR_ELEMENTS>, VECTOR_ELEMENTS>(a, first, start, function);
    // The last elements of a single run that are no whole vector.
    long long rest = a.elements % VECTOR_ELEMENTS;
    if (rest != 0 && blockIdx.x == gridDim.x - 1 && threadIdx.x < rest) {
        long long at = a.elements - rest + threadIdx.x;
        static_cast<storage_t*>(a.y)[at] = function(static_cast<const storage_t*>(a.x)[at]);
    }
}
