// Units of images that may have more than 2^31 elements: those of the poolings and of layers that
// keep the extents. (Images of convolutions have fewer, and those kernels count in 31 bits.) An
// extent has at most 31 bits, a plane may have more. So the step from one channel's plane to the
// next is rows times columns in 64 bits, not Strides::channel of common/conv_args.cuh.
#pragma once

#include "common/units.cuh"

struct WideUnit {
    int image;
    unsigned long long outer, middle, inner;
};

// FastDiv::shift of 2^31 units or more (FastDiv::wide of the library): no division by a constant,
// but the extent itself in 64 bits, its upper half in mul. by_image then has the outermost extent.
constexpr unsigned WIDE_SHIFT = 0xffffffffu;

DEVICE unsigned long long wide_extent(const FastDiv& by) {
    return static_cast<unsigned long long>(by.mul) << 32 | by.divisor;
}

// The unit of this thread; false for the threads beyond the last. Beyond 2^31 units of the launch
// all divisions are true ones.
DEVICE bool find_wide_unit(int images, const FastDiv& by_image, const FastDiv& by_inner,
                           const FastDiv& by_middle, WideUnit& unit) {
    if (by_image.shift != WIDE_SHIFT) {
        // Below 2^31 in all, and a grid ends within one block of it.
        unsigned index = blockIdx.x * THREADS + threadIdx.x;
        unsigned units = by_image.divisor;
        if (index >= images * units) {
            return false;
        }
        unsigned image = fast_div(index, by_image);
        unsigned rest = index - image * units;
        unsigned outside = fast_div(rest, by_inner);
        unsigned outer = fast_div(outside, by_middle);
        unit = {static_cast<int>(image), outer, outside - outer * by_middle.divisor,
                rest - outside * by_inner.divisor};
        return true;
    }
    unsigned long long inner = wide_extent(by_inner), middle = wide_extent(by_middle),
                       outer = wide_extent(by_image);
    unsigned long long rest = static_cast<unsigned long long>(blockIdx.x) * THREADS + threadIdx.x;
    unit.inner = rest % inner;
    rest /= inner;
    unit.middle = rest % middle;
    rest /= middle;
    unit.outer = rest % outer;
    rest /= outer;
    unit.image = static_cast<int>(rest);
    return rest < images;
}

// From one channel to the next of a tensor with planes of rows x columns.
DEVICE long long channel_step(int rows, int columns) {
    return LAYOUT_NHWC ? 1 : static_cast<long long>(rows) * columns;
}
