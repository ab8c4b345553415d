#!/bin/sh
# confine.sh build: compiles both programs into .build/gpu-confine. confine.sh run, on a machine with a GPU: starts the check
# with what the engine host may open there.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/.build/gpu-confine
if [ "$1" = build ]; then
  mkdir -p "$out"
  for source in engine/confine/native/starter.cc test/gpu/confine.cc; do
    g++ -std=c++20 -O2 -Wall -Wextra -D_GNU_SOURCE -static-libstdc++ -static-libgcc "$root/$source" \
      -o "$out/$(basename "$source" .cc)" -pthread -ldl -Wl,--as-needed
  done
  node -e 'const { allowedToHost } = await import(process.argv[1]);
    const { read, write, devices } = allowedToHost(true);
    const outside = (path) => !path.startsWith(process.argv[2]);
    console.log([...read.filter(outside).map((p) => `-r ${p}`), ...write.map((p) => `-w ${p}`), ...devices.map((p) => `-d ${p}`)].join(" "));
  ' --input-type=module "$root/engine/confine/allowed.ts" "$root" > "$out/rules"
else
  devices=$(for device in /dev/nvidia*; do printf -- '-d %s ' "$device"; done)
  "$out/starter" --probe
  # shellcheck disable=SC2046,SC2086
  "$out/starter" --parent $$ --descriptors 3 $(cat "$out/rules") $devices \
    -x /lib64/ld-linux-x86-64.so.2 -x "$out/confine" -- "$out/confine"
fi
