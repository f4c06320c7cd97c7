// The one argument struct of each kernel family, passed by value. src/launch/args.rs mirrors it field by field; the
// sizes are asserted on both sides.
//
// Pointers already include the channel offset of a slice, so a kernel never sees it. Strides are in elements.
// "image" strides are 64-bit; everything inside one image fits 31 bits (the host refuses what does not).
#pragma once

// Division of a 31-bit unsigned n by a constant: n / divisor == __umulhi(2 * n, mul) >> shift (fast_div in common.cuh), where
// shift = ceil(log2(divisor)), 0 for 1, and mul = ceil(2^(31 + shift) / divisor), which fits 32 bits for 1 <= divisor < 2^31.
struct FastDiv {
    unsigned mul;
    unsigned shift;
    unsigned divisor;
};

// Where element (n, c, h, w) of an activation lies: n * image + c * channel + (h * width + w) * pixel.
//   NCHW: channel = height * width, pixel = 1.     NHWC: channel = 1, pixel = channel pitch.
struct Strides {
    long long image;
    int channel;
    int pixel;
};

// y[n][k][p][q] = act(sum_{c,r,s} x[n][c][p * stride_h - pad_top + r * dilation_h][q * stride_w - pad_left + s * dilation_w]
//                     * w[k][c][r][s] + bias[k] + residual[n][k][p][q])
struct ConvArgs {
    const void* x;
    const void* w;
    const void* bias;      // k elements, or null
    const void* residual;  // null or a tensor of y's shape; its strides are residual_strides
    void* y;
    Strides x_strides;
    Strides y_strides;
    Strides residual_strides;
    int n, c, h, width;    // input
    int k, r, s;           // filters
    int p, q;              // output rows, columns
    int groups, group_c, group_k;  // channels and filters a group: group_c = c / groups, group_k = k / groups
    int stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
    int w_k, w_c, w_tap;   // filter strides: KCRS {group_c*r*s, r*s, 1}, KRSC {r*s*group_c, 1, group_c}; tap = row r*S + s
    int relu;              // 1: act is max(., 0) with NaN kept; 0: identity
    int y_vector;          // 1: y and residual may be accessed 4 elements at a time: pointers aligned to 4 elements, image
                           // strides % 4 == 0 and NCHW: p * q % 4 == 0; NHWC: group_k % 4 == 0, pixel strides % 4 == 0
    int x_vector;          // 1: x may be read 4 pixels at a time (1x1 NCHW only): stride 1, h * width % 4 == 0, image stride
                           // % 4 == 0, pointer aligned to 4 elements
    unsigned gemm_n;       // n * p * q, under 2^31
    unsigned tiles_m;      // blocks along gemm_m (of one group); block = tile_n_index * (groups * tiles_m) + group * tiles_m + tile_m_index
    FastDiv by_pq;         // output pixel -> image
    FastDiv by_q;          // pixel of an image -> row
    FastDiv by_tiles_m;    // block -> tile of gemm_m
    FastDiv by_groups;     // then -> group
};
static_assert(sizeof(ConvArgs) == 40 + 3 * 16 + 4 * 26 + 4 * 12, "src/launch/args.rs mirrors this struct");

// Windowed and global pooling. `vector`, `team` and the divisors say how the outputs are shared out among threads; the
// kernel's header says what they are, src/launch/args.rs computes them (PoolArgs::schedule).
struct PoolArgs {
    const void* x;
    void* y;
    unsigned char* indices;  // null, or one byte an output: r * S + s of the maximum; layout of y, channel pitch = c
    Strides x_strides;
    Strides y_strides;
    Strides index_strides;
    int n, c, h, width;
    int p, q;
    int r, s;                // window
    int stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, dilation_h, dilation_w;
    int count_include_pad;   // average: 1: the divisor counts padding (but no cell beyond it), 0: real cells only
    int divisor_override;    // average: the divisor if not 0
    int adaptive;            // average: 1: window of row p is floor(p*h/P) .. ceil((p+1)*h/P)
    int maximum;             // global: 1: maximum, 0: mean
    int vector;              // 1: 16-byte accesses (x, y and indices are aligned for it, and the rows whole)
    int team;                // global: threads a plane (NCHW) or channel lanes a block (NHWC), a power of two
    FastDiv by_image;        // unit of work -> image
    FastDiv by_inner;        // unit of an image -> what lies outside the innermost dimension
    FastDiv by_middle;       // then -> outermost dimension
};
static_assert(sizeof(PoolArgs) == 24 + 3 * 16 + 4 * 22 + 3 * 12 + 4, "src/launch/args.rs mirrors this struct");

// Both tensors are `rows` runs of `length` elements each: an image (NCHW slice), a pixel (NHWC slice), or all of a
// tensor that has no gaps.
struct ReluArgs {
    const void* x;
    void* y;
    long long elements;      // rows * length
    long long length;        // under 2^31, or equal to elements
    long long x_pitch;       // from one run to the next, elements
    long long y_pitch;
    int vector;              // 1: 16-byte accesses: both pointers are aligned, length and pitches whole (or one run)
    FastDiv by_length;       // where length < TILE_N
};
static_assert(sizeof(ReluArgs) == 16 + 4 * 8 + 4 + 12, "src/launch/args.rs mirrors this struct");
