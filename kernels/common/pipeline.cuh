// The position of a producer or a consumer in a ring of shared-memory stages.
#pragma once

#include "config.cuh"
#include "types.cuh"

// `phase` is the parity of the barriers of `stage` that a consumer waits for; a producer waits for
// the other one.
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
