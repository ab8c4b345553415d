import { expect, test } from "vitest";
import { formatManifest, parseManifest } from "../index.ts";
import { codeOf } from "./kit.ts";

const good = {
  version: 1,
  registry: "http://127.0.0.1:8080",
  variants: ["linux-x86_64-cpu-v3"],
  kernels: { "acme/norm": "^1.2.0" },
};

test("kernels.json is read and written back", () => {
  expect(formatManifest(parseManifest(JSON.stringify(good)))).toBe(
    `{\n  "kernels": {\n    "acme/norm": "^1.2.0"\n  },\n  "registry": "http://127.0.0.1:8080",\n  "variants": [\n    "linux-x86_64-cpu-v3"\n  ],\n  "version": 1\n}\n`,
  );
});

test.each([
  ["an unknown field", "KL_MANIFEST_FIELD", { ...good, extra: 1 }],
  ["a model, which is reserved", "KL_MANIFEST_RESERVED", { ...good, model: "x" }],
  ["a registry with a path", "KL_MANIFEST_FIELD", { ...good, registry: "https://kernels.example/x" }],
  ["a registry with a password", "KL_MANIFEST_FIELD", { ...good, registry: "https://a:b@kernels.example" }],
  ["no variants", "KL_MANIFEST_FIELD", { ...good, variants: [] }],
  ["a variant twice", "KL_MANIFEST_FIELD", { ...good, variants: [...good.variants, ...good.variants] }],
  ["a name without a namespace", "KL_MANIFEST_FIELD", { ...good, kernels: { norm: "1.0.0" } }],
  ["a range that is none", "KL_MANIFEST_FIELD", { ...good, kernels: { "acme/norm": "newest" } }],
  ["an empty range", "KL_MANIFEST_FIELD", { ...good, kernels: { "acme/norm": "" } }],
  ["another version", "KL_MANIFEST_FIELD", { ...good, version: 2 }],
])("%s is refused", async (_, code, value) => {
  expect(await codeOf(() => parseManifest(JSON.stringify(value)))).toBe(code);
});
