import { globSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, test } from "vitest";

const root = resolve(import.meta.dirname, "..");

test("the profile of public Sigstore clients is reachable from verify-bundle alone", () => {
  const files = globSync("{kernels,policies,loader,engine,registry-server,cli,scripts}/**/*.ts", {
    cwd: root,
    exclude: (name) => name.includes("node_modules"),
  });
  const users = files.filter((file) => {
    const text = readFileSync(resolve(root, file), "utf8");
    return /["'](@kernlock\/policies\/trust\/sigstore|(\.\.?\/)+(trust\/)?sigstore\/[^"']*\.ts)["']/.test(text);
  });
  const outsideOfTests = users.filter((file) => !file.includes("/test/")).sort();
  expect(outsideOfTests).toEqual(["cli/commands/verify-bundle.ts"]);
});
