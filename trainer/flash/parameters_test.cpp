// The C interface without a GPU: in the place of FlashAttention's kernels stand loops over the host's memory that read a parameter block by the indices
// which its kernels compute (block_info.h, flash_fwd_kernel.h, flash_bwd_preprocess_kernel.h, flash_bwd_kernel.h), and what comes out is held against
// attention by its definition. Built with the address sanitizer, so that a value beyond its buffer ends it.

#include <cuda_runtime_api.h>
#include <cutlass/bfloat16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "parameters.h"

namespace {

using Params = FLASH_NAMESPACE::Flash_fwd_params;
using Back = FLASH_NAMESPACE::Flash_bwd_params;
using Bf16 = uint16_t;

int processors = 132;
int failures = 0;

void expect(bool holds, const char *what) {
  if (!holds) {
    std::printf("not so: %s\n", what);
    ++failures;
  }
}

float wide(Bf16 value) {
  const uint32_t bits = uint32_t{value} << 16;
  float result;
  std::memcpy(&result, &bits, 4);
  return result;
}

Bf16 narrow(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<Bf16>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

Bf16 *at(void *base, int64_t row, int64_t row_stride, int64_t head, int64_t head_stride) {
  return static_cast<Bf16 *>(base) + row * row_stride + head * head_stride;
}

float dot(const Bf16 *a, const Bf16 *b, int size) {
  float sum = 0;
  for (int i = 0; i < size; ++i) sum += wide(a[i]) * wide(b[i]);
  return sum;
}

// One pass over the queries of a grid (blocks of `height` rows, sequences, heads): `each` is given a sequence's begin, its number, head and row.
template <typename Each> void over_queries(const Params &of, int height, bool beyond, Each each) {
  for (int block = 0; block < (of.seqlen_q + height - 1) / height; ++block) {
    for (int sequence = 0; sequence < of.b; ++sequence) {
      const int begin = of.cu_seqlens_q[sequence], length = of.cu_seqlens_q[sequence + 1] - begin;
      if (block * height >= length) continue;
      const int end = beyond ? (block + 1) * height : std::min(length, (block + 1) * height);
      for (int head = 0; head < of.h; ++head) {
        for (int row = block * height; row < end; ++row) each(begin, length, sequence, head, row);
      }
    }
  }
}

template <int Size> void forward(const Params &of) {
  over_queries(of, 128, false, [&](int begin, int, int, int head, int row) {
    const Bf16 *q = at(of.q_ptr, begin + row, of.q_row_stride, head, of.q_head_stride);
    std::vector<float> scores;
    for (int key = 0; key <= row; ++key) {
      scores.push_back(dot(q, at(of.k_ptr, begin + key, of.k_row_stride, head / of.h_h_k_ratio, of.k_head_stride), Size));
    }
    const float highest = *std::max_element(scores.begin(), scores.end());
    float sum = 0;
    for (float &score : scores) sum += score = std::exp2((score - highest) * of.scale_softmax_log2);
    for (int i = 0; i < Size; ++i) {
      float value = 0;
      for (int key = 0; key <= row; ++key) {
        value += scores[key] * wide(at(of.v_ptr, begin + key, of.v_row_stride, head / of.h_h_k_ratio, of.v_head_stride)[i]);
      }
      at(of.o_ptr, begin + row, of.o_row_stride, head, of.o_head_stride)[i] = narrow(value / sum);
    }
    static_cast<float *>(of.softmax_lse_ptr)[int64_t{head} * of.total_q + begin + row] = highest * of.scale_softmax + std::log(sum);
  });
}

// Where a row has its sum and, times heads and size, its part of gq.
int64_t apart(int begin, int sequence, int row) { return begin + 128 * int64_t{sequence} + row; }

template <int Size> void backward(const Back &of) {
  float *sums = static_cast<float *>(of.dsoftmax_sum), *parts = static_cast<float *>(of.dq_accum_ptr);
  over_queries(of, 128, true, [&](int begin, int length, int sequence, int head, int row) {
    const bool is_there = row < length;
    const float sum = is_there ? dot(at(of.do_ptr, begin + row, of.do_row_stride, head, of.do_head_stride),
                                     at(of.o_ptr, begin + row, of.o_row_stride, head, of.o_head_stride), Size)
                               : 0;
    sums[head * (of.total_q + 128 * int64_t{of.b}) + apart(begin, sequence, row)] = sum * of.p_dropout;
  });
  const int copies = of.deterministic ? (processors + of.b * of.h - 1) / (of.b * of.h) : 1;
  const auto part = [&](int copy, int begin, int sequence, int head, int row) {
    return parts + copy * of.dq_accum_split_stride + (apart(begin, sequence, row) * of.h + head) * of.d_rounded;
  };
  for (int sequence = 0; sequence < of.b; ++sequence) {
    const int begin = of.cu_seqlens_k[sequence], length = of.cu_seqlens_k[sequence + 1] - begin;
    for (int head = 0; head < of.h; ++head) {
      for (int key = 0; key < length; ++key) {
        const int copy = key / 128 % copies, kv_head = head / of.h_h_k_ratio;
        const Bf16 *k = at(of.k_ptr, begin + key, of.k_row_stride, kv_head, of.k_head_stride);
        const Bf16 *v = at(of.v_ptr, begin + key, of.v_row_stride, kv_head, of.v_head_stride);
        float gk[Size] = {}, gv[Size] = {};
        for (int row = key; row < length; ++row) {
          const Bf16 *q = at(of.q_ptr, begin + row, of.q_row_stride, head, of.q_head_stride);
          const Bf16 *gy = at(of.do_ptr, begin + row, of.do_row_stride, head, of.do_head_stride);
          const float log = static_cast<float *>(of.softmax_lse_ptr)[int64_t{head} * of.total_q + begin + row];
          const float share = std::exp2(dot(q, k, Size) * of.scale_softmax_log2 - log * static_cast<float>(M_LOG2E));
          const float sum = sums[head * (of.total_q + 128 * int64_t{of.b}) + apart(begin, sequence, row)];
          const float score = share * (dot(gy, v, Size) - sum);
          for (int i = 0; i < Size; ++i) {
            gv[i] += share * wide(gy[i]);
            gk[i] += score * wide(q[i]);
            part(copy, begin, sequence, head, row)[i] += score * wide(k[i]);
          }
        }
        for (int i = 0; i < Size; ++i) {
          at(of.dk_ptr, begin + key, of.dk_row_stride, head, of.dk_head_stride)[i] = narrow(gk[i] * of.scale_softmax_rp_dropout);
          at(of.dv_ptr, begin + key, of.dv_row_stride, head, of.dv_head_stride)[i] = narrow(gv[i] * of.rp_dropout);
        }
      }
    }
  }
  over_queries(of, 128, true, [&](int begin, int length, int sequence, int head, int row) {
    for (int i = 0; i < of.d_rounded; ++i) {
      float sum = 0;
      for (int copy = 0; copy < copies; ++copy) sum += part(copy, begin, sequence, head, row)[i];
      if (row < length) at(of.dq_ptr, begin + row, of.dq_row_stride, head, of.dq_head_stride)[i] = narrow(sum * of.scale_softmax_rp_dropout);
    }
  });
}

}  // namespace

namespace FLASH_NAMESPACE {
template <> void run_mha_fwd_<cutlass::bfloat16_t, 64, true>(Flash_fwd_params &of, cudaStream_t) { forward<64>(of); }
template <> void run_mha_fwd_<cutlass::bfloat16_t, 96, true>(Flash_fwd_params &of, cudaStream_t) { forward<96>(of); }
template <> void run_mha_fwd_<cutlass::bfloat16_t, 128, true>(Flash_fwd_params &of, cudaStream_t) { forward<128>(of); }
template <> void run_mha_bwd_<cutlass::bfloat16_t, 64, true>(Flash_bwd_params &of, cudaStream_t) { backward<64>(of); }
template <> void run_mha_bwd_<cutlass::bfloat16_t, 96, true>(Flash_bwd_params &of, cudaStream_t) { backward<96>(of); }
template <> void run_mha_bwd_<cutlass::bfloat16_t, 128, true>(Flash_bwd_params &of, cudaStream_t) { backward<128>(of); }
}  // namespace FLASH_NAMESPACE

// A device without a driver: it has so many multiprocessors, and nothing else is asked of it.
cudaError_t cudaGetDevice(int *device) { return *device = 0, processors > 0 ? cudaSuccess : cudaErrorNoDevice; }
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr, int) { return *value = processors, cudaSuccess; }
const char *cudaGetErrorString(cudaError_t) { return "CUDA's words"; }

