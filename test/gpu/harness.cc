// harness FOLDER check|smoke|bench [decode|middle|prefill|dense|quick|probe]: loads the CUDA variants from FOLDER and checks or times them.
#include <unistd.h>

#include "bench.h"

using namespace check;

static void check_all(Device& d, Libraries& l, uint64_t seed, bool smoke) {
  ref::Random r(seed);
  const uint32_t big = smoke ? 256 : 2880;
  for (bool f32 : {false, true}) {
    embed(d, l, r, 5, 2880, f32);
    rmsnorm(d, l, r, 7, 2880, f32), rmsnorm(d, l, r, 9, 192, f32);
  }
  for (uint32_t tokens : {1u, 4u, 8u}) {
    qkv(d, l, r, tokens, big, 64, 8, false, false);
    qkv(d, l, r, tokens, big, 64, 8, true, tokens == 4);
    projection(d, l, r, tokens, smoke ? 512 : 4096, big, true, tokens == 4);
  }
  qkv(d, l, r, 5, 192, 4, 1, true, true), qkv(d, l, r, 5, 256, 8, 2, false, false);
  projection(d, l, r, 6, 256, 192, false, false), projection(d, l, r, 6, 2880, 2880, false, false);
  for (uint32_t tokens : {1u, 5u, 8u, 33u, 100u}) router(d, l, r, tokens, 2880, 32, 4, tokens != 5, tokens == 8);
  router(d, l, r, 21, 192, 4, 2, true, true), router(d, l, r, 9, 2880, 128, 4, true, false), router(d, l, r, 9, 256, 8, 4, false, false);
  for (uint32_t window : {0u, 128u}) {
    attention(d, l, r, {1}, {}, 64, 8, window);
    attention(d, l, r, {200, 0, 64, 65, 1000, 127, 128, 129}, {}, 64, 8, window);
  }
  attention(d, l, r, {5000}, {}, 64, 8, 0), attention(d, l, r, {300, 17, 1}, {}, 8, 2, 16), attention(d, l, r, {300, 17, 700}, {}, 4, 1, 0);
  dequantize(d, l, r);
  for (bool residual : {true, false}) {
    for (uint32_t tokens : {1u, 2u, 5u, 8u}) {
      if (!smoke) moe(d, l, r, {2880, 2880, 12, 4}, tokens, true, residual, tokens == 2, 0, tokens == 5 ? 9 : 12);
      moe(d, l, r, {192, 320, 8, 4}, tokens, true, residual, tokens == 5, 0, 8);
    }
  }
  moe(d, l, r, {256, 256, 4, 2}, 7, true, true, true, 1, 3);
  for (uint32_t count : {1u, 8u}) lm_head(d, l, r, count, big, smoke ? 1000 : 20008);
  sample(d, l, r, 4096), sample(d, l, r, 201088);
  moves(d, l, r);
  for (uint32_t tokens : {9u, 64u, 65u, 300u}) {
    qkv(d, l, r, tokens, big, smoke ? 16 : 64, smoke ? 2 : 8, false, false);
    projection(d, l, r, tokens, smoke ? 512 : 4096, big, true, tokens == 64), projection(d, l, r, tokens, 256, 192, false, false);
  }
  qkv(d, l, r, 40, 192, 4, 1, false, false);
  for (uint32_t count : {9u, 70u}) lm_head(d, l, r, count, big, smoke ? 1000 : 5000);
  for (uint32_t window : {0u, 128u}) {
    attention(d, l, r, {1}, {1}, 64, 8, window), attention(d, l, r, {300}, {300}, 64, 8, window);
    attention(d, l, r, {200, 0, 64, 65, 1000, 127, 128, 129}, {200, 3, 1, 40, 333, 17, 128, 2}, 64, 8, window, 9);
  }
  attention(d, l, r, {100, 77}, {100, 50}, 8, 2, 16), attention(d, l, r, {500, 10}, {70, 10}, 4, 1, 0);
  if (!smoke) attention(d, l, r, {5000}, {2048}, 64, 8, 0), attention(d, l, r, {5000}, {2048}, 64, 8, 128);
  for (bool tiles : {true, false}) {
    for (uint32_t tokens : {9u, 16u, 33u, 64u, 200u, 700u}) {
      moe(d, l, r, {192, 320, 8, 4}, tokens, tiles, tokens != 33, tokens == 64, 0, 8);
      if (!smoke && tokens != 16 && tokens != 200) moe(d, l, r, {2880, 2880, 10, 4}, tokens, tiles, tokens != 33, tokens == 64, tokens == 9 ? 3 : 0, 10);
    }
    moe(d, l, r, {256, 256, 4, 2}, 50, tiles, true, true, 1, 3);
  }
  moe(d, l, r, {256, 256, 4, 2}, 3, false, true, true, 0, 4);
}

int main(int argc, char** argv) {
  if (argc < 3) return fprintf(stderr, "harness FOLDER check|smoke|bench [decode|middle|prefill|dense|quick|probe]\n"), 2;
  const std::string folder = argv[1], what = argv[2], which = argc > 3 ? argv[3] : "decode";
  Device d;
  Libraries l;
  l.core.open(d, folder + "/transformer-core.so");
  l.norm.open(d, folder + "/liger-rmsnorm.so");
  l.attention.open(d, folder + "/fa3-sinks.so");
  l.mxfp4.open(d, folder + "/mxfp4.so");
  if (gpu::Library* m = &l.megablocks; access((folder + "/megablocks-moe.so").c_str(), R_OK) == 0) m->open(d, folder + "/megablocks-moe.so");
  if (what == "bench") {
    bench::Model model(which == "dense");
    if (which == "probe") {  // plain launches of one layer, for a profiler
      bench::Step step(model, 1, 1, 1024);
      bench::Runner run{d, l, model, step, false};
      for (uint32_t i = 0; i < 3; ++i) run.layer(i);
      d.sync();
    } else if (which == "quick") {
      for (uint32_t b : {1u, 64u}) bench::one(d, l, model, b, b, 1024, false);
    } else if (which == "decode") {
      for (uint32_t b : {1u, 2u, 4u, 8u, 16u, 32u, 64u}) bench::one(d, l, model, b, b, 1024, false);
      bench::one(d, l, model, 1, 1, 8192, false);
    } else if (which == "prefill") {
      for (uint32_t t : {512u, 2048u, 8192u}) bench::one(d, l, model, 1, t, t, false);
    } else if (which == "middle") {
      for (uint32_t b : {16u, 32u, 64u}) bench::one(d, l, model, b, b, 1024, false);
      bench::one(d, l, model, 1, 2048, 2048, false);
    } else if (which == "dense") {
      for (uint32_t b : {8u, 64u}) bench::one(d, l, model, b, b, 1024, true);
      bench::one(d, l, model, 1, 2048, 2048, true);
    }
    return 0;
  }
  check_all(d, l, what == "smoke" ? 1 : std::random_device()(), what == "smoke");
  printf("%d passed, %d failed\n", passes, failures);
  return failures != 0;
}
