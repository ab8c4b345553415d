import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultRequest, readMachineFacts, startEngine } from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import { loadKernels, openCache, parseLock } from "@kernlock/loader";
import { parsePolicy } from "@kernlock/policies/trust";
import { beforeAll, describe, expect, it } from "vitest";
import { root } from "../../scripts/project.ts";
import { type TestProject, testProject } from "../project.ts";

const hasStrace = spawnSync("strace", ["-V"]).status === 0;
let project: TestProject;
beforeAll(async () => {
  project = await testProject();
}, 300_000);

describe("the engine host runs sealed bytes only", () => {
  it("maps the sealed memory files and nothing of the cache", async () => {
    const loaded = await loadKernels({
      lock: parseLock(readFileSync(join(project.folder, "kernels.lock"))),
      policy: parsePolicy(readFileSync(join(project.folder, "kernels.policy.yaml"))),
      cache: openCache(join(project.folder, "cache")),
      machine: readMachineFacts(),
      now: new Date(),
    });
    const model = openModel(join(root, "models/dictionary"));
    const engine = await startEngine({ kernels: loaded.kernels, model, request: defaultRequest() });
    try {
      const maps = readFileSync(`/proc/${engine.pid}/maps`, "utf8").split("\n");
      const executable = maps.filter((line) => line.includes("memfd:kernlock") && / r-xp /.test(line));
      // A kernel that the plan does not need is not loaded: megablocks-moe here.
      const used = new Set(engine.plan.ops.map((op) => op.kernel));
      expect(executable.length).toBeGreaterThanOrEqual(used.size);
      expect(maps.filter((line) => line.includes("/blobs/sha256/"))).toEqual([]);
    } finally {
      await engine.close();
      model.close();
      loaded.close();
    }
  });

  it.skipIf(!hasStrace)("opens no path of the cache (needs strace)", () => {
    const log = join(mkdtempSync(join(tmpdir(), "kernlock-strace-")), "log");
    const launcher = join(root, "cli/bin/kernlock.cjs");
    const command = [process.execPath, launcher, "generate", "--model", join(root, "models/dictionary")];
    execFileSync(
      "strace",
      [
        "-f",
        "-e",
        "trace=open,openat,openat2,execve,clone,clone3,fork,vfork",
        "-s",
        "4096",
        "-o",
        log,
        ...command,
      ].concat(["--chat", "Define harbor.", "--greedy", "--json"]),
      { cwd: project.folder, stdio: ["ignore", "ignore", "pipe"] },
    );
    const lines = readFileSync(log, "utf8").split("\n");
    const host = hostThreads(lines);
    expect(host.size).toBeGreaterThan(1);
    const opened = (line: string): boolean => /\bopen(at|at2)?\(/.test(line) && line.includes("/blobs/sha256/");
    const cacheOpens = lines.filter(opened);
    // The parent does open the cache, so the test would see it.
    expect(cacheOpens.length).toBeGreaterThan(0);
    expect(cacheOpens.filter((line) => host.has(line.split(" ")[0] ?? ""))).toEqual([]);
    expect(lines.some((line) => host.has(line.split(" ")[0] ?? "") && line.includes("/proc/self/fd/"))).toBe(true);
  });
});

/** Ids of the host process and of every thread and process that it started. */
function hostThreads(lines: readonly string[]): Set<string> {
  const threads = new Set<string>();
  for (const line of lines) {
    const pid = line.split(" ")[0] ?? "";
    if (/execve\(.*engine\/host\/main\.ts/.test(line)) threads.add(pid);
    const child = /\b(?:clone3?|v?fork)\b.*= (\d+)$/.exec(line)?.[1];
    if (child !== undefined && threads.has(pid)) threads.add(child);
  }
  return threads;
}
