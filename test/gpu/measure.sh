#!/bin/sh
# Everything that is to be known about a GPU, from a portable folder and into a folder of results: checks first, figures after
# them, the longest last. Nothing but the portable folder is used. What fails is noted, and the rest goes on.
#
#   test/gpu/measure.sh PORTABLE RESULTS [SECONDS]     # what is left of SECONDS (default 1500) decides what still runs
#
# SHAPE (default gpt-oss-20b), LARGE (default gpt-oss-120b; empty: leave it out), DEVICE (default cuda), SCRATCH for a
# checkpoint of SHAPE (default: none is made, weights lie in memory), and MORE (flags for `bench gpu`).
set -u
here=$1 out=$2 limit=${3:-1500}
shape=${SHAPE-gpt-oss-20b} large=${LARGE-gpt-oss-120b} device=${DEVICE-cuda} scratch=${SCRATCH-} more=${MORE-}
mkdir -p "$out"
began=$(date +%s)

step() { # name, seconds that it may need, arguments of kernlock
  name=$1 need=$2
  shift 2
  now=$(($(date +%s) - began))
  if [ $((now + need)) -gt "$limit" ]; then
    echo "$name: left out, $now of $limit s are gone" | tee -a "$out/summary"
    return
  fi
  timeout "$need" "$here/kernlock" "$@" >"$out/$name.out" 2>"$out/$name.err"
  code=$?
  echo "$name: exit $code, $(($(date +%s) - began - now)) s" | tee -a "$out/summary"
}

step doctor 60 doctor --json
step selftest-ops 400 selftest --device "$device" --json
if [ -n "$scratch" ]; then
  step make-model 300 make-model "$scratch/model" --shape "$shape"
  model="--model $scratch/model"
else
  model="--shape $shape"
fi
# shellcheck disable=SC2086
step gpu 420 bench gpu $model --device "$device" --json $more
step op 300 bench op --shape "$shape" --device "$device" --json
# shellcheck disable=SC2086
step gpu-bf16 300 bench gpu $model --device "$device" --kernel moe=megablocks-moe --allow-dequant --no-loading --no-starts --quick --json $more
# shellcheck disable=SC2086
step gpu-waiting 200 bench gpu $model --device "$device" --no-ahead --no-loading --no-starts --quick --json $more
step profile 240 bench profile --shape "$shape" --device "$device" --batch 8 --prompt 512 --new 64 --json
if [ -n "$large" ]; then
  # shellcheck disable=SC2086
  step gpu-large 300 bench gpu --shape "$large" --device "$device" --batch 1,8 --no-starts --quick --json $more
fi
cat "$out/summary"
