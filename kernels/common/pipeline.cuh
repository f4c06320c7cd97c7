// Pipelines of producer and consumer warps through mbarriers (sm_90).
#pragma once

#include "config.cuh"
#include "ptx/mbarrier.cuh"
#include "types.cuh"

// The position of a producer or a consumer in a pipeline of STAGES stages. `phase` is the parity of
// the barriers that a consumer of `stage` waits for.
struct PipelineState {
    int stage = 0;
    unsigned phase = 0;

    DEVICE void next() {
        if (++stage == STAGES) {
            stage = 0;
            phase ^= 1;
        }
    }
};

// Producers arrive at full(stage) when they have filled a stage, consumers at empty(stage) when
// they have read it: the addresses of mbarriers, which `shared` gives.
template <class Shared>
DEVICE void consumer_wait(const Shared& shared, const PipelineState& state) {
    mbarrier_wait(shared.full(state.stage), state.phase);
}
template <class Shared>
DEVICE void producer_acquire(const Shared& shared, const PipelineState& state) {
    mbarrier_wait(shared.empty(state.stage), state.phase ^ 1);
}
// Tests once; true if the stage is free.
template <class Shared>
DEVICE bool producer_try_acquire(const Shared& shared, const PipelineState& state) {
    return mbarrier_test_wait(shared.empty(state.stage), state.phase ^ 1);
}

// The two mbarriers of a single buffer, by their addresses; a pipeline of one stage. `phase`: that
// of the consumers.
struct BufferBarriers {
    unsigned full, empty;

    DEVICE void consumer_wait(unsigned phase) const { mbarrier_wait(full, phase); }
    DEVICE void producer_acquire(unsigned phase) const { mbarrier_wait(empty, phase ^ 1); }
};
