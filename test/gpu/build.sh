#!/bin/sh
# Builds the harness into .build/gpu/harness.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
mkdir -p .build/gpu
toolkit=$(npm run --silent toolchain -- nvcc)/nvidia/cu13
g++ -std=c++20 -O2 -march=x86-64-v3 -Wall -Wextra -Wno-missing-field-initializers -I kernels/abi -I kernels/abi/generated \
  -I "$toolkit/include" -o .build/gpu/harness test/gpu/harness.cc -ldl -lpthread
