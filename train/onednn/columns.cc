// What is done to each channel of an array for itself, where XLA takes one thread or one lane at a time: sums of columns,
// and the gradient of max pooling whose windows touch. Operands are all f32 or all bf16; computed in f32.

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "vectors.h"

namespace {

// Elements that one block of work has, about.
constexpr int64_t kBlock = 1 << 16;
// Sums made side by side at least, so that none waits for itself.
constexpr int64_t kSums = 8;

// An array [..., C]; to the sums of its columns [C]. Whoever makes them, they are added in one order.
ffi::Error ColumnSums(ffi::ThreadPool pool, Buffer array, Result result) {
  const int64_t channels = array.dimensions().back(), size = array.element_count();
  // After so many elements, channels come to lie in the same lanes of the same vectors.
  int64_t period = std::lcm<int64_t>(channels, kVector);
  period *= (kSums * kVector + period - 1) / period;
  const int64_t block_size = (kBlock + period - 1) / period * period, blocks = (size + block_size - 1) / block_size;
  std::vector<float> parts(blocks * channels);
  InParallel(pool, blocks, [&](int64_t block) {
    static thread_local std::vector<Vector> sums;
    sums.assign(period / kVector, Vector{});
    const int64_t first = block * block_size, last = std::min(size, first + block_size);
    WithElements(array, [&](const auto* from) {
      int64_t place = first;
      for (; place + period <= last; place += period)
        for (int64_t vector = 0; vector < period / kVector; ++vector) sums[vector] += Load(from + place + vector * kVector);
      for (int64_t vector = 0; place < last; place += kVector, ++vector) sums[vector] += LoadSome(from + place, last - place);
    });
    float* part = &parts[block * channels];
    for (int64_t element = 0; element < period; ++element)
      part[element % channels] += sums[element / kVector][element % kVector];
  });
  std::vector<float> total(channels);
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t channel = 0; channel < channels; ++channel) total[channel] += parts[block * channels + channel];
  Put(total, *result);
  return ffi::Error::Success();
}

// Repeat each pixel of a row. Whole vectors are written from the left to the right; what is too much of one is
// overwritten by the next, and of the last lies behind the row.
void Spread(const float* pixels, int64_t count, int64_t times, int64_t channels, float* to) {
  for (int64_t pixel = 0; pixel < count; ++pixel, pixels += channels)
    for (int64_t time = 0; time < times; ++time, to += channels)
      for (int64_t channel = 0; channel < channels; channel += kVector) Store(Load(pixels + channel), to + channel);
}

// Maps [B, H, W, C], the largest of each of their windows [B, h, w, C], which touch, and its gradient: that of the maps.
// Pixels that share the maximum share its gradient.
ffi::Error SharedOut(ffi::ThreadPool pool, Buffer maps, Buffer largest, Buffer gradients, Result result) {
  const auto in = maps.dimensions(), out = largest.dimensions();
  const int64_t channels = in[3], height = in[1] / out[1], width = in[2] / out[2];
  const int64_t rows = out[0] * out[1], wide = in[2] * channels, narrow = out[2] * channels;
  const int64_t block_rows = std::max<int64_t>(1, kBlock / (height * wide)), spare = channels + kVector;
  InParallel(pool, (rows + block_rows - 1) / block_rows, [&](int64_t block) {
    static thread_local std::vector<float> buffer;
    buffer.resize(3 * (wide + spare) + 2 * (narrow + spare));
    float* most = buffer.data();           // the largest, at each pixel of its window
    float* counts = most + wide + spare;   // how many of a column of the window equal it
    float* shares = counts + wide + spare; // what each of them gets
    float* pixels = shares + wide + spare; // a row of windows
    float* shared = pixels + narrow + spare;
    WithElements(maps, [&](const auto* from) {
      using T = std::remove_cvref_t<decltype(*from)>;
      for (int64_t row = block * block_rows; row < std::min(rows, (block + 1) * block_rows); ++row) {
        const T* map = from + row * height * wide;
        const T* gradient = static_cast<const T*>(gradients.untyped_data()) + row * narrow;
        const T* maximum = static_cast<const T*>(largest.untyped_data()) + row * narrow;
        T* to = static_cast<T*>(result->untyped_data()) + row * height * wide;
        for (int64_t place = 0; place < narrow; place += kVector)
          Store(LoadSome(maximum + place, narrow - place), pixels + place);
        Spread(pixels, out[2], width, channels, most);
        for (int64_t place = 0; place < wide; place += kVector) {
          Vector count = {};
          for (int64_t line = 0; line < height; ++line)
            count += LoadSome(map + line * wide + place, wide - place) == Load(most + place) ? Vector{} + 1.f : Vector{};
          Store(count, counts + place);
        }
        for (int64_t pixel = 0; pixel < out[2]; ++pixel)
          for (int64_t channel = 0; channel < channels; channel += kVector) {
            Vector count = {};
            for (int64_t column = 0; column < width; ++column)
              count += Load(counts + (pixel * width + column) * channels + channel);
            Store(count, shared + pixel * channels + channel);
          }
        for (int64_t place = 0; place < narrow; place += kVector)
          Store(LoadSome(gradient + place, narrow - place) / Load(shared + place), shared + place);
        Spread(shared, out[2], width, channels, shares);
        for (int64_t line = 0; line < height; ++line)
          for (int64_t place = 0; place < wide; place += kVector) {
            const Vector there = LoadSome(map + line * wide + place, wide - place);
            StoreSome(there == Load(most + place) ? Load(shares + place) : Vector{}, to + line * wide + place, wide - place);
          }
      }
    });
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(oldmasters_column_sums, ColumnSums,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Buffer>().Ret<Buffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(oldmasters_shared_out, SharedOut,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Ret<Buffer>());
