/** What a portable folder holds besides the program itself: native sources, data, and whose work is in it. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, join, relative, sep } from "node:path";

/** One file: where it comes from, and where it goes under `app/`. */
export interface Item {
  readonly from: string;
  readonly to: string;
}

/** The areas of this repository that run; the registry's server, tests and kernel sources are not among them. */
const areas = ["cli", "engine", "kernels", "loader", "policies"] as const;
const kernelParts = ["abi", "build", "format", "inspect", "oci", "reference", "toolchain"];

/** Data, and native sources: the names of our own native builds depend on them. */
const besideBundles = /\.(cc|h)$|^package\.json$|^(staging|public-good)\.json$/;

/** `bundled`: the folder is a portable one already, and goes on as it is. */
export function ownFiles(root: string, bundled: boolean): Item[] {
  const items: Item[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      const inside = relative(root, path);
      if (entry.isDirectory()) {
        const [area, part] = inside.split(sep);
        const skip = ["node_modules", "test", "build"].includes(entry.name) && inside !== join("kernels", "build");
        if (!skip && (area !== "kernels" || kernelParts.includes(part!))) walk(path);
      } else if (entry.isFile() && (besideBundles.test(entry.name) || (bundled && entry.name.endsWith(".js")))) {
        items.push({ from: path, to: inside });
      }
    }
  };
  for (const area of areas) walk(join(root, area));
  return items;
}

/** Of the first two package.json is read: it is part of the name of our native builds. The third leaves helpers in bundles. */
export const alwaysFacts = ["node-addon-api", "node-api-headers", "rolldown"];

/** What each package is, and its licence. Its code is in the bundles. */
export function packageFacts(root: string, folders: Iterable<string>): Item[] {
  const wanted = /^(package\.json|(licen[cs]e|notice|copying).*)$/i;
  return [...folders].sort().flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => wanted.test(name) && statSync(join(folder, name)).isFile())
      .map((name) => ({ from: join(folder, name), to: relative(root, join(folder, name)) })),
  );
}

/** Folders of all packages below `node_modules`. */
export function packagesIn(root: string): string[] {
  const modules = join(root, "node_modules");
  return readdirSync(modules)
    .flatMap((name) => (name.startsWith("@") ? readdirSync(join(modules, name)).map((one) => join(name, one)) : [name]))
    .map((name) => join(modules, name))
    .filter((folder) => existsSync(join(folder, "package.json")));
}

/** A native build loses the compiler's key from its name: it is the one that is delivered, whatever compiler is there. */
export function deliveredName(path: string): string {
  return basename(path).replace(/^(.*-[0-9a-f]{16})-[0-9a-f]{8}(\.[a-z]+)$/, "$1$2");
}
