// Max pooling:
//
//   y[c][p][q] = max_{r,s} x[c][p * stride_h - pad_top + r * dilation_h][q * stride_w - pad_left +
//     s * dilation_w]
//
// Padding counts as minus infinity, NaN wins, the first maximum of a tie wins; of several NaN the
// last one gives the index (PyTorch's rule). An index is the cell's position in the window, r * S +
// s in one byte. It is that of the first real cell if all are minus infinity, and NO_INDEX if the
// window has no real cell.
//
// Memory bound.
// NCHW: neighbouring threads make neighbouring outputs of a row; each makes TILE_M output rows and,
// in the common 3x3 and 2x2 windows, reads each input row once for all of them.
// NHWC: each thread makes one pixel's VECTOR_ELEMENTS channels with 16-byte accesses (one channel
// if they are not aligned), and all loads of a 3x3 window are in flight together.
//
// Units (common/wide_units.cuh): NCHW: channel (outer), strip of TILE_M rows (middle), column
// (inner). NHWC: TILE_M = 1: row, column, channel vector.
//
// Constraints: windows of at most 255 cells where indices are written. Grid: ceil(n * units of an
// image / THREADS) blocks of THREADS. No shared memory, no barrier.
#include "common/wide_units.cuh"
#include "pool/args.cuh"

static_assert(!LAYOUT_NHWC || TILE_M == 1, "NHWC: a thread makes the channels of one pixel");

// The index of a window without a real cell.
constexpr int NO_INDEX = 255;

DEVICE void update_max(float& best, int& where, float value, int cell) {
    if (value > best || value != value) {
        best = value;
        where = cell;
    }
}

