// What the handlers that are written here, and not by oneDNN, are made of: vectors, of float32 or of bfloat16 in memory,
// and work in blocks on XLA's threads.

#ifndef OLDMASTERS_VECTORS_H_
#define OLDMASTERS_VECTORS_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

using Buffer = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;
using Numbers = ffi::Span<const int64_t>;

#ifdef __AVX512F__
constexpr int kVector = 16;
#else
constexpr int kVector = 8;
#endif

typedef float Vector __attribute__((vector_size(kVector * 4)));
typedef uint32_t Bits __attribute__((vector_size(kVector * 4)));
typedef uint16_t Halves __attribute__((vector_size(kVector * 2)));
struct Bfloat16 {
  uint16_t bits;
};

inline Vector Load(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

inline Vector Load(const Bfloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
  return reinterpret_cast<Vector>(__builtin_convertvector(halves, Bits) << 16);
}

inline void Store(Vector vector, float* to) { std::memcpy(to, &vector, sizeof vector); }

// Rounded to the nearest, of two to the even one.
inline void Store(Vector vector, Bfloat16* to) {
  const Bits bits = reinterpret_cast<Bits>(vector);
  const Bits rounded = vector != vector ? Bits{} + 0x7FC0u : (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const Halves halves = __builtin_convertvector(rounded, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

// The first `count` lanes alone; others are zero, or are not written.
template <typename T>
Vector LoadSome(const T* from, int64_t count) {
  if (count >= kVector) return Load(from);
  T some[kVector] = {};
  std::memcpy(some, from, count * sizeof(T));
  return Load(some);
}

template <typename T>
void StoreSome(Vector vector, T* to, int64_t count) {
  if (count >= kVector) return Store(vector, to);
  T some[kVector];
  Store(vector, some);
  std::memcpy(to, some, count * sizeof(T));
}

// Call with a pointer to an array's elements.
template <typename Work>
void WithElements(const Buffer& array, Work work) {
  if (array.element_type() == ffi::DataType::BF16) {
    work(static_cast<Bfloat16*>(array.untyped_data()));
  } else {
    work(static_cast<float*>(array.untyped_data()));
  }
}

// Do the work of each block once, on XLA's threads and on this one.
template <typename Work>
void InParallel(ffi::ThreadPool& pool, int64_t blocks, Work work) {
  struct Progress {
    std::atomic<int64_t> begun{0}, done{0};
  };
  const auto progress = std::make_shared<Progress>();  // a thread that comes late finds nothing left but this
  const auto run = [=] {
    for (int64_t block; (block = progress->begun++) < blocks;) {
      work(block);
      ++progress->done;
      progress->done.notify_one();
    }
  };
  for (int64_t helpers = std::min(pool.num_threads(), blocks) - 1; helpers > 0; --helpers) {
    auto helper = run;
    pool.Schedule(std::move(helper));
  }
  run();
  for (int64_t done; (done = progress->done) < blocks;) progress->done.wait(done);
}

// Write sums, as the result's type.
inline void Put(const std::vector<float>& sums, Buffer result) {
  const int64_t size = sums.size();
  WithElements(result, [&](auto* to) {
    for (int64_t first = 0; first < size; first += kVector)
      StoreSome(LoadSome(&sums[first], size - first), to + first, size - first);
  });
}

}  // namespace

#endif  // OLDMASTERS_VECTORS_H_
