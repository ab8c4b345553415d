/** What the experiments share: servers that are processes of their own, counts from the environment, figures. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdirSync } from "node:fs";
import { loadavg } from "node:os";
import { join, resolve } from "node:path";
import { openAdmin, type RegistryOptions } from "@kernlock/registry-server";
import { onTestFinished } from "vitest";
import { serveFlags } from "../../../registry-server/node-flags.ts";
import { newKey, policyFor, type TestKey } from "../../../registry-server/test/material.ts";

const root = resolve(import.meta.dirname, "../../..");

/** A count that the environment may set, so that the same experiment runs short and long. */
export function count(name: string, fallback: number): number {
  const text = process.env[`KERNLOCK_${name}`];
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!(value > 0)) throw new Error(`KERNLOCK_${name} is not a positive number`);
  return value;
}

/** One line a figure, also in test-results/chaos.jsonl, with the load of the machine (5 minutes) when it was taken. */
export function report(experiment: string, figures: Record<string, unknown>): void {
  const line = JSON.stringify({
    experiment,
    ...figures,
    load: Math.round(loadavg()[1]!),
    at: new Date().toISOString(),
  });
  console.log(line);
  mkdirSync(join(root, "test-results"), { recursive: true });
  appendFileSync(join(root, "test-results", "chaos.jsonl"), `${line}\n`);
}

export interface Server {
  readonly origin: string;
  readonly process: ChildProcess;
  kill(): Promise<void>;
}

/** With `descriptors` it may open no more files and sockets than that. */
export async function startServer(
  options: RegistryOptions,
  { env = {}, descriptors }: { env?: Record<string, string>; descriptors?: number } = {},
): Promise<Server> {
  const index = join(root, "registry-server", "index.ts");
  // Flags and compiled code as the launcher has them: memory is measured as it is served.
  const code = `import { flushCompileCache } from "node:module";
    import { serve } from ${JSON.stringify(index)};
    console.log((await serve(JSON.parse(process.argv[1]))).origin);
    flushCompileCache();`;
  const node = [process.execPath, ...serveFlags, "--input-type=module", "-e", code, JSON.stringify(options)];
  const limited = descriptors === undefined ? node : ["sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh", ...node];
  const child = spawn(limited[0]!, limited.slice(1), {
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, NODE_COMPILE_CACHE: join(root, ".build", "compiled"), ...env },
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const origin = String((await once(child.stdout, "data"))[0]).trim();
  return {
    origin,
    process: child,
    async kill() {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      await gone;
    },
  };
}

/** Limits that no experiment meets by accident. */
export const unlimited = { read: 1e9, write: 1e9, login: 1e9 } as const;

export async function prepare(dataFolder: string): Promise<{ key: TestKey; write: string }> {
  const admin = await openAdmin({ dataFolder });
  const key = newKey();
  await admin.createNamespace({ name: "acme", policy: policyFor(key) });
  const { token } = await admin.createToken({ namespace: "acme", role: "publisher" });
  await admin.close();
  return { key, write: token };
}

export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? 0;
}
