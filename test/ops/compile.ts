import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { VariantOp } from "@kernlock/kernels/format";
import { compile } from "../../kernels/build/compile.ts";
import { completeOps } from "../../kernels/build/complete.ts";
import { parseKernelSource } from "../../kernels/build/source.ts";
import { stage } from "../../kernels/build/stage.ts";
import { findToolchain } from "../../kernels/build/toolchain.ts";

const root = join(import.meta.dirname, "..", "..");
const kernels = join(root, "kernels");
const build = join(root, ".build", "ops");
const include = ["abi", "abi/generated", "include", "include/cpu"].map((folder) => join(kernels, folder));

export interface PackageSource {
  readonly ops: readonly VariantOp[];
  /** A descriptor of the CPU variant's shared object, compiled by the package builder. */
  open(): Promise<number>;
}

/** A package of this repository by its folder: the CPU variant of its kernel.json. */
export function packageSource(name: string): PackageSource {
  const folder = join(kernels, name);
  const source = parseKernelSource(readFileSync(join(folder, "kernel.json")));
  const variant = source.variants.find((candidate) => candidate.backend.kind === "cpu");
  const step = variant?.compile[0];
  if (variant === undefined || step?.language !== "c++") throw new Error(`${name} has no CPU variant.`);
  return {
    ops: completeOps(variant.ops, new Map()),
    open() {
      const files = [join(folder, "kernel.json"), ...sourcesIn(join(folder, "cpu"), ...include)];
      return kept(name, files, [], async () => {
        await using staged = await stage(folder, source);
        const options = { timeoutMs: 300_000 };
        return (await compile(staged, await findToolchain(), step, variant.backend, options)).bytes;
      });
    },
  };
}

/** A descriptor of a shared object made from one C++ file, with extra flags, for libraries that no package should be. */
export function compileFile(path: string, extra: readonly string[]): Promise<number> {
  const name = basename(path, ".cc");
  return kept(name, [path, ...sourcesIn(...include)], extra, async (temporary) => {
    const flags = [
      "-std=c++20",
      "-O2",
      "-fPIC",
      "-fvisibility=hidden",
      "-fno-exceptions",
      "-shared",
      "-nostdlib",
      "-s",
    ];
    const args = [...flags, ...extra, ...include.map((folder) => `-I${folder}`), "-o", temporary, path, "-lc"];
    const { status, stderr } = spawnSync("g++", args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${name} does not compile:\n${stderr}`);
    return readFileSync(temporary);
  });
}

/** Makes a file in `.build/ops`, or takes the one that was made of the same inputs, and opens it. */
async function kept(
  name: string,
  inputs: readonly string[],
  extra: readonly string[],
  make: (temporary: string) => Promise<Uint8Array>,
): Promise<number> {
  const hash = createHash("sha256").update(JSON.stringify(extra));
  for (const path of [...inputs, import.meta.filename, join(kernels, "build", "compile.ts")])
    hash.update(readFileSync(path));
  const target = join(build, `${name}-${hash.digest("hex").slice(0, 16)}.so`);
  if (!existsSync(target)) {
    mkdirSync(build, { recursive: true });
    const temporary = `${target}.${process.pid}`;
    writeFileSync(temporary, await make(temporary));
    renameSync(temporary, target);
  }
  return openSync(target, "r");
}

const sourcesIn = (...folders: string[]): string[] =>
  folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((file) => /\.(cc|h)$/.test(file))
      .sort()
      .map((file) => join(folder, file)),
  );
