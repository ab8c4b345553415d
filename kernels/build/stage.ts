import { constants } from "node:fs";
import { mkdir, mkdtemp, open, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type Digest, digestOf, fail, isFilePath, shown } from "../format/index.ts";
import { type KernelSource, sourcesOf } from "./source.ts";
import { sourceDateEpoch } from "./toolchain.ts";

/** A private folder with copies of all inputs under fixed relative names: `src/…` the package's, `include/…` Kernlock's. */
export interface Stage {
  readonly folder: string;
  /** Digest of each staged file by its relative name. */
  readonly inputs: ReadonlyMap<string, Digest>;
  readonly abiBuild: Digest;
  [Symbol.asyncDispose](): Promise<void>;
}

const headerEnding = /\.(h|hpp|inc|cuh)$/;
const kernels = join(import.meta.dirname, "..");
/** What a build takes from outside the package's folder. */
export const sharedInputs = {
  include: join(kernels, "include"),
  header: join(kernels, "abi", "kernlock.h"),
  ops: join(kernels, "abi", "generated", "ops.h"),
} as const;

/** Throws `KL_BUILD_FILE`, `KL_BUILD_UPSTREAM`. */
export async function stage(packageFolder: string, source: KernelSource): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), "kernlock-build-"));
  const inputs = new Map<string, Digest>();
  const dispose = () => rm(folder, { recursive: true, force: true });
  const put = async (name: string, bytes: Uint8Array) => {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await writeFile(path, bytes, { mode: 0o600 });
    // __TIMESTAMP__ is the file's date.
    await utimes(path, sourceDateEpoch, sourceDateEpoch);
    inputs.set(name, digestOf(bytes));
  };
  try {
    for (const name of ["src", "include", "obj", "img", "out", "tmp"]) await mkdir(join(folder, name), { mode: 0o700 });
    const header = await readInput(sharedInputs.header, "kernlock.h");
    const ops = await readInput(sharedInputs.ops, "ops.h");
    await put("include/kernlock.h", header);
    await put("include/ops.h", ops);
    for (const path of await headersBelow(sharedInputs.include)) {
      await put(`include/${path}`, await readInput(join(sharedInputs.include, path), path));
    }
    const sources = source.variants.flatMap((v) => v.compile.flatMap(sourcesOf));
    const upstream = source.upstream.map((u) => u.path);
    const wanted = new Set([...sources, ...upstream, ...(await headersBelow(packageFolder))]);
    for (const path of [...wanted].sort()) {
      const bytes = await readInput(join(packageFolder, path), path);
      const pinned = source.upstream.find((u) => u.path === path);
      if (pinned !== undefined && digestOf(bytes) !== pinned.digest) {
        fail("KL_BUILD_UPSTREAM", `The upstream file ${shown(path)} does not have the digest that kernel.json pins.`, {
          remedy: "Take it anew from its source, or review the change and pin the new digest.",
          details: { url: pinned.url, wanted: pinned.digest, is: digestOf(bytes) },
        });
      }
      await put(`src/${path}`, bytes);
    }
    const abiBuild = digestOf(Buffer.concat([header, ops]));
    return { folder, inputs, abiBuild, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** A plain file, at most 64 MiB; links are refused, so that nothing from elsewhere comes in. */
export async function readInput(path: string, name: string): Promise<Uint8Array> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((cause) =>
    fail("KL_BUILD_FILE", `The file ${shown(name)} is missing or a link.`, { cause }),
  );
  try {
    const facts = await file.stat();
    if (!facts.isFile() || facts.size > 64 << 20)
      fail("KL_BUILD_FILE", `${shown(name)} is not a plain file of at most 64 MiB.`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

/** Headers below a folder, as sorted relative names; links and hidden folders are passed over. */
async function headersBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (below: string) => {
    const entries = await readdir(join(folder, below), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const name = below === "" ? entry.name : `${below}/${entry.name}`;
      if (!isFilePath(name) || entry.name === "node_modules" || entry.name === "test") continue;
      if (entry.isDirectory()) await walk(name);
      else if (entry.isFile() && headerEnding.test(name)) found.push(name);
    }
  };
  await walk("");
  return found.sort();
}
