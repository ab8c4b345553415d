#include "core.h"

#define OPS(X)                                            \
  X(KL_OP_EMBED, embed, embed)                            \
  X(KL_OP_QKV_ROPE_KV, qkv_rope_kv, qkv_rope_kv)          \
  X(KL_OP_O_PROJ, o_proj, o_proj)                         \
  X(KL_OP_O_PROJ_RESIDUAL, o_proj_residual, o_proj_residual) \
  X(KL_OP_RESIDUAL, residual, residual)                   \
  X(KL_OP_ROUTER, router, router)                         \
  X(KL_OP_LM_HEAD, lm_head, lm_head)                      \
  X(KL_OP_SAMPLE, sample, sample)                         \
  X(KL_OP_COPY_ROWS, copy_rows, copy_rows)
KL_DEFINE_LIBRARY(OPS)
