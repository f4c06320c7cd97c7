// Source of main_loop.ptx: the main loop of an f32 matrix product. A block of 256 threads computes
// 128 x 128 x 8, a thread 8 x 8 sums; it reads operands from shared memory 128 bits at a time.
//   nvcc -arch=compute_75 -ptx main_loop.cu, .version lowered to 6.3
extern "C" __global__ void __launch_bounds__(256)
main_loop(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
          int steps) {
    __shared__ __align__(16) float tile_a[2][8][128];
    __shared__ __align__(16) float tile_b[2][8][128];
    const int thread = threadIdx.x, row = thread / 16, column = thread % 16;
    float sum[8][8] = {};
    const int load_k = thread / 32, load_i = thread % 32 * 4;
    auto load = [&](int step, int buffer) {
        *(float4*)&tile_a[buffer][load_k][load_i] =
            *(const float4*)&a[(step * 8 + load_k) * 128 + load_i];
        *(float4*)&tile_b[buffer][load_k][load_i] =
            *(const float4*)&b[(step * 8 + load_k) * 128 + load_i];
    };
    load(0, 0);
    __syncthreads();
    for (int step = 0; step < steps; ++step) {
        const int buffer = step & 1;
        if (step + 1 < steps) load(step + 1, buffer ^ 1);
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            float x[8], y[8];
            *(float4*)&x[0] = *(const float4*)&tile_a[buffer][k][row * 4];
            *(float4*)&x[4] = *(const float4*)&tile_a[buffer][k][64 + row * 4];
            *(float4*)&y[0] = *(const float4*)&tile_b[buffer][k][column * 4];
            *(float4*)&y[4] = *(const float4*)&tile_b[buffer][k][64 + column * 4];
#pragma unroll
            for (int i = 0; i < 8; ++i)
#pragma unroll
                for (int j = 0; j < 8; ++j) sum[i][j] += x[i] * y[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; j += 4)
            *(float4*)&c[((size_t)blockIdx.x * 128 + i / 4 * 64 + row * 4 + i % 4) * 128 +
                         j / 4 * 64 + column * 4] =
                make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
}
