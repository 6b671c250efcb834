// Stands in for PyTorch's header of this name: the seed and the offset of a generator that nothing is drawn from.
#pragma once

#include <ATen/cuda/CUDAGeneratorImpl.h>

#include <cstdint>
#include <tuple>

namespace at::cuda::philox {
__host__ __device__ inline std::tuple<uint64_t, uint64_t> unpack(PhiloxCudaState) { return {0, 0}; }
}  // namespace at::cuda::philox
