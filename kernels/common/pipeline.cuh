// Pipelines of producer and consumer warps through mbarriers (sm_90).
#pragma once

#include "common/watchdog.cuh"
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
    wait_for(shared.full(state.stage), state.phase, {BarrierRole::FULL, state.stage});
}
template <class Shared>
DEVICE void producer_acquire(const Shared& shared, const PipelineState& state) {
    wait_for(shared.empty(state.stage), state.phase ^ 1, {BarrierRole::EMPTY, state.stage});
}
// Tests once; true if the stage is free.
template <class Shared>
DEVICE bool producer_try_acquire(const Shared& shared, const PipelineState& state) {
    return mbarrier_test_wait(shared.empty(state.stage), state.phase ^ 1);
}

// The two mbarriers of a single buffer, by their addresses; a pipeline of one stage. `phase`: that
// of the consumers. `number`: of the buffer, in the barriers' names.
struct BufferBarriers {
    unsigned full, empty;
    int number;

    DEVICE void consumer_wait(unsigned phase) const {
        wait_for(full, phase, {BarrierRole::MID_FULL, number});
    }
    DEVICE void producer_acquire(unsigned phase) const {
        wait_for(empty, phase ^ 1, {BarrierRole::MID_EMPTY, number});
    }
};
