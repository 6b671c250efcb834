// The gated activation silu(gate) · up (trainer/src/ops/swiglu.rs).
#include "common.cuh"

// silu is rounded to the type of the gate before it is multiplied, as between two operations.
template <typename T>
__device__ void forward(T *y, const T *gate, const T *up, Count count) {
  each_of_grid(count, packed(y, gate, up), [&](auto of, Count at) {
    constexpr int N = of.value;
    float gates[N], ups[N];
    load(gates, gate + at);
    load(ups, up + at);
    for (int i = 0; i < N; i++) gates[i] = widened(rounded<T>(gates[i] / (1.0f + expf(-gates[i])))) * ups[i];
    store(y + at, gates);
  });
}

// silu' = σ + silu · (1 − σ)
template <typename T>
__device__ void backward(T *g_gate, T *g_up, const T *gate, const T *up, const T *gy, Count count) {
  each_of_grid(count, packed(g_gate, g_up, gate, up, gy), [&](auto of, Count at) {
    constexpr int N = of.value;
    float gates[N], ups[N], gradients[N];
    load(gates, gate + at);
    load(ups, up + at);
    load(gradients, gy + at);
    for (int i = 0; i < N; i++) {
      const float sigmoid = 1.0f / (expf(-gates[i]) + 1.0f);
      const float silu = gates[i] * sigmoid;
      gates[i] = gradients[i] * ups[i] * (sigmoid + silu * (1.0f - sigmoid));
      ups[i] = gradients[i] * silu;
    }
    store(g_gate + at, gates);
    store(g_up + at, ups);
  });
}

#define KERNELS(T, name)                                                                                                  \
  KERNEL(256, swiglu_forward_##name, T *y, const T *gate, const T *up, Count count) { forward(y, gate, up, count); }       \
  KERNEL(256, swiglu_backward_##name, T *g_gate, T *g_up, const T *gate, const T *up, const T *gy, Count count) {          \
    backward(g_gate, g_up, gate, up, gy, count);                                                                           \
  }

KERNELS(float, f32)
KERNELS(__nv_bfloat16, bf16)
