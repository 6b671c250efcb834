// What the kernels share: how values are read, rounded and written, which of them a thread takes, and sums over the threads of a row. No kernel is
// here. Everything is computed in f32, as the operations that are composed of the tensor library's do (trainer/src/ops), and no float is added
// atomically: a result depends on the shapes alone.
#pragma once

#include <cuda_bf16.h>

#ifndef KERNEL
// A kernel under its plain name, for blocks of at most so many threads.
#define KERNEL(threads, name, ...) extern "C" __global__ void __launch_bounds__(threads) name(__VA_ARGS__)
#endif

// How many values or rows there are, as every caller says it.
typedef unsigned long long Count;

constexpr unsigned WARP = 32;
constexpr unsigned EVERY_LANE = 0xffffffffu;
// How many values a thread reads at once where they lie so that it can.
constexpr int PACK = 4;

// A number of values that the compiler knows.
template <int N>
struct Of {
  static constexpr int value = N;
};

__device__ inline float widened(float value) { return value; }

__device__ inline float widened(__nv_bfloat16 value) { return __bfloat162float(value); }

// `value` in the type T, to the nearest, and of two the even one.
template <typename T>
__device__ inline T rounded(float value);

template <>
__device__ inline float rounded<float>(float value) {
  return value;
}

template <>
__device__ inline __nv_bfloat16 rounded<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
  T values[N];
};

template <int N, typename T>
__device__ inline void load(float (&to)[N], const T *from) {
  const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N> *>(from);
  for (int at = 0; at < N; at++) to[at] = widened(pack.values[at]);
}

template <typename T, int N>
__device__ inline void store(T *to, const float (&from)[N]) {
  Pack<T, N> pack;
  for (int at = 0; at < N; at++) pack.values[at] = rounded<T>(from[at]);
  *reinterpret_cast<Pack<T, N> *>(to) = pack;
}

// Whether all of these can be read PACK values at once. A tensor may begin anywhere in another.
__device__ inline bool packed() { return true; }

template <typename T, typename... Others>
__device__ inline bool packed(const T *first, Others... others) {
  return reinterpret_cast<size_t>(first) % (PACK * sizeof(T)) == 0 && packed(others...);
}

// Has `thread` of `threads` do its share of the work on `count` values: `work(Of<N>, at)` is for the N values from `at` on.
template <typename Work>
__device__ inline void each(Count thread, Count threads, Count count, bool packs, const Work &work) {
  const Count whole = packs ? count / PACK : 0;
  for (Count at = thread; at < whole; at += threads) work(Of<PACK>(), at * PACK);
  for (Count at = whole * PACK + thread; at < count; at += threads) work(Of<1>(), at);
}

// The same among all threads of the grid.
template <typename Work>
__device__ inline void each_of_grid(Count count, bool packs, const Work &work) {
  each(blockIdx.x * (Count)blockDim.x + threadIdx.x, gridDim.x * (Count)blockDim.x, count, packs, work);
}

// The sum over the threads along x, the same in each of them. Where they are more than a warp, a block has no others, and all of them call this.
__device__ inline float sum_along(float value) {
  for (unsigned step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(EVERY_LANE, value, step);
  if (blockDim.x == WARP) return value;
  __shared__ float warps[WARP];
  // What the call before left there has been read.
  __syncthreads();
  if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = value;
  __syncthreads();
  float sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / WARP; warp++) sum += warps[warp];
  return sum;
}
