#!/bin/sh
# Builds the CUDA variants into .build/gpu: one cubin and one shared object a package. build.sh [PACKAGE ...]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
mkdir -p .build/gpu
KERNLOCK_CUDA=$(npm run --silent toolchain -- nvcc)/nvidia/cu13
export KERNLOCK_CUDA
[ $# -gt 0 ] || set -- transformer-core liger-rmsnorm fa3-sinks megablocks-moe mxfp4
for package in "$@"; do
  source=$(ls kernels/$package/cuda/*.cu)
  scripts/cuda/compile.sh "$source" ".build/gpu/$package.cubin" > ".build/gpu/$package.log" 2>&1 || { cat ".build/gpu/$package.log"; exit 1; }
  gcc -std=c++20 -O2 ${KL_DEFINES:-} -fPIC -shared -fvisibility=hidden -fno-exceptions -fno-rtti -nostartfiles -Wall -Wextra \
    -I kernels/include -I kernels/abi -I kernels/abi/generated -Wa,-I,.build/gpu \
    -Wl,--build-id=none,-z,relro,-z,now,-z,noexecstack,-Bsymbolic -s -o ".build/gpu/$package.so" "kernels/$package/cuda/library.cc"
  echo "$package: $(stat -c %s .build/gpu/$package.so) bytes"
  grep -B3 "bytes spill" ".build/gpu/$package.log" | awk '/Compiling entry/ { name = $6 } /spill stores/ && !/ 0 bytes spill stores/ { print "  spills:", name, $0 }' || true
done
