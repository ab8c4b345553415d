/**
 * Programs of others that the registry is tested with, built from the Go module proxy once and kept. Run as a script,
 * it builds those that are missing: `node test/registry/services/tools.ts [name…]`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dirname, "../../..");
export const toolsFolder = process.env.KERNLOCK_TOOLS ?? join(root, ".build", "tools");

const tools = {
  conformance: "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111",
  versitygw: "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
} as const;

/** Path of the program, built if need be; undefined where it cannot be had. */
export function tool(name: keyof typeof tools): string | undefined {
  const path = join(toolsFolder, name);
  if (existsSync(path)) return path;
  mkdirSync(toolsFolder, { recursive: true });
  const built = spawnSync("go", ["install", "-trimpath", "-ldflags", "-s -w", tools[name]], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, GOBIN: toolsFolder },
  });
  return built.status === 0 ? path : undefined;
}

if (import.meta.main) {
  const wanted = process.argv.slice(2);
  for (const name of Object.keys(tools) as (keyof typeof tools)[]) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const path = tool(name);
    console.log(`${name}: ${path ?? "not to be had"}`);
    if (path === undefined) process.exitCode = 1;
  }
}
