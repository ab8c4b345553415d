#include "mxfp4_ops.h"

#define OPS(X)                                      \
  X(KL_OP_MOE, moe, moe)                            \
  X(KL_OP_MOE_RESIDUAL, moe_residual, moe_residual) \
  X(KL_OP_MXFP4_DEQUANTIZE, mxfp4_dequantize, mxfp4_dequantize)
KL_DEFINE_LIBRARY(OPS)
