// One token per row. Nothing is sorted: falling order is walked by a radix descent over the logits' bits, with the mass
// and the number of values in each bin, so every step is one pass over the vocabulary.
//
// Sampled: w_i = exp(x_i / T - max) in double. Kept are the top_k heaviest (0: all), then the shortest prefix of them
// that holds at least top_p of the mass of all. With u from Philox4x32-10 (key: seed, counter: counter), the token is the
// first in falling order, lowest id first on ties, whose running mass exceeds u times the kept mass.
#include <math.h>

#include "core.h"

namespace {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), first word, to [0, 1).
double uniform(uint64_t seed, uint64_t counter) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
                              static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    memcpy(c, next, sizeof c);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return (c[0] >> 8) * 0x1p-24;
}

// e^x in double for x <= 0, to about 1e-15; 0 below -700.
__m256d exp4(__m256d x) {
  const __m256d low = _mm256_set1_pd(-700.0);
  const __m256d flushed = _mm256_cmp_pd(x, low, _CMP_LT_OQ);
  x = _mm256_max_pd(low, x);
  const __m256d n = _mm256_round_pd(_mm256_mul_pd(x, _mm256_set1_pd(1.4426950408889634)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256d r = _mm256_fnmadd_pd(n, _mm256_set1_pd(6.93147180369123816490e-01), x);
  r = _mm256_fnmadd_pd(n, _mm256_set1_pd(1.90821492927058770002e-10), r);
  // Taylor to r^12 / 12!; |r| <= 0.347 leaves 2e-16.
  __m256d p = _mm256_set1_pd(1.0 / 479001600.0);
  constexpr double inverse[] = {1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
                                1.0 / 5040.0,     1.0 / 720.0,     1.0 / 120.0,    1.0 / 24.0,
                                1.0 / 6.0,        0.5,             1.0,            1.0};
  for (const double coefficient : inverse) p = _mm256_fmadd_pd(p, r, _mm256_set1_pd(coefficient));
  const __m256i power = _mm256_slli_epi64(
      _mm256_add_epi64(_mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n)), _mm256_set1_epi64x(1023)), 52);
  return _mm256_andnot_pd(flushed, _mm256_mul_pd(p, _mm256_castsi256_pd(power)));
}

// ln z for z >= 1, to about 1e-15, by Newton's step y += z e^-y - 1. (The C library's own would ask for a newer glibc.)
double logarithm(double z) {
  uint64_t bits;
  memcpy(&bits, &z, 8);
  double y = 0.6931471805599453 * static_cast<double>(static_cast<int64_t>(bits >> 52) - 1023);
  for (int i = 0; i < 7; i++) {
    double power[4];
    _mm256_storeu_pd(power, exp4(_mm256_set1_pd(-y)));
    y += z * power[0] - 1.0;
  }
  return y;
}

// exp((x - most) / temperature) for a run of logits, four at a time.
struct Weights {
  double most, inverse;
  void four(const float* x, double* to) const {
    const __m256d d = _mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(x)), _mm256_set1_pd(most));
    _mm256_storeu_pd(to, exp4(_mm256_mul_pd(d, _mm256_set1_pd(inverse))));
  }
  double one(float x) const {
    const float same[4] = {x, x, x, x};
    double to[4];
    four(same, to);
    return to[0];
  }
};

// Visits (i, weight) in rising i.
template <class Visit>
void for_each_weight(const float* x, uint32_t n, const Weights& weights, const Visit& visit) {
  double w[4];
  uint32_t i = 0;
  for (; i + 4 <= n; i += 4) {
    weights.four(x + i, w);
    for (uint32_t j = 0; j < 4; j++) visit(i + j, w[j]);
  }
  for (; i < n; i++) visit(i, weights.one(x[i]));
}

// Unsigned integers in the opposite order of the floats: 0 for the largest. -0 counts as 0.
uint32_t falling_key(float x) {
  uint32_t bits;
  x += 0.0f;
  memcpy(&bits, &x, 4);
  return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}

// A place in falling order: all values with a smaller key, and the first `ties` of those with this key.
struct Prefix {
  uint32_t key;
  uint32_t ties;
  double mass;
};

// The shortest prefix (of at least one value) for which done(count, mass) holds, or all values where it never does.
template <class Done>
Prefix descend(const float* x, uint32_t n, const Weights& weights, const Done& done) {
  constexpr int shifts[3] = {21, 10, 0};
  constexpr uint32_t bins = 2048;
  double mass[bins];
  uint32_t count[bins];
  uint32_t above_count = 0, prefix = 0, mask = 0;
  double above_mass = 0.0;
  for (const int shift : shifts) {
    memset(mass, 0, sizeof mass);
    memset(count, 0, sizeof count);
    const uint32_t last_bin = shift == 0 ? 1023 : bins - 1;
    const auto add = [&](uint32_t key, double w) {
      const uint32_t bin = key >> shift & last_bin;
      mass[bin] += w;
      count[bin]++;
    };
    if (mask == 0) {
      for_each_weight(x, n, weights, [&](uint32_t i, double w) { add(falling_key(x[i]), w); });
    } else {
      for (uint32_t i = 0; i < n; i++) {
        const uint32_t key = falling_key(x[i]);
        if ((key & mask) == prefix) add(key, weights.one(x[i]));
      }
    }
    uint32_t chosen = 0;
    for (uint32_t bin = 0; bin <= last_bin; bin++) {
      if (count[bin] == 0) continue;
      chosen = bin;
      if (done(above_count + count[bin], above_mass + mass[bin])) break;
      // The last bin that holds anything stays chosen even where nothing is ever enough.
      uint32_t next = bin + 1;
      while (next <= last_bin && count[next] == 0) next++;
      if (next > last_bin) break;
      above_count += count[bin];
      above_mass += mass[bin];
    }
    prefix |= chosen << shift;
    mask |= last_bin << shift;
    if (shift == 0) {
      const double w = mass[chosen] / count[chosen];
      uint32_t ties = 1;
      while (ties < count[chosen] && !done(above_count + ties, above_mass + ties * w)) ties++;
      return {prefix, ties, above_mass + ties * w};
    }
  }
  return {};
}

