// A kernel library for tests of the runtime: well-behaved, failing, slow and misbehaving ops under the names of real ones.
// Macros make it wrong in one way each: PROBE_ABI, PROBE_TABLE_SIZE, PROBE_ARGS_SIZE, PROBE_REFUSE, PROBE_NO_SYMBOL.
#include <time.h>

#include "kernlock.h"
#include "ops.h"

#ifndef PROBE_FACTOR
#define PROBE_FACTOR 1
#endif
#ifndef PROBE_ABI
#define PROBE_ABI KL_ABI
#endif
#ifndef PROBE_TABLE_SIZE
#define PROBE_TABLE_SIZE sizeof(kl_api)
#endif
#ifndef PROBE_ARGS_SIZE
#define PROBE_ARGS_SIZE sizeof(kl_embed_args)
#endif

namespace {

struct Instance {
  kl_host host;
};

// stream += PROBE_FACTOR * x, an element a task.
kl_status scale(const kl_host& host, const kl_residual_args& args) {
  host.parallel_for(
      host.self, args.tokens * args.hidden,
      [](void* arg, uint32_t i, uint32_t) {
        const auto& args = *static_cast<const kl_residual_args*>(arg);
        static_cast<float*>(args.stream)[i] += PROBE_FACTOR * static_cast<const float*>(args.x)[i];
      },
      const_cast<kl_residual_args*>(&args));
  return KL_OK;
}

kl_status refuse(const kl_host& host) {
  host.report(host.self, "token 7 is outside the vocabulary");
  return KL_INVALID;
}

// Takes `rows` microseconds, then writes a byte.
kl_status wait(const kl_copy_rows_args& args) {
  timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do clock_gettime(CLOCK_MONOTONIC, &now);
  while ((now.tv_sec - start.tv_sec) * 1000000 + (now.tv_nsec - start.tv_nsec) / 1000 < static_cast<int64_t>(args.rows));
  args.dst[0] += 1;
  return KL_OK;
}

// Counts how often a worker of each number came by: dst[worker], `experts` tasks.
kl_status workers(const kl_host& host, const kl_transpose_experts_args& args) {
  host.parallel_for(
      host.self, args.experts,
      [](void* arg, uint32_t, uint32_t worker) {
        const auto& args = *static_cast<const kl_transpose_experts_args*>(arg);
        __atomic_fetch_add(&args.dst[worker < args.columns ? worker : args.columns], 1, __ATOMIC_RELAXED);
      },
      const_cast<kl_transpose_experts_args*>(&args));
  return KL_OK;
}

kl_status nest(const kl_host& host) {
  host.parallel_for(
      host.self, 4,
      [](void* arg, uint32_t, uint32_t) {
        const auto& host = *static_cast<const kl_host*>(arg);
        host.parallel_for(host.self, 4, [](void*, uint32_t, uint32_t) {}, nullptr);
      },
      const_cast<kl_host*>(&host));
  return KL_OK;
}

const kl_op table[] = {
    {"residual/probe", KL_OP_RESIDUAL, sizeof(kl_residual_args)},
    {"embed/probe", KL_OP_EMBED, PROBE_ARGS_SIZE},
    {"copy_rows/probe", KL_OP_COPY_ROWS, sizeof(kl_copy_rows_args)},
    {"transpose_experts/probe", KL_OP_TRANSPOSE_EXPERTS, sizeof(kl_transpose_experts_args)},
    {"mxfp4_dequantize/probe", KL_OP_MXFP4_DEQUANTIZE, sizeof(kl_mxfp4_dequantize_args)},
};

kl_status open(const kl_host* host, const kl_device* device, void* memory, kl_instance* out) {
  if (host->size != sizeof(kl_host) || device->size != sizeof(kl_device)) return KL_ABI_MISMATCH;
#ifdef PROBE_REFUSE
  host->report(host->self, "this probe opens nowhere");
  return KL_UNSUPPORTED;
#endif
  static_cast<Instance*>(memory)->host = *host;
  *out = static_cast<kl_instance>(memory);
  return KL_OK;
}

kl_status launch(kl_instance handle, uint32_t index, const void* args, const kl_context* context) {
  const kl_host& host = reinterpret_cast<const Instance*>(handle)->host;
  if (context->size != sizeof(kl_context)) return KL_ABI_MISMATCH;
  switch (index) {
    case 0: return scale(host, *static_cast<const kl_residual_args*>(args));
    case 1: return refuse(host);
    case 2: return wait(*static_cast<const kl_copy_rows_args*>(args));
    case 3: return workers(host, *static_cast<const kl_transpose_experts_args*>(args));
    default: return nest(host);
  }
}

kl_status close(kl_instance) { return KL_OK; }

const kl_api api = {PROBE_TABLE_SIZE, PROBE_ABI, sizeof(table) / sizeof(table[0]), 0, table, open, launch, close, sizeof(Instance)};

}  // namespace

#ifndef PROBE_NO_SYMBOL
extern "C" const kl_api* kl_get_api(uint32_t) { return &api; }
#endif