namespace nchw {

// This thread's column of outputs.
struct Column {
    const storage_t* x;  // the plane, from the window's first column on
    storage_t* y;        // output (first row, column)
    unsigned char* indices;
    int p, rows;  // first output row, and how many
    Span across;  // columns of the window
};

template <bool INDEX>
DEVICE void store(const PoolArgs& a, const Column& at, int row, float best, int where) {
    at.y[static_cast<long long>(row) * a.q] = from_float(best);
    if (INDEX) {
        at.indices[static_cast<long long>(row) * a.q] = static_cast<unsigned char>(where);
    }
}

// The first real cell of the window that begins at row `top`, or NO_INDEX.
DEVICE int first_cell(const PoolArgs& a, int top, int dilation, const Span& across) {
    Span down = span(top, a.r, dilation, a.h);
    bool none = down.begin >= down.end || across.begin >= across.end;
    return none ? NO_INDEX : down.begin * a.s + across.begin;
}

// Windows of SIZE x SIZE whose rows follow one another: each input row's maximum serves all windows
// that hold it. A step takes STRIDE input rows, the next ones on their way meanwhile. Output m's
// window begins with step m, so SLOTS outputs are in the making at a time: the one that began j
// steps ago has slot j, and the oldest is finished.
template <int SIZE, int STRIDE, bool INDEX>
DEVICE void common_window(const PoolArgs& a, const Column& at) {
    constexpr int SLOTS = (SIZE + STRIDE - 1) / STRIDE;
    int top = at.p * STRIDE - a.pad_top;
    // Rows that only serve outputs beyond the last are not read.
    int end = min(a.h, top + (at.rows - 1) * STRIDE + SIZE);
    float next[STRIDE][SIZE];
    auto fetch = [&](int step) {
#pragma unroll
        for (int t = 0; t < STRIDE; t++) {
            int row = top + step * STRIDE + t;
            const storage_t* line = at.x + static_cast<long long>(row) * a.width;
#pragma unroll
            for (int s = 0; s < SIZE; s++) {
                bool in_bounds = row >= 0 && row < end && s >= at.across.begin && s < at.across.end;
                next[t][s] = in_bounds ? to_float(line[s * a.dilation_w]) : minus_infinity();
            }
        }
    };
    fetch(0);
    float best[SLOTS];
    int where[SLOTS];
#pragma unroll
    for (int slot = 0; slot < SLOTS; slot++) {
        best[slot] = minus_infinity();
        where[slot] = INDEX ? first_cell(a, top, 1, at.across) : 0;
    }
#pragma unroll 1
    for (int step = 0; step < at.rows + SLOTS - 1; step++) {
        float widest[STRIDE];
        int column[STRIDE];
#pragma unroll
        for (int t = 0; t < STRIDE; t++) {
            widest[t] = minus_infinity();
            column[t] = 0;
#pragma unroll
            for (int s = 0; s < SIZE; s++) {
                update_max(widest[t], column[t], next[t][s], s);
            }
        }
        fetch(step + 1);
#pragma unroll
        for (int r = 0; r < SIZE; r++) {
            update_max(best[r / STRIDE], where[r / STRIDE], widest[r % STRIDE],
                       r * SIZE + column[r % STRIDE]);
        }
        if (step >= SLOTS - 1) {
            store<INDEX>(a, at, step - (SLOTS - 1), best[SLOTS - 1], where[SLOTS - 1]);
        }
#pragma unroll
        for (int slot = SLOTS - 1; slot > 0; slot--) {
            best[slot] = best[slot - 1];
            where[slot] = where[slot - 1];
        }
        best[0] = minus_infinity();
        where[0] = INDEX ? first_cell(a, top + (step + 1) * STRIDE, 1, at.across) : 0;
    }
}

// Any window. Each output goes through the rows of its own window that are inside the image:
// between those of the first output and those of the last there may be more, by a large stride or
// window, than the image has.
template <bool INDEX>
DEVICE void any_window(const PoolArgs& a, const Column& at) {
    float best[TILE_M];
    int where[TILE_M];
    Span down[TILE_M];
    int longest = 0;
#pragma unroll
    for (int m = 0; m < TILE_M; m++) {
        best[m] = minus_infinity();
        // The last output's for those beyond it, whose windows may lie anywhere.
        down[m] = span((at.p + min(m, at.rows - 1)) * a.stride_h - a.pad_top, a.r, a.dilation_h,
                       a.h);
        bool none = down[m].begin >= down[m].end || at.across.begin >= at.across.end;
        where[m] = none ? NO_INDEX : down[m].begin * a.s + at.across.begin;
        longest = max(longest, down[m].end - down[m].begin);
    }
#pragma unroll 1
    for (int i = 0; i < longest; i++) {
#pragma unroll 1
        for (int s = at.across.begin; s < at.across.end; s++) {
            const storage_t* column = at.x + s * a.dilation_w;
            float values[TILE_M];
#pragma unroll
            for (int m = 0; m < TILE_M; m++) {
                int r = down[m].begin + i;
                values[m] =
                    r < down[m].end
                        ? to_float(column[static_cast<long long>(down[m].first + r * a.dilation_h) *
                                          a.width])
                        : minus_infinity();
            }
#pragma unroll
            for (int m = 0; m < TILE_M; m++) {
                update_max(best[m], where[m], values[m], (down[m].begin + i) * a.s + s);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < TILE_M; m++) {
        if (m < at.rows) {
            store<INDEX>(a, at, m, best[m], where[m]);
        }
    }
}

template <bool INDEX>
DEVICE void pool(const PoolArgs& a, const WideUnit& unit) {
    int p = static_cast<int>(unit.middle) * TILE_M;
    int q = unit.inner;
    long long output = static_cast<long long>(p) * a.q + q;
    long long x_step = channel_step(a.h, a.width), y_step = channel_step(a.p, a.q);
    long long channel = unit.outer;
    Column at;
    at.x = static_cast<const storage_t*>(a.x) + unit.image * a.x_strides.image + channel * x_step;
    at.y = static_cast<storage_t*>(a.y) + unit.image * a.y_strides.image + channel * y_step +
           output;
    at.indices = a.indices + unit.image * a.index_strides.image + channel * y_step + output;
    at.p = p;
    at.rows = min(TILE_M, a.p - p);
    at.across = span(q * a.stride_w - a.pad_left, a.s, a.dilation_w, a.width);
    at.x += at.across.first;
    if (a.r == 3 && a.s == 3 && a.dilation_h == 1 && a.stride_h == 1) {
        common_window<3, 1, INDEX>(a, at);
    } else if (a.r == 3 && a.s == 3 && a.dilation_h == 1 && a.stride_h == 2) {
        common_window<3, 2, INDEX>(a, at);
    } else if (a.r == 2 && a.s == 2 && a.dilation_h == 1 && a.stride_h == 2) {
        common_window<2, 2, INDEX>(a, at);
    } else {
        any_window<INDEX>(a, at);
    }
}

}  // namespace nchw

namespace nhwc {

// SIZE x SIZE cells, all of whose loads are in flight together, or (SIZE = 0) any number.
template <int WIDTH, int SIZE, bool INDEX>
DEVICE void cells(const PoolArgs& a, const storage_t* x, const Span& down, const Span& across,
                  float (&best)[WIDTH], int (&where)[WIDTH]) {
    const int rows = SIZE ? SIZE : down.end;
    const int columns = SIZE ? SIZE : across.end;
    Vec<WIDTH> loaded[SIZE ? SIZE * SIZE : 1];
    // Steps in 64 bits, since a row and a window may span more than 2^31 elements. The first cell
    // may lie in the padding; only cells inside are read.
    const long long line = static_cast<long long>(a.width) * a.x_strides.pixel;
    const long long row_step = a.dilation_h * line;
    const long long column_step = static_cast<long long>(a.dilation_w) * a.x_strides.pixel;
    const storage_t* first = x + down.first * line +
                             static_cast<long long>(across.first) * a.x_strides.pixel;
    if (SIZE) {
#pragma unroll
        for (int cell = 0; cell < SIZE * SIZE; cell++) {
            int r = cell / (SIZE ? SIZE : 1);
            int s = cell % (SIZE ? SIZE : 1);
            bool in_bounds = r >= down.begin && r < down.end && s >= across.begin && s < across.end;
            if (in_bounds) {
                loaded[cell] = *reinterpret_cast<const Vec<WIDTH>*>(first + r * row_step +
                                                                    s * column_step);
            } else {
#pragma unroll
                for (int v = 0; v < WIDTH; v++) {
                    loaded[cell].v[v] = from_float(minus_infinity());
                }
            }
        }
    }
#pragma unroll(SIZE ? SIZE : 1)
    for (int r = SIZE ? 0 : down.begin; r < rows; r++) {
        const storage_t* row = first + r * row_step;
#pragma unroll(SIZE ? SIZE : 2)
        for (int s = SIZE ? 0 : across.begin; s < columns; s++) {
            if (!SIZE) {
                loaded[0] = *reinterpret_cast<const Vec<WIDTH>*>(row + s * column_step);
            }
#pragma unroll
            for (int v = 0; v < WIDTH; v++) {
                update_max(best[v], where[v], to_float(loaded[SIZE ? r * SIZE + s : 0].v[v]),
                           r * a.s + s);
            }
        }
    }
}

template <int WIDTH, bool INDEX>
DEVICE void pixel(const PoolArgs& a, const WideUnit& unit) {
    int channel = static_cast<int>(unit.inner) * WIDTH;
    int p = unit.outer;
    int q = unit.middle;
    long long output = static_cast<long long>(p) * a.q + q;
    Span down = span(p * a.stride_h - a.pad_top, a.r, a.dilation_h, a.h);
    Span across = span(q * a.stride_w - a.pad_left, a.s, a.dilation_w, a.width);
    bool none = down.begin >= down.end || across.begin >= across.end;
    float best[WIDTH];
    int where[WIDTH];
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        best[v] = minus_infinity();
        where[v] = none ? NO_INDEX : down.begin * a.s + across.begin;
    }
    const storage_t* x = static_cast<const storage_t*>(a.x) + unit.image * a.x_strides.image +
                         channel;
    if (WIDTH > 1 && a.r == 3 && a.s == 3) {
        cells<WIDTH, 3, INDEX>(a, x, down, across, best, where);
    } else {
        cells<WIDTH, 0, INDEX>(a, x, down, across, best, where);
    }
    Vec<WIDTH> result;
#pragma unroll
    for (int v = 0; v < WIDTH; v++) {
        result.v[v] = from_float(best[v]);
    }
    storage_t* y = static_cast<storage_t*>(a.y) + unit.image * a.y_strides.image +
                   output * a.y_strides.pixel;
    *reinterpret_cast<Vec<WIDTH>*>(y + channel) = result;
    if (INDEX) {
        struct alignas(WIDTH) Bytes {
            unsigned char v[WIDTH];
        } bytes;
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            bytes.v[v] = static_cast<unsigned char>(where[v]);
        }
        unsigned char* indices = a.indices + unit.image * a.index_strides.image +
                                 output * a.index_strides.pixel;
        *reinterpret_cast<Bytes*>(indices + channel) = bytes;
    }
}

template <bool INDEX>
DEVICE void pool(const PoolArgs& a, const WideUnit& unit) {
    if (a.vector) {
        pixel<VECTOR_ELEMENTS, INDEX>(a, unit);
    } else {
        pixel<1, INDEX>(a, unit);
    }
}

}  // namespace nhwc

template <bool INDEX>
DEVICE void pool(const PoolArgs& a, const WideUnit& unit) {
    if constexpr (LAYOUT_NHWC) {
        nhwc::pool<INDEX>(a, unit);
    } else {
        nchw::pool<INDEX>(a, unit);
    }
}

KERNEL(PoolArgs a) {
    WideUnit unit;
    if (!find_wide_unit(a.n, a.by_image, a.by_inner, a.by_middle, unit)) {
        return;
    }
    if (a.indices != nullptr) {
        pool<true>(a, unit);
    } else {
        pool<false>(a, unit);
    }
}
