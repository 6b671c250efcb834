// Stands in for PyTorch's header of this name, of which FlashAttention takes the state of a random generator: nothing is drawn here.
#pragma once

namespace at {
struct PhiloxCudaState {};
}  // namespace at
