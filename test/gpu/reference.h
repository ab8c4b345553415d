// Double-precision references, written from the maths, and the numbers the checks need.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace ref {

using Rows = std::vector<double>;

inline float of_bf16(uint16_t v) {
  uint32_t bits = uint32_t(v) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
inline uint16_t bf16(double v) {
  float f = float(v);
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline double rounded(double v) { return of_bf16(bf16(v)); }

struct Random {
  std::mt19937_64 engine;
  std::normal_distribution<float> normal;
  explicit Random(uint64_t seed) : engine(seed) {}
  uint32_t below(uint32_t n) { return uint32_t(engine() % n); }
  std::vector<uint16_t> bf16s(uint64_t n, float scale, float shift = 0) {
    std::vector<uint16_t> v(n);
    for (auto& x : v) x = bf16(normal(engine) * scale + shift);
    return v;
  }
  std::vector<float> floats(uint64_t n, float scale) {
    std::vector<float> v(n);
    for (auto& x : v) x = normal(engine) * scale;
    return v;
  }
};

inline void parallel(uint64_t count, const std::function<void(uint64_t)>& body) {
  const unsigned workers = std::max(1u, std::thread::hardware_concurrency());
  std::vector<std::thread> threads;
  for (unsigned w = 0; w < workers; ++w) {
    threads.emplace_back([&, w] {
      for (uint64_t i = w; i < count; i += workers) body(i);
    });
  }
  for (auto& t : threads) t.join();
}

// y = x W^T + b for one row; W row-major bf16.
inline void linear(const double* x, uint32_t in, const uint16_t* w, const uint16_t* b, uint32_t out, double* y) {
  for (uint32_t o = 0; o < out; ++o) {
    double sum = b != nullptr ? of_bf16(b[o]) : 0;
    const uint16_t* row = w + uint64_t(o) * in;
    for (uint32_t i = 0; i < in; ++i) sum += x[i] * of_bf16(row[i]);
    y[o] = sum;
  }
}
inline void norm(const double* x, uint32_t n, const uint16_t* w, double eps, double* y) {
  double square = 0;
  for (uint32_t i = 0; i < n; ++i) square += x[i] * x[i];
  const double factor = 1 / sqrt(square / n + eps);
  for (uint32_t i = 0; i < n; ++i) y[i] = x[i] * factor * of_bf16(w[i]);
}
inline void rope(double* head, uint32_t dim, int position, const float* inv, double scale) {
  for (uint32_t i = 0; i < dim / 2; ++i) {
    const float angle = float(position) * inv[i];
    const double c = cos(double(angle)) * scale, s = sin(double(angle)) * scale, a = head[i], b = head[i + dim / 2];
    head[i] = a * c - b * s;
    head[i + dim / 2] = b * c + a * s;
  }
}
// One query row of one head over keys [begin, end).
inline void attend(const double* q, uint32_t dim, int begin, int end, const std::function<const uint16_t*(int)>& key,
                   const std::function<const uint16_t*(int)>& value, double sink, double scale, double* out) {
  std::vector<double> logits(end - begin);
  double largest = sink;
  for (int k = begin; k < end; ++k) {
    double sum = 0;
    const uint16_t* row = key(k);
    for (uint32_t i = 0; i < dim; ++i) sum += q[i] * of_bf16(row[i]);
    logits[k - begin] = sum * scale;
    largest = std::max(largest, sum * scale);
  }
  double total = exp(sink - largest);
  for (uint32_t i = 0; i < dim; ++i) out[i] = 0;
  for (int k = begin; k < end; ++k) {
    const double p = exp(logits[k - begin] - largest);
    total += p;
    const uint16_t* row = value(k);
    for (uint32_t i = 0; i < dim; ++i) out[i] += p * of_bf16(row[i]);
  }
  for (uint32_t i = 0; i < dim; ++i) out[i] /= total;
}

// MXFP4 in the released layout.
struct Mxfp4 {
  uint64_t rows;
  uint32_t columns;
  std::vector<uint8_t> blocks, scales;
  Mxfp4(Random& random, uint64_t rows_, uint32_t columns_, int scale) : rows(rows_), columns(columns_) {
    blocks.resize(rows * columns / 2);
    scales.resize(rows * columns / 32);
    for (auto& b : blocks) b = uint8_t(random.engine());
    for (auto& s : scales) s = uint8_t(scale - 1 + random.below(3));
  }
  double at(uint64_t row, uint32_t column) const {
    static const double table[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    const uint8_t byte = blocks[(row * columns + column) / 2];
    const uint8_t code = column % 2 ? byte >> 4 : byte & 15;
    const double v = table[code & 7] * pow(2.0, int(scales[(row * columns + column) / 32]) - 127);
    return code & 8 ? -v : v;
  }
  std::vector<uint16_t> dense() const {
    std::vector<uint16_t> d(rows * columns);
    parallel(rows, [&](uint64_t r) {
      for (uint32_t c = 0; c < columns; ++c) d[r * columns + c] = bf16(at(r, c));
    });
    return d;
  }
};

// Experts over dense bf16 weights [expert, 2 I, H] and [expert, H, I]; adds to out.
struct Experts {
  uint32_t hidden, intermediate, top_k;
  const uint16_t *up, *up_bias, *down, *down_bias;
  double alpha, limit;
  void add(const double* x, const int* ids, const float* weights, int begin, int end, double* out) const {
    std::vector<double> gu(2 * intermediate), h(intermediate), y(hidden);
    for (uint32_t s = 0; s < top_k; ++s) {
      if (ids[s] < begin || ids[s] >= end) continue;
      const uint64_t e = ids[s] - begin;
      linear(x, hidden, up + e * 2 * intermediate * hidden, up_bias + e * 2 * intermediate, 2 * intermediate, gu.data());
      for (uint32_t i = 0; i < intermediate; ++i) {
        const double g = std::min(gu[2 * i], limit), u = std::max(-limit, std::min(limit, gu[2 * i + 1]));
        h[i] = g / (1 + exp(-alpha * g)) * (u + 1);
      }
      linear(h.data(), intermediate, down + e * hidden * intermediate, down_bias + e * hidden, hidden, y.data());
      for (uint32_t i = 0; i < hidden; ++i) out[i] += weights[s] * y[i];
    }
  }
};

}  // namespace ref
