// Values in the other type: bf16 to the nearest, and of two the even one.
#include "common.cuh"

template <typename To, typename From>
__device__ void cast(To *to, const From *from, Count count) {
  each_of_grid(count, packed(to, from), [&](auto of, Count at) {
    float values[of.value];
    load(values, from + at);
    store(to + at, values);
  });
}

KERNEL(256, cast_f32_bf16, __nv_bfloat16 *to, const float *from, Count count) { cast(to, from, count); }
KERNEL(256, cast_bf16_f32, float *to, const __nv_bfloat16 *from, Count count) { cast(to, from, count); }
