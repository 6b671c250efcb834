// Rotary position embedding in Hugging Face's layout (trainer/src/ops/rope.rs): x (tokens, heads, 2 · half), cosines and sines (tokens, half).
#include "common.cuh"

// Rotates value i of each head with value i + half; `turn` is one, or minus one to turn back.
template <typename T>
__device__ void rotate(T *y, const T *x, const float *cosines, const float *sines, Count tokens, Count heads, Count half, float turn) {
  const bool packs = half % PACK == 0 && packed(x, y, cosines, sines);
  each_of_grid(tokens * heads * half, packs, [&](auto of, Count pair) {
    constexpr int N = of.value;
    const Count row = pair / half, within = pair % half, angle = row / heads * half + within;
    const Count first = row * 2 * half + within, second = first + half;
    float a[N], b[N], cosine[N], sine[N], turned_a[N], turned_b[N];
    load(a, x + first);
    load(b, x + second);
    load(cosine, cosines + angle);
    load(sine, sines + angle);
    for (int i = 0; i < N; i++) {
      const float turned = turn * sine[i];
      turned_a[i] = a[i] * cosine[i] - b[i] * turned;
      turned_b[i] = b[i] * cosine[i] + a[i] * turned;
    }
    store(y + first, turned_a);
    store(y + second, turned_b);
  });
}

#define KERNELS(T, name)                                                                                                            \
  KERNEL(256, rope_##name, T *y, const T *x, const float *cosines, const float *sines, Count tokens, Count heads, Count half,        \
         float turn) {                                                                                                               \
    rotate(y, x, cosines, sines, tokens, heads, half, turn);                                                                         \
  }

KERNELS(float, f32)
KERNELS(__nv_bfloat16, bf16)
