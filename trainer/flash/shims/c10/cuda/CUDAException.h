// Stands in for PyTorch's header of this name: what goes wrong is noted for the C interface, and nothing is thrown.
#pragma once

#include <cuda_runtime_api.h>

// FlashAttention prints and ends by these, and leaves it to PyTorch to include them.
#include <cstdio>
#include <cstdlib>

extern "C" void sera_flash_note(cudaError_t status);

#define C10_CUDA_CHECK(call) sera_flash_note(call)
#define C10_CUDA_KERNEL_LAUNCH_CHECK() sera_flash_note(cudaGetLastError())
