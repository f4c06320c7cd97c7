// Work distribution of the kernels that are no matrix product.
//
// A thread makes one unit: a few outputs of one image. An image has the same number of units,
// numbered through its dimensions from the outermost to the innermost, so that neighbouring threads
// touch neighbouring elements.
#pragma once

#include "types.cuh"

struct Unit {
    int image;
    unsigned outer, middle, inner;
};

// The unit of this thread; false for the threads beyond the last. Beyond 2^31 units the image takes
// a true division.
DEVICE bool find_unit(int images, const FastDiv& by_image, const FastDiv& by_inner,
                      const FastDiv& by_middle, Unit& unit) {
    unsigned units = by_image.divisor;
    long long total = static_cast<long long>(images) * units;
    long long index = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
    if (index >= total) {
        return false;
    }
    unsigned rest;
    if (total < (1ll << 31)) {
        unsigned small = static_cast<unsigned>(index);
        unsigned image = fast_div(small, by_image);
        unit.image = image;
        rest = small - image * units;
    } else {
        unsigned long long image = static_cast<unsigned long long>(index) / units;
        unit.image = static_cast<int>(image);
        rest = static_cast<unsigned>(index - image * units);
    }
    unsigned outside = fast_div(rest, by_inner);
    unit.inner = rest - outside * by_inner.divisor;
    unit.outer = fast_div(outside, by_middle);
    unit.middle = outside - unit.outer * by_middle.divisor;
    return true;
}

// A window along one axis: cells first, first + step, ... (count of them), of which
// begin .. end are inside.
struct Span {
    int first;
    int begin, end;
};

DEVICE Span span(int first, int count, int step, int size) {
    Span result = {first, 0, 0};
    if (first < size) {
        if (step == 1) {
            result.begin = first < 0 ? -first : 0;
            result.end = min(count, size - first);
        } else {
            unsigned by = step;
            result.begin = first < 0 ? (static_cast<unsigned>(-first) + by - 1) / by : 0;
            result.end = min(static_cast<unsigned>(count),
                             (static_cast<unsigned>(size - first) + by - 1) / by);
        }
    }
    result.end = max(result.begin, result.end);
    return result;
}
