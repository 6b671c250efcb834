// The parameter blocks of FlashAttention's kernels for a packed batch of ours, as its own csrc/flash_attn/flash_api.cpp (mha_varlen_fwd, mha_varlen_bwd)
// fills them for bf16, causal, without dropout, windows, ALiBi, soft caps or pages. No call of CUDA: parameters_test.cpp looks at it without a GPU.
#ifndef SERA_FLASH_PARAMETERS_H
#define SERA_FLASH_PARAMETERS_H

#include <cmath>
#include <cstdint>
#include <limits>

#include "flash.h"
#include "sera_flash.h"

namespace sera {

// The most rows that a block of queries has in any of the kernels: sequences lie that far apart in what they add to.
constexpr int64_t APART = 128;
// The most blocks in the second and third dimension of a grid.
constexpr int32_t GRID = 65535;

struct Given {
  const void *q, *k, *v;
};

inline int64_t rounded(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// How many copies of gq there are for blocks to add to in a fixed order, on a GPU of so many multiprocessors.
inline int64_t copies(const sera_flash_batch &batch, int32_t multiprocessors) {
  const int64_t blocks = int64_t{batch.sequences} * batch.heads;
  return (multiprocessors + blocks - 1) / blocks;
}

// Rows of what queries add to.
inline int64_t rows(const sera_flash_batch &batch) { return batch.tokens + APART * batch.sequences; }

inline sera_flash_room room(const sera_flash_batch &batch, int32_t multiprocessors) {
  const int64_t sums = batch.heads * rows(batch);
  return {sums, copies(batch, multiprocessors) * sums * rounded(batch.size, 32)};
}

inline bool is_served(const sera_flash_batch &batch) {
  const bool sized = batch.size == 64 || batch.size == 96 || batch.size == 128;
  const bool counted = batch.sequences > 0 && batch.longest > 0 && batch.longest <= batch.tokens && batch.heads > 0 && batch.kv_heads > 0;
  // The kernels count rows times heads in 32 bits.
  return sized && counted && batch.heads % batch.kv_heads == 0 && batch.sequences <= GRID && batch.heads <= GRID &&
         batch.heads * rows(batch) <= std::numeric_limits<int32_t>::max();
}

inline void fill_forward(FLASH_NAMESPACE::Flash_fwd_params &of, const sera_flash_batch &batch, Given given, void *y, float *logs) {
  of = {};
  of.is_bf16 = true;
  of.q_ptr = const_cast<void *>(given.q);
  of.k_ptr = const_cast<void *>(given.k);
  of.v_ptr = const_cast<void *>(given.v);
  of.o_ptr = y;
  of.q_row_stride = of.o_row_stride = int64_t{batch.heads} * batch.size;
  of.k_row_stride = of.v_row_stride = int64_t{batch.kv_heads} * batch.size;
  of.q_head_stride = of.k_head_stride = of.v_head_stride = of.o_head_stride = batch.size;
  of.cu_seqlens_q = of.cu_seqlens_k = const_cast<int32_t *>(batch.begins);
  of.is_seqlens_k_cumulative = true;
  of.softmax_lse_ptr = logs;
  of.unpadded_lse = true;
  of.b = batch.sequences;
  of.h = batch.heads;
  of.h_k = batch.kv_heads;
  of.h_h_k_ratio = batch.heads / batch.kv_heads;
  of.seqlen_q = of.seqlen_k = batch.longest;
  of.seqlen_q_rounded = of.seqlen_k_rounded = static_cast<int>(rounded(batch.longest, 128));
  of.d = batch.size;
  of.d_rounded = static_cast<int>(rounded(batch.size, 32));
  of.total_q = batch.tokens;
  of.scale_softmax = batch.scale;
  of.scale_softmax_log2 = static_cast<float>(batch.scale * M_LOG2E);
  // Nothing is dropped: the share that is kept is all, in 255ths too.
  of.p_dropout = of.rp_dropout = 1.0f;
  of.p_dropout_in_uint8_t = 255;
  of.scale_softmax_rp_dropout = batch.scale;
  // A query looks at all keys before it and at none after it.
  of.is_causal = true;
  of.window_size_left = batch.longest;
  of.window_size_right = 0;
  of.page_block_size = 1;
}

struct Gradients {
  const void *y;
  const float *logs;
  const void *gy;
  void *gq, *gk, *gv;
  float *sums, *parts;
};

inline void fill_backward(FLASH_NAMESPACE::Flash_bwd_params &of, const sera_flash_batch &batch, Given given, Gradients back) {
  of = {};
  fill_forward(of, batch, given, const_cast<void *>(back.y), const_cast<float *>(back.logs));
  of.do_ptr = const_cast<void *>(back.gy);
  of.dq_ptr = back.gq;
  of.dk_ptr = back.gk;
  of.dv_ptr = back.gv;
  of.do_row_stride = of.dq_row_stride = of.dk_row_stride = of.dv_row_stride = int64_t{batch.heads} * batch.size;
  of.do_head_stride = of.dq_head_stride = of.dk_head_stride = of.dv_head_stride = batch.size;
  of.dq_accum_ptr = back.parts;
  of.dsoftmax_sum = back.sums;
  of.deterministic = true;
  of.dq_accum_split_stride = rows(batch) * batch.heads * of.d_rounded;
  // Read by the kernels, and not looked at where nothing is dropped: any address that can be read.
  of.rng_state = reinterpret_cast<uint64_t *>(back.sums);
}

}  // namespace sera

#endif
