/** Makes a portable folder: Node, the command, native code, kernels, lock and policy, and a signed list of all of it. */
import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { nativePaths } from "@kernlock/engine";
import { fail } from "@kernlock/kernels/format";
import { type Lock, memoryAddonPath } from "@kernlock/loader";
import { parsePolicy, type Signer } from "@kernlock/policies/trust";
import { approvalsPath } from "../policies.ts";
import type { Project } from "../project.ts";
import { alwaysFacts, deliveredName, ownFiles, packageFacts, packagesIn } from "./contents.ts";
import { describe, manifestName, signatureName, signManifest } from "./manifest.ts";
import { bundleProgram, isBundled } from "./program.ts";

/** Uses nothing but what every POSIX shell has built in: the folder runs where PATH is empty. */
const starter = `#!/bin/sh
case $0 in */*) here=\${0%/*} ;; *) here=. ;; esac
here=$(cd "$here" && pwd -P) || exit 1
KERNLOCK_PROJECT=\${KERNLOCK_PROJECT:-$here/project}
export KERNLOCK_PROJECT
exec "$here/runtime/node" "$here/app/cli/main.js" "$@"
`;

export interface PortableOptions {
  /** Root of this program: the folder above `cli`. */
  readonly root: string;
  readonly version: string;
  readonly project: Project;
  readonly lock: Lock;
  readonly signer: Signer;
  /** An empty or missing folder. */
  readonly out: string;
  readonly onProgress: (line: string) => void;
}

/** Returns how many files the folder has. The project has been verified. @throws KL_ADDON_*, KL_PORTABLE_* */
export async function makePortable({
  root,
  version,
  project,
  lock,
  signer,
  out,
  onProgress,
}: PortableOptions): Promise<number> {
  const app = join(out, "app");
  onProgress("bundling the command");
  const bundled = isBundled(root);
  const packages = bundled ? packagesIn(root) : await bundleProgram(root, app);
  const always = alwaysFacts.map((name) => join(root, "node_modules", name));
  const facts = packageFacts(root, new Set([...packages, ...always]));
  for (const { from, to } of [...ownFiles(root, bundled), ...facts]) copy(from, join(app, to));
  copy(join(root, "package.json"), join(app, "package.json"));
  const licence = join(root, ...(bundled ? [".."] : []), "LICENSE");
  if (existsSync(licence)) copy(licence, join(out, "LICENSE"));
  onProgress("building native code");
  for (const path of [memoryAddonPath(), ...nativePaths()]) {
    copy(path, join(app, path.slice(root.length + 1), "..", deliveredName(path)));
  }
  onProgress("copying the runtime");
  copyRuntime(join(out, "runtime"));
  onProgress("copying kernels, lock and policy");
  copyProject(project, lock, join(out, "project"));
  writeFileSync(join(out, "kernlock"), starter);
  chmodSync(join(out, "kernlock"), 0o755);
  const files = describe(out);
  const { manifest, signature } = await signManifest(version, files, signer);
  writeFileSync(join(out, manifestName), manifest);
  writeFileSync(join(out, signatureName), signature);
  return files.length;
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

/** The Node that runs this very command, without the symbols that only debuggers read where `strip` is there to take them off. */
function copyRuntime(folder: string): void {
  const target = join(folder, "node");
  copy(process.execPath, target);
  chmodSync(target, 0o755);
  const stripped = spawnSync("strip", [target]);
  const works = stripped.status === null || spawnSync(target, ["--version"]).status === 0;
  if (!works)
    fail("KL_PORTABLE_RUNTIME", "The copied Node does not run.", { remedy: "Free disk space and try again." });
  const places = [dirname(process.execPath), join(dirname(process.execPath), "..")];
  const licence = places.map((place) => join(place, "LICENSE")).find((path) => existsSync(path));
  if (licence !== undefined) copy(licence, join(folder, "LICENSE"));
}

/** Everything that the lock pins; not what else the cache holds. */
function copyProject(project: Project, lock: Lock, folder: string): void {
  for (const [from, name] of [
    [project.lock, "kernels.lock"],
    [project.policy, "kernels.policy.yaml"],
    [project.manifest, "kernels.json"],
  ] as const) {
    if (existsSync(from)) copy(from, join(folder, name));
  }
  const blobs = join("blobs", "sha256");
  for (const digest of pinnedDigests(lock)) {
    const name = digest.slice("sha256:".length);
    copy(join(project.cache, blobs, name), join(folder, "cache", blobs, name));
  }
  copyEvidence(project.policy, folder);
  const trust = join(project.folder, "trust");
  if (existsSync(trust)) cpSync(trust, join(folder, "trust"), { recursive: true });
}

/** What lies beside a policy and counts: signatures, exceptions, feeds from files. Feeds from URLs are fetched where it runs. */
function copyEvidence(policy: string, folder: string): void {
  const approvals = approvalsPath(policy);
  if (existsSync(approvals)) copy(approvals, approvalsPath(join(folder, "kernels.policy.yaml")));
  const exceptions = join(dirname(policy), "kernels.exceptions");
  if (existsSync(exceptions)) cpSync(exceptions, join(folder, "kernels.exceptions"), { recursive: true });
  for (const { location } of parsePolicy(readFileSync(policy)).feeds) {
    const from = "file" in location ? join(dirname(policy), location.file) : undefined;
    if ("file" in location && from !== undefined && existsSync(from)) copy(from, join(folder, location.file));
  }
}

/** Digests of blobs in a lock; whatever else has the form of one and is no blob is not in the cache and passed over. */
function pinnedDigests(lock: Lock): string[] {
  const found = new Set<string>();
  const walk = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    if ("digest" in value && "size" in value && typeof value.digest === "string") found.add(value.digest);
    for (const inner of Object.values(value)) walk(inner);
  };
  walk(lock.kernels);
  return [...found].sort();
}
