// Convolutions that make fewer channels than a vector has lanes. oneDNN keeps a pixel's channels in the lanes, of which
// six leave ten idle; here the lanes are images. Operands are all f32 or all bf16; sums are made in f32, and the result
// may be f32 in either case.

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "vectors.h"

namespace {

// Two vectors of images are computed at once. So many sums fit the registers: of kOuts channels in both vectors; of
// kTaps by kOuts elements of a kernel.
#ifdef __AVX512F__
constexpr int kOuts = 8, kTaps = 3;
#else
constexpr int kOuts = 6, kTaps = 2;
#endif
constexpr int64_t kImages = 2 * kVector;

typedef int32_t Places __attribute__((vector_size(kVector * 4)));
// Elements of two vectors: of kImages images each.
struct alignas(sizeof(Vector)) Pair {
  Vector of[2];
};

// The first, or the second, halves of two vectors in turns: a0 b0 a1 b1...
template <int from, size_t... lane>
Vector Interleave(Vector a, Vector b, std::index_sequence<lane...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, (from + lane / 2 + lane % 2 * kVector)...);
#else
  return __builtin_shuffle(a, b, Places{static_cast<int32_t>(from + lane / 2 + lane % 2 * kVector)...});
#endif
}

// A square of vectors, by interleaving its halves once for each bit of a place.
void Transpose(Vector (&rows)[kVector]) {
  constexpr std::make_index_sequence<kVector> lanes;
#pragma GCC unroll 4
  for (int bit = 1; bit < kVector; bit *= 2) {
    Vector next[kVector];
#pragma GCC unroll 16
    for (int row = 0; row < kVector / 2; ++row) {
      next[2 * row] = Interleave<0>(rows[row], rows[row + kVector / 2], lanes);
      next[2 * row + 1] = Interleave<kVector / 2>(rows[row], rows[row + kVector / 2], lanes);
    }
#pragma GCC unroll 16
    for (int row = 0; row < kVector; ++row) rows[row] = next[row];
  }
}

// `count` elements of each of up to kImages images, which lie `apart`, to pairs; lanes without an image are zero.
template <typename T>
void Gather(const T* from, int64_t apart, int64_t images, int64_t count, Pair* to) {
  for (int64_t first = 0; first < count; first += kVector) {
    const int64_t there = std::min<int64_t>(kVector, count - first);
    for (int half = 0; half < 2; ++half) {
      Vector rows[kVector];
#pragma GCC unroll 16
      for (int row = 0; row < kVector; ++row) {
        const int64_t image = half * kVector + row;
        rows[row] = image < images ? LoadSome(from + image * apart + first, there) : Vector{};
      }
      Transpose(rows);
#pragma GCC unroll 16
      for (int row = 0; row < kVector; ++row)
        if (row < there) to[first + row].of[half] = rows[row];
    }
  }
}

// The way back.
template <typename T>
void Scatter(const Pair* from, int64_t apart, int64_t images, int64_t count, T* to) {
  for (int64_t first = 0; first < count; first += kVector) {
    const int64_t there = std::min<int64_t>(kVector, count - first);
    for (int half = 0; half < 2; ++half) {
      Vector rows[kVector];
#pragma GCC unroll 16
      for (int row = 0; row < kVector; ++row) rows[row] = row < there ? from[first + row].of[half] : Vector{};
      Transpose(rows);
#pragma GCC unroll 16
      for (int row = 0; row < kVector; ++row) {
        const int64_t image = half * kVector + row;
        if (image < images) StoreSome(rows[row], to + image * apart + first, there);
      }
    }
  }
}

struct Maps {
  explicit Maps(const Buffer& array)
      : images(array.dimensions()[0]),
        height(array.dimensions()[1]),
        width(array.dimensions()[2]),
        channels(array.dimensions()[3]) {}
  int64_t size() const { return height * width * channels; }
  int64_t images, height, width, channels;
};

