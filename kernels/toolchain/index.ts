/**
 * The compilers of CUDA and Triton variants: Python wheels, pinned by digest in `cuda.lock.json`, fetched by pip and
 * unpacked into a folder named after their digests. Once they are there nothing asks the network.
 */
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runProgram } from "../build/process.ts";
import { digestFile } from "../build/toolchain.ts";
import { type Digest, digestHex, digestOf, fail } from "../format/index.ts";
import { readToolchainLock, type SetName, type Wheel } from "./lock.ts";
import { findPython } from "./python.ts";

export { readToolchainLock, type SetName, setNames, type Wheel } from "./lock.ts";
export { findPython } from "./python.ts";

export interface ProvisionedSet {
  readonly name: SetName;
  /** Where the wheels are unpacked. */
  readonly folder: string;
  readonly wheels: readonly Wheel[];
}

export interface ProvisionOptions {
  readonly onProgress?: ((line: string) => void) | undefined;
}

/** `KERNLOCK_TOOLCHAIN`, else a folder of the source tree that git ignores. */
const home = () => process.env.KERNLOCK_TOOLCHAIN || join(import.meta.dirname, "..", "..", ".build", "toolchain");
const known = new Map<string, Promise<ProvisionedSet>>();

/**
 * A set of wheels, unpacked and checked file by file against the lock; fetched first where it is missing.
 * Once a process. Throws `KL_BUILD_TOOLCHAIN`.
 */
export function provision(name: SetName, options: ProvisionOptions = {}): Promise<ProvisionedSet> {
  const key = `${home()} ${name}`;
  const promise = known.get(key) ?? makeSet(name, options);
  known.set(key, promise);
  promise.catch(() => known.delete(key));
  return promise;
}

/** Whether a set is unpacked already. */
export async function isProvisioned(name: SetName): Promise<boolean> {
  return (await stat(folderOf(name)).catch(() => undefined))?.isDirectory() === true;
}

function folderOf(name: SetName): string {
  const { wheels } = readToolchainLock().sets[name];
  const digest = digestOf(wheels.map((w) => `${digestHex(w.digest)}  ${w.file}\n`).join(""));
  return join(home(), `${name}-${digestHex(digest).slice(0, 16)}`);
}

async function makeSet(name: SetName, { onProgress }: ProvisionOptions): Promise<ProvisionedSet> {
  const lock = readToolchainLock();
  const { wheels, tree } = lock.sets[name];
  const folder = folderOf(name);
  if (!(await isProvisioned(name))) {
    onProgress?.(`fetch ${wheels.map((w) => `${w.name} ${w.version}`).join(", ")}`);
    await mkdir(home(), { recursive: true });
    const work = await mkdtemp(join(home(), "new-"));
    try {
      const files = await download(wheels, lock.python, work);
      const unpacked = join(work, "tree");
      await mkdir(unpacked);
      const python = await findPython();
      const args = ["-I", join(import.meta.dirname, "unpack.py"), unpacked, ...files];
      const run = await runProgram(python, args, { env: { LC_ALL: "C.UTF-8" }, timeoutMs: 600_000 });
      if (run.status !== 0) refuse(`The wheels of ${name} cannot be unpacked`, run.stderr);
      await rename(unpacked, folder).catch(async (error) => {
        // Another build was faster.
        if (!(await isProvisioned(name))) throw error;
      });
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }
  const is = await treeDigest(folder);
  if (is !== tree) {
    fail("KL_BUILD_TOOLCHAIN", `The unpacked toolchain ${name} has other bytes than cuda.lock.json says.`, {
      remedy: `Remove ${folder} and build again.`,
      details: { folder, wanted: tree, is },
    });
  }
  return { name, folder, wheels };
}

async function download(wheels: readonly Wheel[], python: string, work: string): Promise<string[]> {
  const requirements = join(work, "requirements.txt");
  const lines = wheels.map((w) => `${w.name}==${w.version} --hash=sha256:${digestHex(w.digest)}\n`);
  await writeFile(requirements, lines.join(""));
  const target = [
    ...["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64", "manylinux2010_x86_64"].flatMap(
      (platform) => ["--platform", platform],
    ),
    ...["--python-version", python, "--implementation", "cp"],
  ];
  const args = [
    ...["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"],
    ...target,
    ...["--dest", work, "--requirement", requirements],
  ];
  // pip is the caller's own, with the caller's settings: which index it asks is not ours to say. The digests decide.
  const env = Object.fromEntries(Object.entries(process.env).filter((e): e is [string, string] => e[1] !== undefined));
  const run = await runProgram(await findPython(), args, { env, timeoutMs: 1_800_000 });
  if (run.status !== 0) refuse("pip cannot fetch the CUDA toolchain's wheels", run.stderr);
  const files = [];
  for (const w of wheels) {
    const path = join(work, w.file);
    const digest = await digestFile(path).catch(() => undefined);
    if (digest !== w.digest) refuse(`pip fetched another file than ${w.file}`, digest ?? "");
    files.push(path);
  }
  return files;
}

function refuse(what: string, why: string): never {
  return fail("KL_BUILD_TOOLCHAIN", `${what}.`, {
    remedy: "CUDA variants need Python 3 with pip, and on the first build a package index that serves these wheels.",
    details: { output: why.slice(-2000) },
  });
}

/** Over lines of `<hex>  <path>` of all files, sorted by path. */
export async function treeDigest(folder: string): Promise<Digest> {
  const names: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const name = join(entry.parentPath, entry.name).slice(folder.length + 1);
    if (entry.isDirectory()) continue;
    if (!entry.isFile()) fail("KL_BUILD_TOOLCHAIN", `The toolchain's folder holds something that is no file: ${name}.`);
    names.push(name);
  }
  names.sort();
  const digests = new Array<Digest>(names.length);
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < names.length; i = next++) digests[i] = await digestFile(join(folder, names[i]!));
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return digestOf(names.map((name, i) => `${digestHex(digests[i]!)}  ${name}\n`).join(""));
}
