// Root-mean-square normalisation of rows (trainer/src/ops/rms_norm.rs). A row has the threads along x of a block, a warp or all of them; blocks have
// as many rows as threads along y.
#include "common.cuh"

// What a row is multiplied with; `share` is one over its width.
template <typename T>
__device__ float scale_of(const T *x, Count width, float share, float eps) {
  float sum = 0;
  each(threadIdx.x, blockDim.x, width, packed(x), [&](auto of, Count at) {
    constexpr int N = of.value;
    float values[N];
    load(values, x + at);
    for (int i = 0; i < N; i++) sum += values[i] * values[i];
  });
  return 1.0f / sqrtf(sum_along(sum) * share + eps);
}

// y = x · scale, in the type of x, · weight.
template <typename T>
__device__ void forward(T *y, const T *x, const T *weight, Count rows, Count width, float share, float eps) {
  const Count row = blockIdx.x * (Count)blockDim.y + threadIdx.y;
  if (row >= rows) return;
  x += row * width;
  y += row * width;
  const float scale = scale_of(x, width, share, eps);
  each(threadIdx.x, blockDim.x, width, packed(x, y, weight), [&](auto of, Count at) {
    constexpr int N = of.value;
    float values[N], weights[N];
    load(values, x + at);
    load(weights, weight + at);
    for (int i = 0; i < N; i++) values[i] = widened(rounded<T>(values[i] * scale)) * weights[i];
    store(y + at, values);
  });
}

// gx = (gy · weight − normed · mean(gy · weight · normed)) · scale; leaves each row's scale for the weight's gradient.
template <typename T>
__device__ void backward(T *gx, float *scales, const T *x, const T *gy, const T *weight, Count rows, Count width, float share, float eps) {
  const Count row = blockIdx.x * (Count)blockDim.y + threadIdx.y;
  if (row >= rows) return;
  x += row * width;
  gy += row * width;
  gx += row * width;
  const float scale = scale_of(x, width, share, eps);
  const bool packs = packed(x, gy, gx, weight);
  float along = 0;
  each(threadIdx.x, blockDim.x, width, packs, [&](auto of, Count at) {
    constexpr int N = of.value;
    float values[N], gradients[N], weights[N];
    load(values, x + at);
    load(gradients, gy + at);
    load(weights, weight + at);
    for (int i = 0; i < N; i++) along += gradients[i] * weights[i] * (values[i] * scale);
  });
  along = sum_along(along) * share;
  each(threadIdx.x, blockDim.x, width, packs, [&](auto of, Count at) {
    constexpr int N = of.value;
    float values[N], gradients[N], weights[N];
    load(values, x + at);
    load(gradients, gy + at);
    load(weights, weight + at);
    for (int i = 0; i < N; i++) values[i] = (gradients[i] * weights[i] - values[i] * scale * along) * scale;
    store(gx + at, values);
  });
  if (threadIdx.x == 0) scales[row] = scale;
}

// Adds up what the threads along y have of a column; their sums go from the first to the last.
__device__ inline float sum_down(float value) {
  __shared__ float sums[8][WARP];
  sums[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  float sum = 0;
  for (unsigned y = 0; y < blockDim.y; y++) sum += sums[y][threadIdx.x];
  return sum;
}

// What `slice` rows add to the weight's gradient, gy · normed, a block for 32 columns of them.
template <typename T>
__device__ void by_weight(float *parts, const T *x, const T *gy, const float *scales, Count rows, Count width, Count slice) {
  const Count column = blockIdx.x * (Count)WARP + threadIdx.x;
  const Count begin = blockIdx.y * slice;
  const Count end = begin + slice < rows ? begin + slice : rows;
  float sum = 0;
  if (column < width) {
    for (Count row = begin + threadIdx.y; row < end; row += blockDim.y) {
      sum += widened(gy[row * width + column]) * (widened(x[row * width + column]) * scales[row]);
    }
  }
  sum = sum_down(sum);
  if (threadIdx.y == 0 && column < width) parts[blockIdx.y * width + column] = sum;
}

// The sum of all slices.
KERNEL(256, rms_norm_weight_total, float *total, const float *parts, Count slices, Count width) {
  const Count column = blockIdx.x * (Count)WARP + threadIdx.x;
  float sum = 0;
  if (column < width) {
    for (Count slice = threadIdx.y; slice < slices; slice += blockDim.y) sum += parts[slice * width + column];
  }
  sum = sum_down(sum);
  if (threadIdx.y == 0 && column < width) total[column] = sum;
}

#define KERNELS(T, name)                                                                                                           \
  KERNEL(256, rms_norm_forward_##name, T *y, const T *x, const T *weight, Count rows, Count width, float share, float eps) {        \
    forward(y, x, weight, rows, width, share, eps);                                                                                 \
  }                                                                                                                                 \
  KERNEL(256, rms_norm_backward_##name, T *gx, float *scales, const T *x, const T *gy, const T *weight, Count rows, Count width,    \
         float share, float eps) {                                                                                                  \
    backward(gx, scales, x, gy, weight, rows, width, share, eps);                                                                   \
  }                                                                                                                                 \
  KERNEL(256, rms_norm_weight_##name, float *parts, const T *x, const T *gy, const float *scales, Count rows, Count width,          \
         Count slice) {                                                                                                             \
    by_weight(parts, x, gy, scales, rows, width, slice);                                                                            \
  }

KERNELS(float, f32)
KERNELS(__nv_bfloat16, bf16)