namespace {

using Values = std::vector<double>;

// Values that bf16 has.
std::vector<Bf16> drawn(size_t count, unsigned seed) {
  std::mt19937 source(seed);
  std::normal_distribution<float> normal;
  std::vector<Bf16> values(count);
  for (Bf16 &value : values) value = narrow(normal(source));
  return values;
}

// |found − expected| / |expected|, over all values.
double distance(const std::vector<Bf16> &found, const Values &expected) {
  double gap = 0, all = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    gap += std::pow(wide(found[i]) - expected[i], 2);
    all += std::pow(expected[i], 2);
  }
  return std::sqrt(gap / all);
}

struct Case {
  std::vector<int> lengths;
  int heads, kv_heads, size;
};

// Attention and its gradients from the definition, in f64.
struct Defined {
  Values y, logs, gq, gk, gv;

  Defined(const Case &of, int tokens, double scale, const std::vector<Bf16> &q, const std::vector<Bf16> &k, const std::vector<Bf16> &v,
          const std::vector<Bf16> &gy)
      : y(q.size()), logs(size_t(of.heads) * tokens), gq(q.size()), gk(k.size()), gv(v.size()) {
    int begin = 0;
    for (int length : of.lengths) {
      for (int head = 0; head < of.heads; ++head) {
        const int shared = head * of.kv_heads / of.heads;
        const auto query = [&](int row) { return (size_t(begin + row) * of.heads + head) * of.size; };
        const auto key = [&](int row) { return (size_t(begin + row) * of.kv_heads + shared) * of.size; };
        for (int row = 0; row < length; ++row) {
          Values shares(row + 1), g_shares(row + 1);
          double sum = 0, along = 0;
          for (int other = 0; other <= row; ++other) {
            for (int i = 0; i < of.size; ++i) shares[other] += scale * wide(q[query(row) + i]) * wide(k[key(other) + i]);
            sum += shares[other] = std::exp(shares[other]);
          }
          logs[size_t(head) * tokens + begin + row] = std::log(sum);
          for (int other = 0; other <= row; ++other) {
            shares[other] /= sum;
            for (int i = 0; i < of.size; ++i) {
              y[query(row) + i] += shares[other] * wide(v[key(other) + i]);
              gv[key(other) + i] += shares[other] * wide(gy[query(row) + i]);
              g_shares[other] += wide(gy[query(row) + i]) * wide(v[key(other) + i]);
            }
            along += shares[other] * g_shares[other];
          }
          for (int other = 0; other <= row; ++other) {
            const double score = scale * shares[other] * (g_shares[other] - along);
            for (int i = 0; i < of.size; ++i) {
              gq[query(row) + i] += score * wide(k[key(other) + i]);
              gk[key(other) + i] += score * wide(q[query(row) + i]);
            }
          }
        }
      }
      begin += length;
    }
  }
};

