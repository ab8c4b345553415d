#include "attention.h"

#define OPS(X)                                \
  X(KL_OP_ATTN_PREFILL, attn_prefill, attn_prefill) \
  X(KL_OP_ATTN_DECODE, attn_decode, attn_decode)
KL_DEFINE_LIBRARY(OPS)
