#include "megablocks.h"

#define OPS(X)                              \
  X(KL_OP_MOE, moe, moe)                    \
  X(KL_OP_MOE_RESIDUAL, moe_residual, moe_residual) \
  X(KL_OP_TRANSPOSE_EXPERTS, transpose_experts, transpose_experts)
KL_DEFINE_LIBRARY(OPS)
