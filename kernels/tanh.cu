// y = amplitude * tanh(slope * x), tanhf without fast math: with 1.7159 and 2/3 the squashing function of LeNet-5 (LeCun et al.
// 1998, appendix A), with 1 and 1 the hyperbolic tangent. NaN stays NaN, an infinity becomes the amplitude with its sign.
// elementwise.cuh says how the elements are shared out.
#include "elementwise.cuh"
#include "squash_args.cuh"

struct Tanh {
    float amplitude, slope;

    DEVICE storage_t operator()(storage_t value) const {
        return from_float(amplitude * tanhf(slope * to_float(value)));
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) KERNEL_NAME(const __grid_constant__ TanhArgs a) {
    elementwise(a.run, Tanh{a.amplitude, a.slope});
}
