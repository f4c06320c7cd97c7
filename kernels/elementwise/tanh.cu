// y = amplitude * tanh(slope * x), tanhf without fast math: with 1.7159 and 2/3 the squashing
// function of LeNet-5 (LeCun et al. 1998, appendix A), with 1 and 1 the hyperbolic tangent. NaN
// stays NaN, an infinity becomes the amplitude with its sign. Threads and grid:
// elementwise/map.cuh.
#include "elementwise/map.cuh"
#include "elementwise/args.cuh"

struct Tanh {
    float amplitude, slope;

    DEVICE storage_t operator()(storage_t value) const {
        return from_float(amplitude * tanhf(slope * to_float(value)));
    }
};

KERNEL(TanhArgs a) { elementwise(a.run, Tanh{a.amplitude, a.slope}); }