// Id of the last value of a prefix.
uint32_t last_of(const float* x, uint32_t n, const Prefix& prefix) {
  uint32_t seen = 0;
  for (uint32_t i = 0; i < n; i++) {
    if (falling_key(x[i]) == prefix.key && ++seen == prefix.ties) return i;
  }
  return 0;
}

struct Choice {
  uint32_t token;
  double logprob;
};

// The largest logit, lowest id on ties. False where a logit is NaN or none is finite.
bool largest(const float* x, uint32_t n, uint32_t& at) {
  float most = -INFINITY;
  at = 0;
  bool ordered = true;
  for (uint32_t i = 0; i < n; i += 64) {
    // A block without anything larger is passed over eight at a time.
    const uint32_t end = kl::smaller(i + 64, n);
    uint32_t j = i;
    __m256 block = _mm256_set1_ps(-INFINITY), nan = _mm256_setzero_ps();
    for (; j + 8 <= end; j += 8) {
      const __m256 v = _mm256_loadu_ps(x + j);
      block = _mm256_max_ps(block, v);
      nan = _mm256_or_ps(nan, _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    }
    ordered = ordered && _mm256_testz_ps(nan, nan);
    if (end - i == 64 && !(kl::max_lanes(block) > most)) continue;
    for (j = i; j < end; j++) {
      ordered = ordered && x[j] == x[j];
      if (x[j] > most) {
        most = x[j];
        at = j;
      }
    }
  }
  return ordered && most > -INFINITY && most < INFINITY;
}

Choice choose(const float* x, uint32_t n, uint32_t best, float temperature, float top_p, int32_t top_k, uint64_t seed,
              uint64_t counter) {
  const double most = x[best];
  double total = 0.0;
  for_each_weight(x, n, {most, 1.0}, [&](uint32_t, double w) { total += w; });
  const auto chosen = [&](uint32_t token) -> Choice { return {token, (x[token] - most) - logarithm(total)}; };
  if (temperature == 0.0f) return chosen(best);

  const Weights weights{most, 1.0 / static_cast<double>(temperature)};
  double all = 0.0;
  for_each_weight(x, n, weights, [&](uint32_t, double w) { all += w; });
  const uint32_t limit = top_k > 0 ? static_cast<uint32_t>(top_k) : UINT32_MAX;
  const double enough = top_p < 1.0f ? static_cast<double>(top_p) * all : INFINITY;
  Prefix kept{UINT32_MAX, UINT32_MAX, all};
  if (limit < n || top_p < 1.0f) {
    kept = descend(x, n, weights, [&](uint32_t count, double mass) { return count >= limit || mass >= enough; });
  }
  const double target = uniform(seed, counter) * kept.mass;
  Prefix drawn = descend(x, n, weights, [&](uint32_t, double mass) { return mass > target; });
  // Rounding may carry the draw past the kept ones or on to values of no weight: then the last kept one is meant.
  const bool past = drawn.key > kept.key || (drawn.key == kept.key && drawn.ties > kept.ties);
  if (past) drawn = kept;
  return chosen(last_of(x, n, drawn));
}

}  // namespace

kl_status sample(const kl::Instance& instance, const kl_sample_args& a) {
  if (a.vocab == 0 || a.vocab > INT32_MAX) {
    return instance.refuse(KL_INVALID, "sample: vocab must be from 1 to 2147483647.");
  }
  if (!kl::all_present(a.sample_rows, a.logits, a.temperature, a.top_p, a.top_k, a.seeds, a.counters, a.token_ids,
                       a.logprobs)) {
    return instance.refuse(KL_INVALID, "sample: a pointer is null.");
  }
  for (uint32_t r = 0; r < a.rows; r++) {
    if (a.sample_rows[r] < 0) continue;
    if (!(a.temperature[r] >= 0.0f && a.temperature[r] < INFINITY)) {
      return instance.refuse(KL_INVALID, "sample: a temperature is negative or not finite.");
    }
    if (!(a.top_p[r] > 0.0f && a.top_p[r] <= 1.0f)) {
      return instance.refuse(KL_INVALID, "sample: top_p must be above 0 and at most 1.");
    }
    if (a.top_k[r] < 0) return instance.refuse(KL_INVALID, "sample: top_k must not be negative.");
  }
  uint32_t bad = 0;
  instance.parallel(a.rows, [&](uint32_t r, uint32_t) {
    if (a.sample_rows[r] < 0) return;
    const float* x = a.logits + uint64_t{r} * a.vocab;
    uint32_t best;
    if (!largest(x, a.vocab, best)) {
      __atomic_store_n(&bad, 1u, __ATOMIC_RELAXED);
      return;
    }
    const Choice choice =
        choose(x, a.vocab, best, a.temperature[r], a.top_p[r], a.top_k[r], a.seeds[r], a.counters[r]);
    a.token_ids[r] = static_cast<int32_t>(choice.token);
    a.logprobs[r] = static_cast<float>(choice.logprob);
    if (a.next_token_ids != nullptr) a.next_token_ids[r] = static_cast<int32_t>(choice.token);
  });
  if (bad != 0) return instance.refuse(KL_INVALID, "sample: a row of logits holds NaN, or nothing finite.");
  return KL_OK;
}
