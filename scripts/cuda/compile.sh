#!/bin/sh
# One .cu to one cubin with the pinned nvcc: compile.sh SOURCE OUTPUT [ARCH]. Prints registers, shared memory and spills.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
arch=${3:-90a}
toolkit=${KERNLOCK_CUDA:-$(npm run --silent toolchain -- nvcc)/nvidia/cu13}
"$toolkit/bin/nvcc" -std=c++20 -O3 -gencode=arch=compute_$arch,code=sm_$arch \
  ${KL_DEFINES:-} -Xptxas -v -I kernels/include -I kernels/abi -I kernels/abi/generated -cubin -o "$2" "$1"
