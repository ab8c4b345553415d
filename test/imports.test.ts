import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { violations } from "../scripts/check-imports.ts";

const root = resolve(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "kernlock-imports-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function plant(file: string, text: string): string[] {
  const tree = mkdtempSync(join(folder, "tree-"));
  mkdirSync(join(tree, file, ".."), { recursive: true });
  writeFileSync(join(tree, file), text);
  return violations(tree);
}

describe("import arrows", () => {
  it("hold in this repository", () => {
    expect(violations(root)).toEqual([]);
  });

  it.each([
    ["kernels/format/x.ts", 'import { a } from "@kernlock/policies/trust";'],
    ["policies/trust/x.ts", 'export * from "../../loader/index.ts";'],
    ["loader/x.ts", 'const a = await import("@kernlock/engine");'],
    ["registry-server/x.ts", 'import "@kernlock/loader";'],
    ["engine/host/x.ts", 'import type { A } from "../../cli/main.ts";'],
    ["policies/trust/y.ts", 'import { readFileSync } from "node:fs";'],
    ["kernels/oci/x.ts", 'import { helper } from "../../test/helper.ts";'],
  ])("a planted import against them is found: %s", (file, text) => {
    expect(plant(file, text)).toHaveLength(1);
  });

  it("imports along them pass", () => {
    expect(plant("cli/x.ts", 'import { a } from "@kernlock/engine"; import { b } from "node:fs";')).toEqual([]);
  });
});
