import { globSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { errorCodes } from "@kernlock/kernels/format";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "..");
const files = ["kernels", "policies", "loader", "engine", "registry-server", "cli"].flatMap((area) =>
  globSync(`${area}/**/*.{ts,cc,cjs}`, {
    cwd: root,
    exclude: (name) => name === "node_modules" || name === "test" || name === "build-cache",
  }),
);
const used = new Set(
  files
    .filter((file) => !file.endsWith("error-codes.ts") && !file.includes("/test/"))
    .flatMap((file) => [
      ...readFileSync(join(root, file), "utf8").matchAll(/["'`[](KL_[A-Z0-9]+(?:_[A-Z0-9]+)*)["'`\]]/g),
    ])
    .map((match) => match[1] ?? ""),
);
// Statuses and constants of the kernel ABI, which are no error codes.
const abi = /^KL_(OP|DEVICE_(CPU|CUDA)|LAYOUT|ARGS|ABI_MISMATCH$|F32$|BF16$|I32$|I64$|U8$)/;

describe("error codes", () => {
  it("are all explained", () => {
    expect([...used].filter((code) => !Object.hasOwn(errorCodes, code) && !abi.test(code)).sort()).toEqual([]);
  });

  it("are all used", () => {
    expect(
      Object.keys(errorCodes)
        .filter((code) => !used.has(code))
        .sort(),
    ).toEqual([]);
  });
});
