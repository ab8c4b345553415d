import { existsSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { digestOf, KernlockError } from "../../format/index.ts";
import type { BuildOptions } from "../index.ts";
import { Workshop } from "./workshop.ts";

const upstream = "static inline int from_upstream() { return 1; }\n";
const pin = (digest: string) => [{ path: "cpu/upstream.h", url: "https://upstream.example/upstream.h", digest }];
const op = (name: string) => ({
  name,
  path: "cpp",
  covers: ["residual"],
  mode: "f32",
  file: "tiny.so",
  dtypes: { activation: ["f32"], stream: ["f32"] },
  limits: {},
  features: [],
  workspace: { scratch: [], state: [] },
});

test.each<[string, string, (w: Workshop) => unknown, Partial<BuildOptions>?]>([
  ["an error in the source", "KL_BUILD_COMPILE", (w) => w.append("cpu/add.cc", "int broken( {\n")],
  [
    "a symbol that nothing defines",
    "KL_BUILD_COMPILE",
    (w) => w.append("cpu/add.cc", "int nowhere();\nint use() { return nowhere(); }\n"),
  ],
  [
    "an exception, for want of a C++ runtime",
    "KL_BUILD_COMPILE",
    (w) => w.append("cpu/add.cc", "void f() { throw 1; }\n"),
  ],
  ["a compiler that takes too long", "KL_BUILD_TIMEOUT", () => {}, { timeoutMs: 1 }],
  ["a caller that stops", "KL_BUILD_STOPPED", () => {}, { signal: AbortSignal.timeout(1) }],
  [
    "a constructor",
    "KL_ELF_INITIALIZER",
    (w) => w.append("cpu/add.cc", '__attribute__((constructor)) static void f() { asm volatile(""); }\n'),
  ],
  [
    "a second export",
    "KL_ELF_EXPORTS",
    (w) => w.append("cpu/add.cc", '__attribute__((visibility("default"))) int extra() { return 1; }\n'),
  ],
  ["no entry", "KL_ELF_SYMBOL_MISSING", (w) => w.edit((k) => (k.variants[0].compile[0].sources = ["cpu/add.cc"]))],
  [
    "a newer C library than declared",
    "KL_ELF_LIBC",
    (w) =>
      w
        .append("cpu/add.cc", "#include <math.h>\nfloat volatile in, out;\nvoid f() { out = expf(in); }\n")
        .append("cpu/tiny.cc", "void f();\nvoid (*volatile keep)() = f;\n"),
  ],
  [
    "an op that the library lacks",
    "KL_BUILD_OP_TABLE",
    (w) => w.edit((k) => k.variants[0].ops.push({ ...op("residual"), path: "other" })),
  ],
  ["an op that kernel.json lacks", "KL_BUILD_OP_TABLE", (w) => w.edit((k) => (k.variants[0].ops[0].path = "other"))],
  ["an op with another number", "KL_BUILD_OP_TABLE", (w) => w.append("cpu/tiny.h", "#define KL_OP_RESIDUAL 3\n")],
  [
    "a library that answers to any ABI",
    "KL_BUILD_OP_TABLE",
    (w) => w.replace("cpu/tiny.cc", "abi == KL_ABI ?", "true ?"),
  ],
  ["a missing source", "KL_BUILD_FILE", (w) => rmSync(join(w.packageFolder, "cpu/add.cc"))],
  [
    "a source that is a link",
    "KL_BUILD_FILE",
    (w) => {
      rmSync(join(w.packageFolder, "cpu/add.cc"));
      symlinkSync("/etc/hostname", join(w.packageFolder, "cpu/add.cc"));
    },
  ],
  ["no kernel.json", "KL_BUILD_FILE", (w) => rmSync(join(w.packageFolder, "kernel.json"))],
  ["no licence", "KL_BUILD_FILE", (w) => rmSync(join(w.packageFolder, "LICENSE"))],
  [
    "a source outside the package",
    "KL_BUILD_SOURCE",
    (w) => w.edit((k) => k.variants[0].compile[0].sources.push("../../etc/x.cc")),
  ],
  ["an unknown field", "KL_BUILD_SOURCE", (w) => w.edit((k) => (k.postinstall = "rm -rf /"))],
  [
    "an op in a file that nothing compiles",
    "KL_BUILD_SOURCE",
    (w) => w.edit((k) => (k.variants[0].ops[0].file = "other.so")),
  ],
  ["a key twice", "KL_JSON_DUPLICATE_KEY", (w) => w.write("kernel.json", '{"name":"a/b","name":"c/d"}')],
  [
    "nodes that the op does not cover",
    "KL_VARIANT_COVERS",
    (w) => w.edit((k) => (k.variants[0].ops[0].covers = ["attn"])),
  ],
  ["a builder that is no URI", "KL_BUILD_SOURCE", () => {}, { builderId: "me" }],
  ["a revision that is none", "KL_BUILD_SOURCE", () => {}, { revision: "main" }],
  ["an unknown variant", "KL_BUILD_VARIANT", () => {}, { variants: ["linux-x86_64-cpu-v4"] }],
  [
    "an upstream file that is not what was pinned",
    "KL_BUILD_UPSTREAM",
    (w) => w.write("cpu/upstream.h", upstream).edit((k) => (k.upstream = pin(digestOf("other")))),
  ],
])("%s: %s", async (_, code, spoil, options) => {
  using w = new Workshop();
  spoil(w);
  const error = await w.build(options).catch((e) => e);
  expect(error).toBeInstanceOf(KernlockError);
  expect(error.code).toBe(code);
  // No tag, so nothing that publish would take.
  const index = join(w.out, "index.json");
  if (existsSync(index))
    expect(await (await import("../../oci/index.ts")).OciLayout.open(w.out).then((l) => l.tags())).toEqual([]);
});

test.each([
  "-march=native",
  "-mavx512f",
  "-I/etc",
  "-include",
  "/etc/passwd",
  "-fplugin=x.so",
  "-Wl,-rpath,/x",
  "-specs=x",
  "@file",
  "-o",
  "-x",
  "-B.",
])("the flag %s is refused", async (flag) => {
  using w = new Workshop();
  w.edit((k) => (k.variants[0].compile[0].flags = [flag]));
  await expect(w.build()).rejects.toMatchObject({ code: "KL_BUILD_FLAG" });
});

test("flags that tune are taken and recorded", async () => {
  using w = new Workshop();
  w.edit(
    (k) => (k.variants[0].compile[0].flags = ["-ffast-math", "-DTILE=32", "-mprefer-vector-width=256", "-Wno-unused"]),
  );
  const { statements } = await w.build();
  expect(Buffer.from(statements[1]!.bytes).toString()).toContain('"-ffast-math","-DTILE=32"');
});

test("a pinned upstream file is used and named in the provenance", async () => {
  using w = new Workshop();
  w.write("cpu/upstream.h", upstream)
    .append("cpu/tiny.h", '#include "upstream.h"\n')
    .edit((k) => (k.upstream = pin(digestOf(upstream))));
  const { statements } = await w.build();
  const statement = JSON.parse(Buffer.from(statements[0]!.bytes).toString());
  expect(statement.predicate.buildDefinition.resolvedDependencies).toContainEqual({
    name: "src/cpu/upstream.h",
    uri: "https://upstream.example/upstream.h",
    digest: { sha256: digestOf(upstream).slice(7) },
  });
});

test("compiler messages name the package's files, not the folder of the build; nothing is left behind", async () => {
  using w = new Workshop();
  w.append("cpu/add.cc", "int broken( {\n");
  const saved = process.env.TMPDIR;
  process.env.TMPDIR = w.folder;
  try {
    const error = await w.build().catch((e) => e);
    expect(error.message).toMatch(/^cpu\/add\.cc does not compile:\nsrc\/cpu\/add\.cc:\d+:\d+: error:/);
    expect(error.message).not.toContain(w.folder);
    expect(readdirSync(w.folder).sort()).toEqual(["layout", "tiny"]);
  } finally {
    if (saved === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = saved;
  }
});
