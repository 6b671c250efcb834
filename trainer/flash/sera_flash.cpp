// The C interface over FlashAttention's launchers, which its own files have: one for each size of heads and direction.

#include <cuda_runtime_api.h>
#include <cutlass/bfloat16.h>

#include "parameters.h"

namespace FLASH_NAMESPACE {
template <> void run_mha_fwd_<cutlass::bfloat16_t, 64, true>(Flash_fwd_params &, cudaStream_t);
template <> void run_mha_fwd_<cutlass::bfloat16_t, 96, true>(Flash_fwd_params &, cudaStream_t);
template <> void run_mha_fwd_<cutlass::bfloat16_t, 128, true>(Flash_fwd_params &, cudaStream_t);
template <> void run_mha_bwd_<cutlass::bfloat16_t, 64, true>(Flash_bwd_params &, cudaStream_t);
template <> void run_mha_bwd_<cutlass::bfloat16_t, 96, true>(Flash_bwd_params &, cudaStream_t);
template <> void run_mha_bwd_<cutlass::bfloat16_t, 128, true>(Flash_bwd_params &, cudaStream_t);
}  // namespace FLASH_NAMESPACE

namespace {

// The first thing that went wrong since a call began. A launch after it does no harm: CUDA refuses it too.
thread_local cudaError_t first = cudaSuccess;

cudaStream_t stream_of(void *stream) { return static_cast<cudaStream_t>(stream); }

// Asks the device what the launchers ask it: where it does not answer they would end the process.
int32_t multiprocessors() {
  int device = 0, answer = 0;
  const cudaDeviceAttr asked[] = {cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                  cudaDevAttrMultiProcessorCount};
  first = cudaGetDevice(&device);
  for (const cudaDeviceAttr attribute : asked) {
    if (first == cudaSuccess) first = cudaDeviceGetAttribute(&answer, attribute, device);
  }
  return answer;
}

}  // namespace

// What the launchers report to, by way of shims/c10/cuda/CUDAException.h.
extern "C" void sera_flash_note(cudaError_t status) {
  if (first == cudaSuccess) first = status;
}

extern "C" int sera_flash_serves(int32_t size) {
  return sera::is_served({nullptr, 1, 1, 1, 1, 1, size, 1.0f});
}

extern "C" int sera_flash_workspace(const sera_flash_batch *batch, int32_t multiprocessors, sera_flash_room *room) {
  if (!sera::is_served(*batch) || multiprocessors < 1) return SERA_FLASH_NOT_SERVED;
  *room = sera::room(*batch, multiprocessors);
  return 0;
}

extern "C" int sera_flash_fwd(const sera_flash_batch *batch, const void *q, const void *k, const void *v, void *y, float *logs, void *stream) {
  if (!sera::is_served(*batch)) return SERA_FLASH_NOT_SERVED;
  multiprocessors();
  if (first != cudaSuccess) return first;
  FLASH_NAMESPACE::Flash_fwd_params params;
  sera::fill_forward(params, *batch, {q, k, v}, y, logs);
  switch (batch->size) {
    case 64: FLASH_NAMESPACE::run_mha_fwd_<cutlass::bfloat16_t, 64, true>(params, stream_of(stream)); break;
    case 96: FLASH_NAMESPACE::run_mha_fwd_<cutlass::bfloat16_t, 96, true>(params, stream_of(stream)); break;
    default: FLASH_NAMESPACE::run_mha_fwd_<cutlass::bfloat16_t, 128, true>(params, stream_of(stream));
  }
  return first;
}

extern "C" int sera_flash_bwd(const sera_flash_batch *batch, const void *q, const void *k, const void *v, const void *y, const float *logs, const void *gy,
                              void *gq, void *gk, void *gv, float *sums, float *parts, const sera_flash_room *room, void *stream) {
  if (!sera::is_served(*batch)) return SERA_FLASH_NOT_SERVED;
  const sera_flash_room needed = sera::room(*batch, multiprocessors());
  if (first != cudaSuccess) return first;
  if (room->sums < needed.sums || room->parts < needed.parts) return SERA_FLASH_TOO_SMALL;
  FLASH_NAMESPACE::Flash_bwd_params params;
  sera::fill_backward(params, *batch, {q, k, v}, {y, logs, gy, gq, gk, gv, sums, parts});
  switch (batch->size) {
    case 64: FLASH_NAMESPACE::run_mha_bwd_<cutlass::bfloat16_t, 64, true>(params, stream_of(stream)); break;
    case 96: FLASH_NAMESPACE::run_mha_bwd_<cutlass::bfloat16_t, 96, true>(params, stream_of(stream)); break;
    default: FLASH_NAMESPACE::run_mha_bwd_<cutlass::bfloat16_t, 128, true>(params, stream_of(stream));
  }
  return first;
}

extern "C" const char *sera_flash_words(int number) {
  switch (number) {
    case SERA_FLASH_NOT_SERVED: return "a batch that is not served";
    case SERA_FLASH_TOO_SMALL: return "too little room for the backward";
    default: return cudaGetErrorString(static_cast<cudaError_t>(number));
  }
}
