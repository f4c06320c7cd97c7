// y = max(x, 0): NaN stays NaN and -0 stays -0. Threads and grid: elementwise/map.cuh.
#include "elementwise/map.cuh"

struct Relu {
    DEVICE storage_t operator()(storage_t value) const {
        if constexpr (DTYPE == DType::F32) return relu(value);
        return to_float(value) < 0.0f ? storage_t(0) : value;
    }
};

KERNEL(ReluArgs a) { elementwise(a, Relu{}); }
