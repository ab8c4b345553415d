/**
 * Runs a command where the fake driver is the system's: in a mount namespace of its own, in which root has put the library
 * into a system folder and a `nvidia-smi` beside it. Nothing outside of that process sees it. By hand, for a whole command
 * of a portable folder or of this repository: `node test/gpu/fake/namespace.ts kernlock bench gpu --device cuda …`
 */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fakeDriverIn } from "./control.ts";

const smi = `#!/bin/sh
case "$1" in
  --query-gpu*) echo "0, Fake H100, 9.0, 81559, 81000, 580.0" ;;
  *) echo "CUDA Version : 13.0" ;;
esac
`;

/** Whether this process may make one. */
export const canUseNamespace = (): boolean =>
  process.getuid?.() === 0 && spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "none", "/opt"]).status === 0;

export function inNamespace(
  command: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv; readonly show?: boolean } = {},
): SpawnSyncReturns<string> {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-namespace-"));
  try {
    fakeDriverIn(folder);
    const script = join(folder, "nvidia-smi");
    writeFileSync(script, smi);
    chmodSync(script, 0o755);
    const steps = [
      "set -e",
      "mount -t tmpfs -o mode=755 none /opt",
      "mount -t tmpfs -o mode=755 none /run",
      "mkdir -p /opt/bin /run/opengl-driver/lib",
      'cp "$1/nvidia-smi" /opt/bin/',
      'cp "$1/libcuda.so.1" "$1/state" /run/opengl-driver/lib/',
      "shift",
      'exec "$@"',
    ];
    return spawnSync("unshare", ["-m", "sh", "-c", steps.join("\n"), "sh", folder, ...command], {
      encoding: "utf8",
      maxBuffer: 1 << 26,
      ...(options.show === true ? { stdio: "inherit" } : {}),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: options.env }),
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) process.exitCode = inNamespace(process.argv.slice(2), { show: true }).status ?? 1;
