// y = max(x, 0): NaN stays NaN and -0 stays -0. elementwise.cuh says how the elements are shared out.
#include "elementwise.cuh"

struct Relu {
    DEVICE storage_t operator()(storage_t value) const {
#if KERNEL_DTYPE == 0
        return relu(value);
#else
        return to_float(value) < 0.0f ? storage_t(0) : value;
#endif
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) KERNEL_NAME(const __grid_constant__ ReluArgs a) {
    elementwise(a, Relu{});
}
