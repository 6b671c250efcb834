// The cross-entropy of a chunk of logits (rows, vocabulary), and its gradient in their place (trainer/src/ops/head_loss.rs). A block has a row.
#include "common.cuh"

// Below all logits that are numbers, and itself one: two of them have a difference.
constexpr float LOWEST = -3.4028234663852886e38f;

// The largest of some logits, and Σ e^(logit − largest).
struct Peak {
  float largest;
  float sum;
};

// Of two sets of logits; the same whichever comes first.
__device__ inline Peak merged(Peak a, Peak b) {
  const float largest = fmaxf(a.largest, b.largest);
  return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

// Of all threads of the block, the same in each of them.
__device__ inline Peak merged_in_block(Peak peak) {
  for (unsigned step = WARP / 2; step > 0; step /= 2) {
    const Peak other = {__shfl_xor_sync(EVERY_LANE, peak.largest, step), __shfl_xor_sync(EVERY_LANE, peak.sum, step)};
    peak = merged(peak, other);
  }
  __shared__ Peak warps[WARP];
  if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = peak;
  __syncthreads();
  peak = warps[0];
  for (unsigned warp = 1; warp < blockDim.x / WARP; warp++) peak = merged(peak, warps[warp]);
  return peak;
}

template <typename T>
__device__ Peak peak_of(const T *logits, Count vocabulary) {
  Peak peak = {LOWEST, 0.0f};
  each(threadIdx.x, blockDim.x, vocabulary, packed(logits), [&](auto of, Count at) {
    constexpr int N = of.value;
    float values[N];
    load(values, logits + at);
    float largest = peak.largest;
    for (int i = 0; i < N; i++) largest = fmaxf(largest, values[i]);
    if (largest > peak.largest) peak = {largest, peak.sum * expf(peak.largest - largest)};
    for (int i = 0; i < N; i++) peak.sum += expf(values[i] - peak.largest);
  });
  return merged_in_block(peak);
}

// The loss of the block's row, log Σ e^logit − logit[target] + z · (log Σ e^logit)², by its first thread; gives the row's peak. No row has a target
// outside of the vocabulary, but memory is not read there: its loss would be no number.
template <typename T>
__device__ Peak loss_of_row(float *losses, const T *logits, unsigned target, Count vocabulary, float z) {
  const float predicted = target < vocabulary ? widened(logits[target]) : nanf("");
  const Peak peak = peak_of(logits, vocabulary);
  const float log = logf(peak.sum) + peak.largest;
  if (threadIdx.x == 0) losses[blockIdx.x] = logf(peak.sum) - (predicted - peak.largest) + (z > 0 ? log * log * z : 0.0f);
  return peak;
}

template <typename T>
__device__ void forward(float *losses, const T *logits, const unsigned *targets, Count vocabulary, float z) {
  loss_of_row(losses, logits + blockIdx.x * vocabulary, targets[blockIdx.x], vocabulary, z);
}

// Makes scale · (softmax · (1 + 2 z log Σ e^logit) − one at the target) of the logits, beside the loss.
template <typename T>
__device__ void backward(T *logits, float *losses, const unsigned *targets, Count vocabulary, float z, float scale) {
  logits += blockIdx.x * vocabulary;
  const unsigned target = targets[blockIdx.x];
  const Peak peak = loss_of_row(losses, logits, target, vocabulary, z);
  const float z_share = z > 0 ? (logf(peak.sum) + peak.largest) * (2.0f * z) + 1.0f : 1.0f;
  const float share = 1.0f / peak.sum * z_share * scale;
  each(threadIdx.x, blockDim.x, vocabulary, packed(logits), [&](auto of, Count at) {
    constexpr int N = of.value;
    float values[N];
    load(values, logits + at);
    for (int i = 0; i < N; i++) values[i] = expf(values[i] - peak.largest) * share - (at + i == target ? scale : 0.0f);
    store(logits + at, values);
  });
}

#define KERNELS(T, name)                                                                                                            \
  KERNEL(1024, cross_entropy_forward_##name, float *losses, const T *logits, const unsigned *targets, Count vocabulary, float z) {   \
    forward(losses, logits, targets, vocabulary, z);                                                                                 \
  }                                                                                                                                  \
  KERNEL(1024, cross_entropy_backward_##name, T *logits, float *losses, const unsigned *targets, Count vocabulary, float z,          \
         float scale) {                                                                                                              \
    backward(logits, losses, targets, vocabulary, z, scale);                                                                         \
  }

KERNELS(float, f32)
KERNELS(__nv_bfloat16, bf16)
