// Average pooling:
//
//   y[c][p][q] = sum_{r,s} x[c][p * stride_h - pad_top + r * dilation_h][q * stride_w - pad_left +
//     s * dilation_w] / divisor
//
// over the window's real cells. The divisor is their number, or (count_include_pad) the number of
// cells in the image and its padding, or the override. A window without any cell gives 0 / 0 = NaN.
// Adaptive windows run from floor(p * h / P) to ceil((p + 1) * h / P).
//
// Sums are in f32, a row of the window at a time, so that the error grows with r + s and not with r
// * s. Memory bound: neighbouring threads make neighbouring outputs; overlapping windows share
// the first-level cache.
//
// Units (common/wide_units.cuh): NCHW: channel (outer), row (middle), column (inner); NHWC: row,
// column, VECTOR_ELEMENTS channels in 16-byte accesses (one channel if they are not aligned).
//
// Constraints: windows of the whole plane belong to global_pool.cu. Grid: ceil(n * units of an
// image / THREADS) blocks of THREADS. No shared memory, no barrier.
#include "common/wide_units.cuh"
#include "pool/args.cuh"

// One axis of a window: the cells to add and how many the divisor counts.
struct Axis {
    Span cells;
    int counted;
};

DEVICE Axis axis(const PoolArgs& a, int output, int outputs, int count, int stride, int dilation,
                 int before, int after, int size) {
    Axis result;
    if (a.adaptive) {
        unsigned long long at = static_cast<unsigned long long>(output) * size;
        unsigned of = outputs;
        int first = static_cast<int>(at / of);
        int end = static_cast<int>((at + size + of - 1) / of);
        result.cells = {first, 0, end - first};
    } else {
        result.cells = span(output * stride - before, count, dilation, size);
    }
    result.counted = result.cells.end - result.cells.begin;
    if (!a.adaptive && a.count_include_pad) {
        // Never before the padding, as the first window begins with it.
        unsigned room = max(size + after - result.cells.first, 0);
        unsigned by = dilation;
        result.counted = min(static_cast<unsigned>(count), by == 1 ? room : (room + by - 1) / by);
    }
    return result;
}

template <int WIDTH>
DEVICE void mean(const PoolArgs& a, const storage_t* x, storage_t* y, const Axis& down,
                 const Axis& across) {
    float total[WIDTH] = {};
    const int row_step = a.adaptive ? 1 : a.dilation_h;
    const int column_step = a.adaptive ? 1 : a.dilation_w;
    // Rows by steps in 64 bits, the cells of a row by a product of 32-bit numbers.
    const int pixel = LAYOUT_NHWC ? a.x_strides.pixel : 1;
    const long long line = static_cast<long long>(a.width) * pixel;
    const storage_t* row = x + (down.cells.first + down.cells.begin * row_step) * line +
                           static_cast<long long>(across.cells.first) * pixel;
    for (int r = down.cells.begin; r < down.cells.end; r++, row += row_step * line) {
        float sum[WIDTH] = {};
#pragma unroll 4
        for (int s = across.cells.begin; s < across.cells.end; s++) {
            Vec<WIDTH> cell = *reinterpret_cast<const Vec<WIDTH>*>(
                row + static_cast<long long>(s * column_step) * pixel);
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                sum[v] += to_float(cell.v[v]);
            }
        }
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            total[v] += sum[v];
        }
    }
    float divisor = static_cast<float>(down.counted) * static_cast<float>(across.counted);
    if (a.divisor_override != 0) {
        divisor = static_cast<float>(a.divisor_override);
    }
    Vec<WIDTH> result;
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        result.v[v] = from_float(total[v] / divisor);
    }
    *reinterpret_cast<Vec<WIDTH>*>(y) = result;
}

KERNEL(PoolArgs a) {
    WideUnit unit;
    if (!find_wide_unit(a.n, a.by_image, a.by_inner, a.by_middle, unit)) {
        return;
    }
    int p = LAYOUT_NHWC ? unit.outer : unit.middle;
    int q = LAYOUT_NHWC ? unit.middle : unit.inner;
    long long channel = unit.outer;
    if constexpr (LAYOUT_NHWC)
        channel = static_cast<int>(unit.inner) * (a.vector ? VECTOR_ELEMENTS : 1);
    const storage_t* x = static_cast<const storage_t*>(a.x) + unit.image * a.x_strides.image +
                         channel * channel_step(a.h, a.width);
    storage_t* y = static_cast<storage_t*>(a.y) + unit.image * a.y_strides.image +
                   channel * channel_step(a.p, a.q) +
                   (static_cast<long long>(p) * a.q + q) * a.y_strides.pixel;
    Axis down = axis(a, p, a.p, a.r, a.stride_h, a.dilation_h, a.pad_top, a.pad_bottom, a.h);
    Axis across = axis(a, q, a.q, a.s, a.stride_w, a.dilation_w, a.pad_left, a.pad_right, a.width);
    if (LAYOUT_NHWC && a.vector) {
        mean<VECTOR_ELEMENTS>(a, x, y, down, across);
        return;
    }
    mean<1>(a, x, y, down, across);
}
