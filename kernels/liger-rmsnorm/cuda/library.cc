// liger-rmsnorm for CUDA, mode bf16: what each op launches.
#include "cuda/library.h"
#include "params.h"

KL_IMAGE("liger-rmsnorm.cubin")

namespace {
using namespace kl;

constexpr KernelInfo kernels[] = {{"rmsnorm", 0}};

kl_status rmsnorm(const Instance& i, const Launcher& launch, const kl_rmsnorm_args& a) {
  if (a.dtype != KL_BF16 || (a.stream_dtype != KL_F32 && a.stream_dtype != KL_BF16)) {
    return i.refuse(KL_UNSUPPORTED, "rmsnorm: activations are bf16, the stream f32 or bf16.");
  }
  if (a.tokens == 0 || a.hidden == 0 || a.hidden % 8 != 0 || a.hidden > 8192) {
    return i.refuse(KL_INVALID, "rmsnorm: a size is out of its limits.");
  }
  if (!all_present(a.row_seq, a.x, a.weight, a.out)) return i.refuse(KL_INVALID, "rmsnorm: a pointer is missing.");
  return launch(0, {a.tokens}, 256, 0,
                NormParams{a.row_seq, a.x, a.weight, static_cast<uint16_t*>(a.out), a.hidden, a.stream_dtype == KL_F32, a.eps});
}

#define OPS(X) X(KL_OP_RMSNORM, rmsnorm, rmsnorm)
}  // namespace
KL_DEFINE_CUDA_LIBRARY(OPS)
