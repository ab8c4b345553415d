// Device code of fa3-sinks for mode bf16.
#include "decode.cuh"
#include "prefill.cuh"

using namespace kl;

extern "C" __global__ void __launch_bounds__(decode_threads) attn_decode(const __grid_constant__ AttentionParams p) {
  attend_decode(p);
}

extern "C" __global__ void __launch_bounds__(prefill_threads, 2) attn_prefill(const __grid_constant__ PrefillParams p) {
  attend_prefill(p.attention, &p.map);
}
