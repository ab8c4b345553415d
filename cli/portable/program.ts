/**
 * This program as a portable folder has it: each of its processes one file (what only some commands need lies in further
 * ones beside it), with the packages that it uses inside. Reading and compiling 400 files of TypeScript would be most of
 * the time that a short command takes. Nothing is renamed or shortened: stacks of errors can be read.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fail } from "@kernlock/kernels/format";
import type { Plugin } from "rolldown";

/** Main modules, each of a process of its own. */
const processes = [
  "cli/main.ts",
  "engine/host/main.ts",
  "engine/model/template-process.ts",
  "engine/client/gpu-probe.ts",
];

/** Whether `root` is what this made: then there are no sources of it. */
export const isBundled = (root: string): boolean => !existsSync(join(root, processes[0]!));

/**
 * Writes it below `app`, and returns the folders of the packages that it contains.
 * @throws KL_PORTABLE_BUNDLER when the bundler is not installed
 */
export async function bundleProgram(root: string, app: string): Promise<Set<string>> {
  const { rolldown } = await import("rolldown").catch(() =>
    fail("KL_PORTABLE_BUNDLER", "A portable folder is made with rolldown, which is not installed.", {
      remedy: "Run `npm ci` in a checkout, with development dependencies.",
    }),
  );
  const packages = new Set<string>();
  for (const main of processes) {
    const bundle = await rolldown({
      cwd: root,
      input: join(root, main),
      platform: "node",
      // The registry's server stays at home, and so does what makes portable folders.
      external: [/^@kernlock\/registry-server/, "rolldown"],
      plugins: [places(root, dirname(main))],
      logLevel: "silent",
    });
    const { output } = await bundle.generate({
      format: "esm",
      entryFileNames: "[name].js",
      chunkFileNames: "[name]-[hash].js",
    });
    await bundle.close();
    const folder = join(app, dirname(main));
    mkdirSync(folder, { recursive: true });
    for (const chunk of output) {
      if (chunk.type !== "chunk") continue;
      writeFileSync(join(folder, chunk.fileName), chunk.code);
      for (const id of chunk.moduleIds) {
        const found = /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1];
        if (found !== undefined) packages.add(found);
      }
    }
  }
  return packages;
}

/** A module goes on knowing where it was: native sources, builds and data lie where they lay, beside the bundles. */
function places(root: string, folder: string): Plugin {
  return {
    name: "places",
    transform(code, id) {
      if (!id.endsWith(".ts") || !code.includes("import.meta.")) return null;
      const place = JSON.stringify(relative(join(root, folder), id).replace(/\.ts$/, ".js"));
      const path = 'process.getBuiltinModule("node:path")';
      const filename = `${path}.join(import.meta.dirname, ${place})`;
      const values: Readonly<Record<string, string>> = {
        filename,
        dirname: `${path}.dirname(${filename})`,
        url: `process.getBuiltinModule("node:url").pathToFileURL(${filename}).href`,
        main: "false",
      };
      return code.replace(/\bimport\.meta\.(filename|dirname|url|main)\b/g, (_, name: string) => values[name]!);
    },
  };
}
