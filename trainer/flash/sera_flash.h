// FlashAttention-2 behind a plain C interface: causal attention over packed sequences in bf16, and its gradients. All addresses are the GPU's but that
// of the batch. Tensors of (tokens, heads, size) lie one value after the other; logs are (heads, tokens) of f32.
#ifndef SERA_FLASH_H
#define SERA_FLASH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// What a call says beside CUDA's own numbers: a batch that is not served, or room that is smaller than what is needed.
enum { SERA_FLASH_NOT_SERVED = -1, SERA_FLASH_TOO_SMALL = -2 };

// The sequences of a packed batch.
typedef struct {
  const int32_t *begins;  // where each sequence begins, and where the last one ends: sequences + 1
  int32_t sequences;
  int32_t longest;  // tokens of the longest sequence
  int32_t tokens;   // of all sequences
  int32_t heads;
  int32_t kv_heads;
  int32_t size;  // of a head
  float scale;   // what scores are multiplied with
} sera_flash_batch;

// How many f32 a backward needs beside its results.
typedef struct {
  int64_t sums;   // for each query's Σ gy · y
  int64_t parts;  // for the parts that gq is summed from, in a fixed order; all of them 0 before the call
} sera_flash_room;

// Whether heads of this size are served.
int sera_flash_serves(int32_t size);

// The room that a backward of this batch needs on a GPU of so many multiprocessors: 0, or SERA_FLASH_NOT_SERVED.
int sera_flash_workspace(const sera_flash_batch *batch, int32_t multiprocessors, sera_flash_room *room);

// y (tokens, heads, size) and the logarithm of every query's sum of exponentials, from q (tokens, heads, size), k and v (tokens, kv heads, size).
// 0 where it was put on the stream.
int sera_flash_fwd(const sera_flash_batch *batch, const void *q, const void *k, const void *v, void *y, float *logs, void *stream);

// The gradients of q, k and v from gy, that of y. Those of k and v come for every head of q, (tokens, heads, size): the sum over the heads that share keys
// is the caller's. Twice the same call gives twice the same bits.
int sera_flash_bwd(const sera_flash_batch *batch, const void *q, const void *k, const void *v, const void *y, const float *logs, const void *gy, void *gq,
                   void *gk, void *gv, float *sums, float *parts, const sera_flash_room *room, void *stream);

// What a number that is not 0 means, in CUDA's words or ours.
const char *sera_flash_words(int number);

#ifdef __cplusplus
}
#endif

#endif
