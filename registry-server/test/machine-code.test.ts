import { expect, test } from "vitest";
import { compile, makePackage, pushAll, putTag, refusal, sharedObject, startRegistry } from "./material.ts";

const entry = 'extern "C" __attribute__((visibility("default"))) const void *kl_get_api(unsigned) { return 0; }\n';

test.each([
  ["that is cut in the middle", () => sharedObject().subarray(0, 600), /^KL_ELF_/],
  ["that is no ELF file", () => Buffer.from("#!/bin/sh\n"), /^KL_ELF_/],
  [
    "with a constructor",
    () => compile(`${entry}int x; __attribute__((constructor)) void f() { x = 1; }`),
    /INITIALIZER/,
  ],
  ["with a RUNPATH", () => compile(entry, ["-Wl,-rpath,/opt"]), /RUNPATH/],
  ["with an executable stack", () => compile(entry, ["-Wl,-z,execstack"]), /EXECUTABLE_STACK/],
  ["that needs a foreign library", () => compile(entry, ["-Wl,--no-as-needed", "-lstdc++"]), /LIBRARY/],
  ["that lacks the entry", () => compile("int f() { return 1; }"), /EXPORT|SYMBOL/],
])("a version with a shared object %s is refused", async (_what, payload, code) => {
  const at = await startRegistry();
  const pack = makePackage({ payload: payload() });
  await pushAll(at, pack);
  const [status, oci, kernlock] = await refusal(putTag(at, pack));
  expect([status, oci]).toEqual([400, "MANIFEST_INVALID"]);
  expect(kernlock).toMatch(code);
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(404);
});
