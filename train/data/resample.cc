// Scales an image as Pillow does, to the bit where that goes along rows first: by a triangle or a cubic as wide as what a
// pixel of the result covers, first along rows, rounded to bytes, then along columns. Weights are in units of 2^-22.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace {

constexpr int kBits = 22;
// Numbers in a vector: bytes of a row, or a pixel of up to four channels of each of some rows.
#ifdef __AVX512F__
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kRows = kLanes / 4;

typedef int32_t Lanes __attribute__((vector_size(kLanes * 4)));
typedef uint16_t LanesHalves __attribute__((vector_size(kLanes * 2)));
typedef uint8_t LanesBytes __attribute__((vector_size(kLanes)));
typedef uint32_t Pixels __attribute__((vector_size(kLanes)));

double Triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

// Keys 1981, "Cubic convolution interpolation for digital image processing", with a = -1/2.
double Cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// Which pixels make each result along one side, and with what weights: as many for each, so that no loop guesses.
struct Windows {
  int64_t taps = 0;
  std::vector<int64_t> first;
  std::vector<int32_t> weights;  // [results, taps]

  // `low` to `high` is the part of the side that is scaled; they are single, as Pillow has them.
  Windows(int64_t length, float low, float high, int64_t results, bool cubic) : first(results) {
    const double scale = static_cast<double>(high - low) / results;
    const double wide = std::max(scale, 1.0), reach = wide * (cubic ? 2 : 1);
    const auto begin = [&](int64_t result) {
      return std::max<int64_t>(static_cast<int64_t>(low + (result + 0.5) * scale - reach + 0.5), 0);
    };
    const auto end = [&](int64_t result) {
      return std::min(static_cast<int64_t>(low + (result + 0.5) * scale + reach + 0.5), length);
    };
    for (int64_t result = 0; result < results; ++result) taps = std::max(taps, end(result) - begin(result));
    weights.resize(results * taps);
    std::vector<double> exact(taps);
    for (int64_t result = 0; result < results; ++result) {
      const int64_t from = begin(result), count = end(result) - from;
      const double center = low + (result + 0.5) * scale;
      double sum = 0;
      for (int64_t i = 0; i < count; ++i) {
        const double x = (i + from - center + 0.5) * (1 / wide);
        sum += exact[i] = cubic ? Cubic(x) : Triangle(x);
      }
      first[result] = std::min(from, length - taps);
      for (int64_t i = 0; i < count; ++i) {
        const double weight = (sum != 0 ? exact[i] / sum : exact[i]) * (1 << kBits);
        weights[result * taps + from - first[result] + i] = static_cast<int32_t>(weight + (weight < 0 ? -0.5 : 0.5));
      }
    }
  }
};

constexpr Lanes kHalf = Lanes{} + (1 << (kBits - 1));

// By way of 16 bits: of one step, GCC 12 makes sixteen.
Lanes Widened(LanesBytes bytes) { return __builtin_convertvector(__builtin_convertvector(bytes, LanesHalves), Lanes); }

LanesBytes Rounded(Lanes sum) {
  const Lanes whole = sum >> kBits;
  const Lanes positive = whole < 0 ? Lanes{} : whole;
  return __builtin_convertvector(positive > 255 ? Lanes{} + 255 : positive, LanesBytes);
}

uint32_t Read(const uint8_t* from) {
  uint32_t pixel;
  std::memcpy(&pixel, from, sizeof pixel);
  return pixel;
}

template <int... kRow>
Pixels ReadAll(const uint8_t* const rows[kRows], int64_t place, std::integer_sequence<int, kRow...>) {
  return Pixels{Read(rows[kRow] + place)...};
}

// Some rows at once. Pixels are read and written as four bytes, so behind each row there must be some more.
void AlongRows(const uint8_t* const rows[kRows], const Windows& windows, int64_t channels, uint8_t* const out[kRows]) {
  const int64_t results = windows.first.size();
  const int32_t* weight = windows.weights.data();
  for (int64_t result = 0; result < results; ++result) {
    Lanes sum = kHalf;
    int64_t place = windows.first[result] * channels;
    for (int64_t tap = 0; tap < windows.taps; ++tap, ++weight, place += channels) {
      const Pixels pixels = ReadAll(rows, place, std::make_integer_sequence<int, kRows>());
      sum += Widened(reinterpret_cast<LanesBytes>(pixels)) * *weight;
    }
    const Pixels pixels = reinterpret_cast<Pixels>(Rounded(sum));
    for (int row = 0; row < kRows; ++row) {
      const uint32_t pixel = pixels[row];
      std::memcpy(out[row] + result * channels, &pixel, sizeof pixel);
    }
  }
}

void AlongColumns(const uint8_t* from, int64_t room, const int32_t* weights, int64_t taps, int64_t line, uint8_t* out) {
  for (int64_t x = 0; x < line; x += kLanes) {
    Lanes sum = kHalf;
    for (int64_t tap = 0; tap < taps; ++tap) {
      LanesBytes bytes;
      std::memcpy(&bytes, from + tap * room + x, sizeof bytes);
      sum += Widened(bytes) * weights[tap];
    }
    const LanesBytes bytes = Rounded(sum);
    std::memcpy(out + x, &bytes, std::min<int64_t>(kLanes, line - x));
  }
}

}  // namespace

// image: [height, width, channels], result: [rows, columns, channels]; of 1 to 4 channels.
extern "C" void oldmasters_resample(const uint8_t* image, int64_t height, int64_t width, int64_t channels, float left,
                                    float top, float right, float bottom, int32_t cubic, uint8_t* result, int64_t rows,
                                    int64_t columns) {
  const Windows across(width, left, right, columns, cubic), down(height, top, bottom, rows, cubic);
  const auto [least, most] = std::minmax_element(down.first.begin(), down.first.end());
  const int64_t first = *least, count = *most + down.taps - first;
  const int64_t stride = width * channels, line = columns * channels, room = line + kLanes;
  thread_local std::vector<uint8_t> scaled, last;
  scaled.resize(count * room);
  // Behind the image nothing may be read: of its last row a copy is, and of rows shorter than a read, all.
  const int64_t whole = stride < static_cast<int64_t>(sizeof(uint32_t)) ? 0 : height - 1;
  last.assign(image + whole * stride, image + height * stride);
  last.resize(last.size() + sizeof(uint32_t));
  for (int64_t y = 0; y < count; y += kRows) {
    const uint8_t* from[kRows];
    uint8_t* to[kRows];
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t there = std::min(y + row, count - 1);  // of rows behind the last, that one again
      const int64_t place = first + there;
      from[row] = place < whole ? image + place * stride : last.data() + (place - whole) * stride;
      to[row] = &scaled[there * room];
    }
    AlongRows(from, across, channels, to);
  }
  for (int64_t y = 0; y < rows; ++y)
    AlongColumns(&scaled[(down.first[y] - first) * room], room, &down.weights[y * down.taps], down.taps, line,
                 result + y * line);
}