// Kernels as [height, width, in, out], in float32. `axes` says where the outputs, the inputs and space stand.
std::vector<float> Ordered(const Buffer& kernels, Numbers axes) {
  const auto shape = kernels.dimensions();
  std::array<int64_t, 4> steps = {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1};
  std::vector<float> ordered;
  WithElements(kernels, [&](auto* elements) {
    for (int64_t y = 0; y < shape[axes[2]]; ++y)
      for (int64_t x = 0; x < shape[axes[3]]; ++x)
        for (int64_t in = 0; in < shape[axes[1]]; ++in)
          for (int64_t out = 0; out < shape[axes[0]]; ++out) {
            auto* element = elements + y * steps[axes[2]] + x * steps[axes[3]] + in * steps[axes[1]] + out * steps[axes[0]];
            std::remove_pointer_t<decltype(element)> row[kVector] = {*element};
            ordered.push_back(Load(row)[0]);
          }
  });
  return ordered;
}

// Taps of a kernel's row, and inputs, lie one behind the other, so that both are one axis.
template <int outs>
void Pixel(const Pair* maps, const Maps& in, int64_t top, int64_t left, int64_t height, int64_t width,
           const float* kernel, int64_t channels, Pair* result) {
  Vector sums[outs][2] = {};
  const int64_t begin = std::max<int64_t>(0, -left), end = std::min(width, in.width - left);
  for (int64_t y = std::max<int64_t>(0, -top); y < std::min(height, in.height - top); ++y) {
    const Pair* pixel = maps + ((top + y) * in.width + left + begin) * in.channels;
    const float* weights = kernel + (y * width + begin) * in.channels * channels;
    for (int64_t tap = 0; tap < (end - begin) * in.channels; ++tap, ++pixel, weights += channels) {
      const Vector first = pixel->of[0], second = pixel->of[1];
#pragma GCC unroll 8
      for (int out = 0; out < outs; ++out) {
        sums[out][0] += weights[out] * first;
        sums[out][1] += weights[out] * second;
      }
    }
  }
  for (int out = 0; out < outs; ++out) result[out] = {{sums[out][0], sums[out][1]}};
}

template <size_t... index>
constexpr auto Pixels(std::index_sequence<index...>) {
  return std::array{&Pixel<index + 1>...};
}
constexpr auto kPixels = Pixels(std::make_index_sequence<kOuts>());

// Maps [B, H, W, C] and kernels, to maps [B, H, W, K].
ffi::Error Convolution(ffi::ThreadPool pool, Buffer maps, Buffer kernels, Result result, Numbers axes, Numbers strides,
                       Numbers low) {
  const Maps in(maps), out(*result);
  const int64_t height = kernels.dimensions()[axes[2]], width = kernels.dimensions()[axes[3]];
  const auto ordered = Ordered(kernels, axes);
  // Whole vectors are stored where so many rows of the result come at once.
  const int64_t row = out.width * out.channels, rows = kVector / std::gcd<int64_t>(kVector, row);
  InParallel(pool, (in.images + kImages - 1) / kImages, [&](int64_t block) {
    static thread_local std::vector<Pair> gathered, made;
    gathered.resize(in.size());
    made.resize(rows * row);
    const int64_t first = block * kImages, images = std::min(kImages, in.images - first);
    WithElements(maps, [&](auto* from) { Gather(from + first * in.size(), in.size(), images, in.size(), gathered.data()); });
    for (int64_t from = 0; from < out.height; from += rows) {
      const int64_t to = std::min(out.height, from + rows);
      Pair* pixel = made.data();
      for (int64_t y = from; y < to; ++y)
        for (int64_t x = 0; x < out.width; ++x)
          for (int64_t channel = 0; channel < out.channels; channel += kOuts) {
            const auto outs = std::min<int64_t>(kOuts, out.channels - channel);
            kPixels[outs - 1](gathered.data(), in, y * strides[0] - low[0], x * strides[1] - low[1], height, width,
                              ordered.data() + channel, out.channels, pixel);
            pixel += outs;
          }
      WithElements(*result, [&](auto* elements) {
        Scatter(made.data(), out.size(), images, (to - from) * row, elements + first * out.size() + from * row);
      });
    }
  });
  return ffi::Error::Success();
}

