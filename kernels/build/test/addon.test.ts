import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { buildAddon } from "../addon.ts";

const source = (answer: number) => `#include <napi.h>
static Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("answer", Napi::Number::New(env, ${answer}));
  return exports;
}
NODE_API_MODULE(test, Init)
`;

let folder: string;
beforeEach(() => {
  // Below the root, so that the headers are found as they are for our own addons.
  const parent = join(import.meta.dirname, "..", "..", "..", ".build");
  mkdirSync(parent, { recursive: true });
  folder = mkdtempSync(join(parent, "addon-"));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const write = (text: string) => writeFileSync(join(folder, "test.cc"), text);
const build = () => buildAddon({ name: "test", folder, sources: ["test.cc"] });
const answer = (path: string) => (createRequire(import.meta.url)(path) as { answer: number }).answer;

it("builds once for the same sources, anew for others, and without a compiler takes what is there", () => {
  write(source(1));
  const first = build();
  expect(answer(first)).toBe(1);
  expect(build()).toBe(first);
  vi.stubEnv("PATH", "");
  expect(build()).toBe(first);
  vi.unstubAllEnvs();
  write(source(2));
  const second = build();
  expect(second).not.toBe(first);
  expect(answer(second)).toBe(2);
  expect(readdirSync(join(folder, "build")).length).toBe(2);
});

it("says so when there is no compiler, or when the sources do not compile", () => {
  write("not C++");
  expect(build).toThrow(expect.objectContaining({ code: "KL_ADDON_BUILD" }));
  expect(readdirSync(join(folder, "build"))).toEqual([]);
  vi.stubEnv("PATH", "");
  expect(build).toThrow(expect.objectContaining({ code: "KL_ADDON_COMPILER" }));
});
