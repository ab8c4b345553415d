/**
 * Fails when a file imports against the arrows of the architecture: kernels <- policies <- loader <- engine <- cli,
 * and kernels, policies <- registry-server <- cli. Also fails when `policies` reaches for I/O.
 */
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

/** What each area may import besides itself. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  kernels: [],
  policies: ["kernels"],
  loader: ["kernels", "policies"],
  engine: ["kernels", "policies", "loader"],
  "registry-server": ["kernels", "policies"],
  cli: ["kernels", "policies", "loader", "engine", "registry-server"],
};
const areas = Object.keys(allowed);

/** Node modules that pure judgement may use: values only, no file, socket or clock. */
const pure = new Set(["node:crypto", "node:buffer", "node:util"]);

const importPattern = /(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)["']([^"']+)["']/g;

export function violations(root: string): string[] {
  const found: string[] = [];
  for (const area of areas) {
    for (const file of globSync(`${area}/**/*.{ts,cts,mts}`, {
      cwd: root,
      exclude: (name) => name.includes("node_modules"),
    })) {
      // A package's tests may use what is above it only through `test/`, never from inside the package.
      const text = readFileSync(join(root, file), "utf8");
      for (const [, specifier] of text.matchAll(importPattern)) {
        if (specifier === undefined) continue;
        const target = targetArea(root, file, specifier);
        if (target !== undefined && target !== area && !allowed[area]?.includes(target))
          found.push(`${file}: ${area} may not import ${target} (${specifier})`);
        if (area === "policies" && !file.includes("/test/") && specifier.startsWith("node:") && !pure.has(specifier))
          found.push(`${file}: policies does no I/O (${specifier})`);
      }
    }
  }
  return found;
}

function targetArea(root: string, file: string, specifier: string): string | undefined {
  const workspace = /^@kernlock\/([^/]+)/.exec(specifier)?.[1];
  if (workspace !== undefined) return workspace;
  if (!specifier.startsWith(".")) return undefined;
  const top = relative(root, resolve(root, dirname(file), specifier)).split("/")[0];
  return top !== undefined && areas.includes(top) ? top : top === "test" || top === "scripts" ? top : undefined;
}

if (import.meta.main) {
  const found = violations(resolve(import.meta.dirname, ".."));
  for (const line of found) console.error(line);
  if (found.length > 0) process.exitCode = 1;
}