// Add products of elements of maps and of gradients, over a row of pixels.
template <int taps, int outs>
void Products(const Pair* maps, int64_t maps_step, const Pair* gradients, int64_t gradients_step, int64_t pixels,
              Vector* sums, int64_t channels) {
  Vector sum[taps][outs];
  for (int tap = 0; tap < taps; ++tap)
    for (int out = 0; out < outs; ++out) sum[tap][out] = sums[tap * channels + out];
  for (int64_t pixel = 0; pixel < pixels; ++pixel, maps += maps_step, gradients += gradients_step)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
#pragma GCC unroll 8
      for (int out = 0; out < outs; ++out)
#pragma GCC unroll 8
        for (int tap = 0; tap < taps; ++tap) sum[tap][out] += maps[tap].of[half] * gradients[out].of[half];
  for (int tap = 0; tap < taps; ++tap)
    for (int out = 0; out < outs; ++out) sums[tap * channels + out] = sum[tap][out];
}

template <size_t... index>
constexpr auto AllProducts(std::index_sequence<index...>) {
  return std::array{&Products<index / kOuts + 1, index % kOuts + 1>...};
}
constexpr auto kProducts = AllProducts(std::make_index_sequence<kTaps * kOuts>());

// Maps [B, H, W, C] and the gradients of what was made of them [B, H, W, K], to those of the kernels [H, W, C, K].
ffi::Error WeightGradient(ffi::ThreadPool pool, Buffer maps, Buffer gradients, Result result, Numbers strides,
                          Numbers low, Numbers high) {
  const Maps in(maps), out(gradients);
  const int64_t height = result->dimensions()[0], taps = result->dimensions()[1] * in.channels;
  const int64_t size = height * taps * out.channels, blocks = (in.images + kImages - 1) / kImages;
  const int64_t padded_row = (low[1] + in.width + high[1]) * in.channels;
  std::vector<float> parts(blocks * size);  // added in this order, whoever has made them
  InParallel(pool, blocks, [&](int64_t block) {
    static thread_local std::vector<Pair> padded, gathered;
    static thread_local std::vector<Vector> sums;
    padded.assign((low[0] + in.height + high[0]) * padded_row, Pair{});
    gathered.resize(out.size());
    sums.assign(size, Vector{});
    const int64_t first = block * kImages, images = std::min(kImages, in.images - first), row = in.width * in.channels;
    WithElements(maps, [&](auto* from) {
      for (int64_t y = 0; y < in.height; ++y)
        Gather(from + first * in.size() + y * row, in.size(), images, row,
               &padded[(low[0] + y) * padded_row + low[1] * in.channels]);
    });
    WithElements(gradients, [&](auto* from) {
      Gather(from + first * out.size(), out.size(), images, out.size(), gathered.data());
    });
    for (int64_t y = 0; y < out.height; ++y)
      for (int64_t line = 0; line < height; ++line)
        for (int64_t tap = 0; tap < taps; tap += kTaps)
          for (int64_t channel = 0; channel < out.channels; channel += kOuts) {
            const auto some = std::min<int64_t>(kTaps, taps - tap), outs = std::min<int64_t>(kOuts, out.channels - channel);
            kProducts[(some - 1) * kOuts + outs - 1](
                &padded[(y * strides[0] + line) * padded_row + tap], strides[1] * in.channels,
                &gathered[y * out.width * out.channels + channel], out.channels, out.width,
                &sums[(line * taps + tap) * out.channels + channel], out.channels);
          }
    for (int64_t element = 0; element < size; ++element)
      for (int lane = 0; lane < kVector; ++lane) parts[block * size + element] += sums[element][lane];
  });
  std::vector<float> total(size);
  for (int64_t block = 0; block < blocks; ++block)
    for (int64_t element = 0; element < size; ++element) total[element] += parts[block * size + element];
  Put(total, *result);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(oldmasters_few_channels, Convolution,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Attr<Numbers>("axes")
                                  .Attr<Numbers>("strides")
                                  .Attr<Numbers>("low"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(oldmasters_few_channels_gradient, WeightGradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Attr<Numbers>("strides")
                                  .Attr<Numbers>("low")
                                  .Attr<Numbers>("high"));
