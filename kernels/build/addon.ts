import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, join } from "node:path";
import { fail } from "../format/errors.ts";

/** Builds our own native code; apart from the package builder, so that a host process need not load that. */
export interface AddonOptions {
  /** File name of the result, without key and ending. */
  readonly name: string;
  /** Absolute folder of the sources; the result lies in its `build/`. */
  readonly folder: string;
  /** C++ files of the folder. */
  readonly sources: readonly string[];
  /** Absolute folders searched for headers besides `folder`. */
  readonly include?: readonly string[];
}

const common = [
  ..."-std=c++20 -O2 -Wall -Wextra -fvisibility=hidden -fvisibility-inlines-hidden -D_GNU_SOURCE -s".split(" "),
  "-Wl,--build-id=none,-z,relro,-z,now,-z,noexecstack",
];
const kinds = {
  addon: {
    ending: ".node",
    flags: [
      ...common,
      ..."-fPIC -shared -pthread -Wl,-Bsymbolic -DNAPI_VERSION=9 -DNAPI_DISABLE_CPP_EXCEPTIONS".split(" "),
    ],
  },
  // Needs the C library alone, and runs before anything else of ours does.
  program: {
    ending: ".run",
    flags: [...common, ..."-fPIE -pie -fno-exceptions -fno-rtti -Wl,--as-needed".split(" ")],
  },
} as const;

/** Returns the path of a Node-API addon. @throws as `buildNative` */
export const buildAddon = (options: AddonOptions): string => buildNative("addon", options);

/** Returns the path of a program of our own that needs no C++ runtime. @throws as `buildNative` */
export const buildProgram = (options: AddonOptions): string => buildNative("program", options);

/**
 * Returns the path of what was compiled, compiling it with g++ when no build of exactly these sources exists.
 *
 * The file name carries a digest of sources, headers and flags and one of the compiler, so a change of any of them
 * builds anew. Where no compiler is found, a build of the same sources by whichever compiler is good enough.
 * The compiler writes to a temporary name that is then renamed, so processes may race.
 * @throws KernlockError KL_ADDON_COMPILER (nothing built and no compiler), KL_ADDON_BUILD (the compiler failed)
 */
function buildNative(kind: keyof typeof kinds, { name, folder, sources, include = [] }: AddonOptions): string {
  const { ending, flags } = kinds[kind];
  const require = createRequire(join(folder, "addon.cjs"));
  const [wrapper, headers] = ["node-addon-api", "node-api-headers"].map((p) => require.resolve(`${p}/package.json`));
  const hash = createHash("sha256").update(JSON.stringify([process.arch, flags, sources]));
  for (const path of [wrapper!, headers!, ...[folder, ...include].flatMap(sourceFiles)]) {
    hash.update(readFileSync(path)).update("\0");
  }
  const build = join(folder, "build");
  const stem = `${name}-${hash.digest("hex").slice(0, 16)}`;
  // Delivered with a portable folder: what its signed manifest names, whatever compiler this machine has.
  const delivered = join(build, `${stem}${ending}`);
  if (existsSync(delivered)) return delivered;
  const compiler = findCompiler();
  if (compiler === undefined) {
    const any = existsSync(build) && readdirSync(build).find((file) => file.startsWith(stem) && file.endsWith(ending));
    if (any) return join(build, any);
    fail("KL_ADDON_COMPILER", `No C++ compiler was found to build the native ${kind} ${name}.`, {
      remedy: "Install g++ 12 or newer, or name a compiler in CXX.",
    });
  }
  const target = join(build, `${stem}-${compiler.key}${ending}`);
  if (existsSync(target)) return target;

  mkdirSync(build, { recursive: true });
  const temporary = `${target}.${process.pid}.tmp`;
  const includes = [folder, ...include, dirname(wrapper!), join(dirname(headers!), "include")].map((p) => `-I${p}`);
  const args = [...flags, ...includes, "-o", temporary, ...sources, "-ldl"];
  const result = spawnSync(compiler.path, args, { cwd: folder, encoding: "utf8" });
  if (result.status !== 0) {
    rmSync(temporary, { force: true });
    fail("KL_ADDON_BUILD", `The native ${kind} ${name} does not compile.`, {
      remedy: "Install g++ 12 or newer, or name such a compiler in CXX.",
      details: { compiler: compiler.path, output: (result.stderr || String(result.error ?? "")).slice(0, 4000) },
    });
  }
  renameSync(temporary, target);
  return target;
}

function sourceFiles(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => /\.(cc|cpp|h|hpp)$/.test(name));
  return names.sort().map((name) => join(folder, name));
}

/** The compiler and what tells it from another one, without starting it. */
function findCompiler(): { path: string; key: string } | undefined {
  const name = process.env.CXX || "g++";
  const candidates = name.includes("/")
    ? [name]
    : (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name));
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) return undefined;
  const real = realpathSync(path);
  const { size, mtimeMs } = statSync(real);
  return { path, key: createHash("sha256").update(`${real} ${size} ${mtimeMs}`).digest("hex").slice(0, 8) };
}
