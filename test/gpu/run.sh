#!/bin/sh
# On a machine with a GPU: run.sh check | smoke | sanitize | bench [decode|prefill|dense]. Needs only what build.sh and scripts/cuda/build.sh left
# in .build/gpu, and a driver (sanitize: compute-sanitizer on the PATH or in /usr/local/cuda/bin).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
export PATH=$PATH:/usr/local/cuda/bin
if [ "$1" = sanitize ]; then
  for tool in memcheck racecheck; do
    echo "== $tool"
    compute-sanitizer --tool $tool --print-limit 20 .build/gpu/harness .build/gpu smoke
  done
else
  exec .build/gpu/harness .build/gpu "$@"
fi