// The sum over the heads that share keys, which is the caller's.
std::vector<Bf16> gathered(const std::vector<Bf16> &expanded, const Case &of, int tokens) {
  std::vector<Bf16> sums;
  const int group = of.heads / of.kv_heads;
  for (int token = 0; token < tokens; ++token) {
    for (int head = 0; head < of.kv_heads; ++head) {
      for (int i = 0; i < of.size; ++i) {
        float sum = 0;
        for (int each = 0; each < group; ++each) sum += wide(expanded[(size_t(token) * of.heads + head * group + each) * of.size + i]);
        sums.push_back(narrow(sum));
      }
    }
  }
  return sums;
}

void attends(const Case &of, unsigned seed) {
  std::vector<int32_t> begins{0};
  for (int length : of.lengths) begins.push_back(begins.back() + length);
  const int tokens = begins.back();
  const size_t queries = size_t(tokens) * of.heads * of.size, keys = size_t(tokens) * of.kv_heads * of.size;
  const auto q = drawn(queries, seed), k = drawn(keys, seed + 1), v = drawn(keys, seed + 2), gy = drawn(queries, seed + 3);
  const float scale = 1.0f / std::sqrt(float(of.size));
  const sera_flash_batch batch{begins.data(), int(of.lengths.size()), *std::max_element(of.lengths.begin(), of.lengths.end()), tokens, of.heads,
                               of.kv_heads, of.size, scale};
  std::vector<Bf16> y(queries), gq(queries), gk(queries), gv(queries);
  std::vector<float> logs(size_t(of.heads) * tokens);
  expect(sera_flash_fwd(&batch, q.data(), k.data(), v.data(), y.data(), logs.data(), nullptr) == 0, "a forward is put on the stream");
  const Defined defined(of, tokens, scale, q, k, v, gy);
  expect(distance(y, defined.y) < 4e-3, "the result is that of the definition");
  double gap = 0;
  for (size_t i = 0; i < logs.size(); ++i) gap = std::max(gap, std::abs(logs[i] - defined.logs[i]));
  expect(gap < 1e-4, "logarithms lie by heads and then tokens");

  sera_flash_room room;
  expect(sera_flash_workspace(&batch, processors, &room) == 0, "the batch is served");
  std::vector<float> sums(room.sums), parts(room.parts);
  const auto back = [&](const sera_flash_room &given) {
    return sera_flash_bwd(&batch, q.data(), k.data(), v.data(), y.data(), logs.data(), gy.data(), gq.data(), gk.data(), gv.data(), sums.data(),
                          parts.data(), &given, nullptr);
  };
  const sera_flash_room less{room.sums, room.parts - 1};
  expect(back(less) == SERA_FLASH_TOO_SMALL, "too little room is refused");
  expect(back(room) == 0, "a backward is put on the stream");
  expect(distance(gq, defined.gq) < 8e-3, "the gradient of queries is that of the definition");
  expect(distance(gathered(gk, of, tokens), defined.gk) < 8e-3, "the gradient of keys, summed over a group, is that of the definition");
  expect(distance(gathered(gv, of, tokens), defined.gv) < 8e-3, "the gradient of values, summed over a group, is that of the definition");
}

