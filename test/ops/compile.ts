import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join, relative } from "node:path";
import type { VariantOp } from "../../kernels/format/index.ts";
import { variantParts } from "../../kernels/format/variant.ts";

const root = join(import.meta.dirname, "..", "..");
const kernels = join(root, "kernels");
const flags = [
  ..."-std=c++20 -O3 -march=x86-64-v3 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -ffp-contract=fast".split(
    " ",
  ),
  ..."-shared -nostdlib -s".split(" "),
  "-Wl,--build-id=none,-z,relro,-z,now,-z,noexecstack,-Bsymbolic",
];

interface KernelJson {
  readonly variants: readonly { variant: string; compile: { sources: string[]; flags?: string[] }[]; ops: unknown[] }[];
}

/** A descriptor of a shared object compiled from C++ files, kept in `.build/ops` as long as nothing it is made of changes. */
export function compileLibrary(name: string, sources: readonly string[], extra: readonly string[] = []): number {
  const include = ["abi", "abi/generated", "include"].map((folder) => join(kernels, folder));
  const hash = createHash("sha256").update(JSON.stringify([flags, extra, sources.map((path) => relative(root, path))]));
  const folders = new Set([...sources.map((path) => join(path, "..")), ...include, join(kernels, "include", "cpu")]);
  for (const folder of folders) {
    for (const file of readdirSync(folder)
      .filter((file) => /\.(cc|cpp|h|hpp)$/.test(file))
      .sort()) {
      hash.update(readFileSync(join(folder, file)));
    }
  }
  const build = join(root, ".build", "ops");
  const target = join(build, `${name}-${hash.digest("hex").slice(0, 16)}.so`);
  if (!existsSync(target)) {
    mkdirSync(build, { recursive: true });
    const temporary = `${target}.${process.pid}`;
    const args = [
      ...flags,
      ...extra,
      ...include.map((path) => `-I${path}`),
      "-o",
      temporary,
      ...sources,
      "-Wl,--as-needed",
      "-lm",
      "-lc",
      "-lgcc",
    ];
    const { status, stderr } = spawnSync("g++", args, { encoding: "utf8" });
    if (status !== 0) throw new Error(`${name} does not compile:\n${stderr}`);
    renameSync(temporary, target);
  }
  return openSync(target, "r");
}

export interface PackageSource {
  readonly name: string;
  readonly ops: readonly VariantOp[];
  /** Compiles the CPU variant and opens the result. */
  open(): number;
}

/** A package of this repository by its folder: the CPU variant of its kernel.json. */
export function packageSource(name: string): PackageSource {
  const folder = join(kernels, name);
  const { variants } = JSON.parse(readFileSync(join(folder, "kernel.json"), "utf8")) as KernelJson;
  const variant = variants.find((candidate) => candidate.variant.includes("-cpu-"));
  const compile = variant?.compile[0];
  if (variant === undefined || compile === undefined) throw new Error(`${name} has no CPU variant.`);
  return {
    name,
    ops: variant.ops.map((op) => variantParts.op.parse(op)),
    open: () =>
      compileLibrary(
        name,
        compile.sources.map((path) => join(folder, path)),
        compile.flags,
      ),
  };
}
