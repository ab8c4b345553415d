/** What a portable folder holds of this program: our own sources, the packages they need, and native code that is built. */
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, relative, sep } from "node:path";

/** One file or link: where it comes from, and where it goes under `app/`. */
export interface Item {
  readonly from: string;
  readonly to: string;
}

/** The areas of this repository that run; the registry's server, tests and kernel sources are not among them. */
const areas = ["cli", "engine", "kernels", "loader", "policies"] as const;
const kernelParts = ["abi", "build", "format", "inspect", "oci", "reference", "toolchain"];

/** Files that Node runs or reads, and native sources: the names of our own native builds depend on them. */
const ours = /\.(ts|cjs|cc|h)$|^package\.json$/;

export function ownFiles(root: string): Item[] {
  const items: Item[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      const inside = relative(root, path);
      if (entry.isDirectory()) {
        const [area, part] = inside.split(sep);
        if (["node_modules", "test", "build"].includes(entry.name) && inside !== join("kernels", "build")) continue;
        if (area === "kernels" && !kernelParts.includes(part!)) {
          // Of a kernel package only the reference runs here; what runs as a kernel comes from the cache.
          const reference = join(path, "reference.ts");
          if (existsSync(reference)) items.push({ from: reference, to: join(inside, "reference.ts") });
          continue;
        }
        walk(path);
      } else if (entry.isFile() && ours.test(entry.name)) items.push({ from: path, to: inside });
    }
  };
  for (const area of areas) walk(join(root, area));
  return items;
}

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
}
const readManifest = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;

/** Of these only package.json is read: its digest is part of the name of our native builds. */
const headersOnly = new Set(["node-addon-api", "node-api-headers"]);

/** Every package that ours need, found as Node finds it, and of each what runs. */
export function packageFiles(root: string): Item[] {
  const items: Item[] = [];
  const seen = new Set<string>();
  const add = (name: string, from: string): void => {
    if (name.startsWith("@kernlock/")) return;
    const folder = findPackage(name, from);
    if (folder === undefined || seen.has(folder)) return;
    seen.add(folder);
    items.push(...filesOf(folder, relative(root, folder), headersOnly.has(name)));
    for (const needed of Object.keys(readManifest(folder).dependencies ?? {})) add(needed, folder);
  };
  for (const area of areas) {
    for (const name of Object.keys(readManifest(join(root, area)).dependencies ?? {})) add(name, join(root, area));
  }
  return items;
}

function findPackage(name: string, from: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) return realpathSync(candidate);
    if (folder === dirname(folder)) return undefined;
  }
}

/** Types, maps, documentation and sources that were compiled are not needed to run a package. */
const unneeded = /\.(d\.[cm]?ts|[cm]?ts|tsx|map|md|markdown|flow|h|gypi?|wasm\.wat)$/i;
const unneededFolders = new Set([
  "test",
  "tests",
  "docs",
  "doc",
  "example",
  "examples",
  "benchmarks",
  ".github",
  "src",
]);

function filesOf(folder: string, to: string, manifestOnly: boolean): Item[] {
  const items: Item[] = [];
  const entry = readFileSync(join(folder, "package.json"), "utf8");
  // A package whose entry points lie in `src` keeps it.
  const runsSources = /"(main|module|import|require|default)"\s*:\s*"(\.\/)?src\//.test(entry);
  const walk = (at: string): void => {
    for (const file of readdirSync(at, { withFileTypes: true })) {
      const path = join(at, file.name);
      if (file.isDirectory()) {
        // Only at the top: deeper down such a name may be part of the program.
        const skip = at === folder && unneededFolders.has(file.name) && !(file.name === "src" && runsSources);
        if (file.name !== "node_modules" && !skip) walk(path);
      } else if (file.isFile() && !unneeded.test(file.name)) {
        items.push({ from: path, to: join(to, relative(folder, path)) });
      }
    }
  };
  if (manifestOnly) items.push({ from: join(folder, "package.json"), to: join(to, "package.json") });
  else walk(folder);
  const licences = readdirSync(folder).filter((name) => /^(licen[cs]e|notice|copying)/i.test(name));
  const known = new Set(items.map((item) => item.to));
  for (const name of licences) {
    const target = join(to, name);
    if (!known.has(target) && statSync(join(folder, name)).isFile())
      items.push({ from: join(folder, name), to: target });
  }
  return items;
}

/** A native build loses the compiler's key from its name: it is the one that is delivered, whatever compiler is there. */
export function deliveredName(path: string): string {
  return basename(path).replace(/^(.*-[0-9a-f]{16})-[0-9a-f]{8}(\.[a-z]+)$/, "$1$2");
}
