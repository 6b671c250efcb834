// What a kernel's source takes from CUDA, for a C++ compiler: included before it, so that the sources are the very same. A block's threads are fibers
// of one thread of the processor, and blocks run one after the other.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <utility>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)

struct Index {
  unsigned x, y, z;
};

extern Index threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
float __shfl_xor_sync(unsigned lanes, float value, unsigned other);

#include "cuda_bf16.h"

// An argument: where a buffer begins, how many there are of something, or a number. Its kind is that of the parameter, in capitals if it may be written.
struct Value {
  char kind;
  uint64_t bits;
};

template <typename T>
struct As;

template <typename T, char KIND>
struct Pointer {
  static constexpr char kind = KIND;
  static T *of(const Value &value) { return reinterpret_cast<T *>(value.bits); }
};

template <>
struct As<float *> : Pointer<float, 'F'> {};
template <>
struct As<const float *> : Pointer<const float, 'f'> {};
template <>
struct As<__nv_bfloat16 *> : Pointer<__nv_bfloat16, 'H'> {};
template <>
struct As<const __nv_bfloat16 *> : Pointer<const __nv_bfloat16, 'h'> {};
template <>
struct As<const unsigned *> : Pointer<const unsigned, 'u'> {};

template <>
struct As<unsigned long long> {
  static constexpr char kind = 'c';
  static unsigned long long of(const Value &value) { return value.bits; }
};

template <>
struct As<float> {
  static constexpr char kind = 'n';
  static float of(const Value &value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits);
    float number;
    memcpy(&number, &bits, sizeof(number));
    return number;
  }
};

// A kernel under its name.
struct Kernel {
  const char *name;
  unsigned threads;
  size_t count;
  char kinds[32];
  void (*kernel)();
  void (*call)(void (*)(), const Value *);
  Kernel *next;

  template <typename... P>
  Kernel(const char *name, unsigned threads, void (*kernel)(P...))
      : name(name), threads(threads), count(sizeof...(P)), kinds{As<P>::kind...}, kernel(reinterpret_cast<void (*)()>(kernel)), call(with<P...>), next(first) {
    first = this;
  }

  template <typename... P>
  static void with(void (*kernel)(), const Value *values) {
    unpacked(reinterpret_cast<void (*)(P...)>(kernel), values, std::index_sequence_for<P...>());
  }

  template <typename... P, size_t... AT>
  static void unpacked(void (*kernel)(P...), const Value *values, std::index_sequence<AT...>) {
    kernel(As<P>::of(values[AT])...);
  }

  static Kernel *first;
};

#define KERNEL(threads, name, ...)                   \
  static void name(__VA_ARGS__);                     \
  static Kernel kernel_##name(#name, threads, name); \
  static void name(__VA_ARGS__)
