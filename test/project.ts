/**
 * The project that tests across packages share: all five packages built, published to a registry, locked and fetched.
 * Made once for the sources as they are, then found again; several test processes may ask at once.
 */
import { createHash } from "node:crypto";
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  buildPackages,
  makeProject,
  makeWorkshop,
  publishPackages,
  root,
  startRegistry,
  type Workshop,
} from "../scripts/project.ts";

export interface TestProject {
  /** Holds kernels.json, kernels.lock, kernels.policy.yaml and cache/. Do not write to it: take a `copyProject`. */
  readonly folder: string;
  readonly workshop: Workshop;
}

const made = "made.json";

export async function testProject(): Promise<TestProject> {
  const home = join(root, ".build", "test-project", sourcesKey());
  const marker = join(home, made);
  while (!existsSync(marker)) {
    if (!claim(home)) {
      await sleep(200);
      continue;
    }
    rmSync(join(home, "work"), { recursive: true, force: true });
    const workshop = await makeWorkshop(join(home, "work"));
    await buildPackages(workshop);
    const registry = await startRegistry(workshop.registryData);
    try {
      await publishPackages(workshop, registry.origin);
      await makeProject(join(home, "project"), readFileSync(workshop.policy, "utf8"), registry.origin);
    } finally {
      await registry.stop();
    }
    writeFileSync(`${marker}.new`, JSON.stringify(workshop));
    renameSync(`${marker}.new`, marker);
  }
  return { folder: join(home, "project"), workshop: JSON.parse(readFileSync(marker, "utf8")) as Workshop };
}

/** A copy that a test may damage. */
export function copyProject(project: TestProject): string {
  const copy = mkdtempSync(join(tmpdir(), "kernlock-project-"));
  cpSync(project.folder, copy, { recursive: true });
  return copy;
}

/** True for the one process that shall make it; a claim whose owner is gone is taken over. */
function claim(home: string): boolean {
  mkdirSync(home, { recursive: true });
  const owner = join(home, "owner");
  try {
    mkdirSync(owner);
  } catch {
    const pid = existsSync(join(owner, "pid")) ? Number(readFileSync(join(owner, "pid"), "utf8")) : 0;
    const young = Date.now() - (statSync(owner, { throwIfNoEntry: false })?.mtimeMs ?? 0) < 2000;
    if (young || (pid > 0 && alive(pid))) return false;
    rmSync(owner, { recursive: true, force: true });
    return false;
  }
  writeFileSync(join(owner, "pid"), `${process.pid}`);
  return true;
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

function sourcesKey(): string {
  const hash = createHash("sha256");
  const files = ["kernels", "policies", "loader", "registry-server", "cli", "scripts"].flatMap((area) =>
    globSync(`${area}/**/*.{ts,cjs,json,h,cc,md,sql}`, {
      cwd: root,
      exclude: (name) => name === "node_modules" || name === "test" || name === "build" || name.endsWith("/build"),
    }),
  );
  for (const file of files.sort()) hash.update(`${file}\0`).update(readFileSync(join(root, file)));
  return hash.digest("hex").slice(0, 16);
}
