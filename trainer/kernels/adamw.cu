// A step of AdamW over f32 weights and moments (trainer/src/optim/tensors.rs), each read and written once.
#include "common.cuh"

// `factor` is what clipping leaves of the gradient, `stride` the learning rate over the mean's bias correction, `unroot` one over the root of the mean
// square's, `kept` what decay leaves of a weight.
KERNEL(256, adamw, float *weights, float *mean, float *square, const float *gradient, Count count, float factor, float fresh_mean, float old_square,
       float fresh_square, float unroot, float eps, float stride, float kept) {
  each_of_grid(count, packed(weights, mean, square, gradient), [&](auto of, Count at) {
    constexpr int N = of.value;
    float w[N], m[N], s[N], g[N];
    load(w, weights + at);
    load(m, mean + at);
    load(s, square + at);
    load(g, gradient + at);
    for (int i = 0; i < N; i++) {
      const float along = g[i] * factor;
      m[i] += (along - m[i]) * fresh_mean;
      s[i] = s[i] * old_square + along * fresh_square * along;
      w[i] = w[i] * kept - m[i] * stride / (sqrtf(s[i]) * unroot + eps);
    }
    store(weights + at, w);
    store(mean + at, m);
    store(square + at, s);
  });
}
