#!/bin/sh
# From the start of a process to its first token, with weights read in several ways: which number of threads, which pieces.
# Nothing but a portable folder and a checkpoint is used (`kernlock make-model`); its files should fit the page cache.
#
#   test/gpu/start.sh PORTABLE MODEL RESULTS [RUNS]     # default 3 runs of each, of which the fastest is printed
#
# Prints a line for each setting: milliseconds to the token, of these reading weights (of which copies waited for the files,
# readers for the device), opening the GPU, imports.
set -u
here=$1 model=$2 out=$3 runs=${4:-3}
mkdir -p "$out"
printf "%-36s %9s %9s %9s %9s %9s %9s\n" setting token weights files device context imports
measure() {
  name=$(echo "$*" | tr -d ' -')
  best=
  for run in $(seq "$runs"); do
    file=$out/start-${name:-default}-$run.json
    "$here/kernlock" bench start --model "$model" --device cuda --json "$@" >"$file" 2>"$out/start.err" || { cat "$file"; return; }
  done
  "$here/runtime/node" -e '
    const { readFileSync } = require("node:fs");
    const runs = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file)));
    const best = runs.sort((a, b) => a.ms - b.ms)[0];
    const part = (name) => (best.timeline.find((one) => one.name === name)?.ms ?? NaN).toFixed(0).padStart(9);
    const names = ["host: weights", "host: (in the weights: waited for the files)", "host: (in the weights: waited for the device)", "host: driver and context", "process and imports"];
    console.log(process.argv[1].padEnd(36), best.ms.toFixed(0).padStart(9), names.map(part).join(" "));
  ' -- "${*:-as it is}" "$out/start-${name:-default}"-*.json
}
measure
for readers in 4 8 12 24; do measure --readers "$readers"; done
for part in 256 512 1024 4096; do measure --part-kib "$part"; done
measure --slots 3 --slot-mib 48
measure --slots 6 --slot-mib 24
measure --slots 16 --slot-mib 24
measure --slots 8 --slot-mib 8 --part-kib 512
measure --slots 8 --slot-mib 4 --part-kib 512
measure --slots 16 --slot-mib 2 --part-kib 256
measure
"$here/kernlock" bench start --model "$model" --device cuda