void blocks_are_filled_as_written_down() {
  const int32_t begins[] = {0, 130, 131, 460};
  const sera_flash_batch batch{begins, 3, 329, 460, 16, 4, 96, 0.125f};
  Back of;
  sera::fill_backward(of, batch, {}, {});
  expect(of.q_row_stride == 1536 && of.k_row_stride == 384 && of.v_row_stride == 384 && of.o_row_stride == 1536, "rows of q, k, v and y");
  expect(of.dq_row_stride == 1536 && of.dk_row_stride == 1536 && of.dv_row_stride == 1536 && of.do_row_stride == 1536, "rows of gradients");
  expect(of.q_head_stride == 96 && of.k_head_stride == 96 && of.dk_head_stride == 96 && of.do_head_stride == 96, "heads");
  expect(of.seqlen_q == 329 && of.seqlen_q_rounded == 384 && of.seqlen_k_rounded == 384 && of.d == 96 && of.d_rounded == 96, "sizes");
  expect(of.b == 3 && of.h == 16 && of.h_k == 4 && of.h_h_k_ratio == 4 && of.total_q == 460, "counts");
  expect(of.is_causal && of.window_size_left == 329 && of.window_size_right == 0 && of.softcap == 0 && !of.alibi_slopes_ptr, "what is seen");
  expect(of.p_dropout == 1 && of.rp_dropout == 1 && of.p_dropout_in_uint8_t == 255 && of.scale_softmax_rp_dropout == 0.125f, "nothing is dropped");
  expect(of.scale_softmax == 0.125f && std::abs(of.scale_softmax_log2 - 0.18033688f) < 1e-7f, "scales");
  expect(of.unpadded_lse && of.is_seqlens_k_cumulative && of.is_bf16 && of.deterministic, "ways");
  expect(of.dq_accum_split_stride == (460 + 3 * 128) * 16 * 96, "copies");
  const sera_flash_room room = sera::room(batch, 132);
  expect(room.sums == 844 * 16 && room.parts == 3 * 844 * 16 * 96, "room: 132 multiprocessors over 48 are 3 copies");
}

void what_is_not_served_is_refused() {
  const int32_t begins[] = {0, 4};
  const sera_flash_batch good{begins, 1, 4, 4, 4, 2, 64, 1.0f};
  const auto refused = [&](void (*change)(sera_flash_batch &)) {
    sera_flash_batch batch = good;
    change(batch);
    sera_flash_room room;
    return sera_flash_workspace(&batch, 132, &room) == SERA_FLASH_NOT_SERVED && sera_flash_fwd(&batch, 0, 0, 0, 0, 0, 0) == SERA_FLASH_NOT_SERVED;
  };
  expect(refused([](sera_flash_batch &batch) { batch.size = 80; }), "heads of 80");
  expect(refused([](sera_flash_batch &batch) { batch.kv_heads = 3; }), "heads that do not divide");
  expect(refused([](sera_flash_batch &batch) { batch.sequences = 65536; }), "more sequences than a grid has");
  expect(refused([](sera_flash_batch &batch) { batch.tokens = 1 << 29; }), "more rows than 32 bits count");
  expect(refused([](sera_flash_batch &batch) { batch.longest = 5; }), "a sequence longer than all");
  expect(sera_flash_serves(64) && sera_flash_serves(96) && sera_flash_serves(128) && !sera_flash_serves(32) && !sera_flash_serves(256), "sizes");
  processors = 0;
  expect(sera_flash_fwd(&good, 0, 0, 0, 0, 0, 0) == cudaErrorNoDevice, "a device that does not answer");
  processors = 132;
}

}  // namespace

int main() {
  blocks_are_filled_as_written_down();
  what_is_not_served_is_refused();
  attends({{5, 1, 300, 128}, 4, 2, 64}, 1);
  attends({{129}, 2, 2, 96}, 2);
  attends({{1, 40, 1}, 6, 1, 128}, 3);
  processors = 3;
  attends({{200, 260}, 8, 2, 64}, 4);
  std::printf("%s\n", failures == 0 ? "parameters: as they should be" : "parameters: wrong");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
