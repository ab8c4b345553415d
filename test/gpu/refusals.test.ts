/**
 * The script that shows refusals on a GPU, on a GPU that is not there: its cases made of packages that compute nothing, and
 * the fake driver as the system's. So that on a real one only the GPU is new.
 */
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileSigner, generateKeyPair } from "@kernlock/cli/keys";
import { abiBuild, opNames, ops } from "@kernlock/kernels/abi";
import { digestOf, type Variant } from "@kernlock/kernels/format";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { library } from "../../kernels/inspect/test/craft.ts";
import { craftCubin, sm80 } from "../../kernels/inspect/test/craft-cubin.ts";
import { makeCases } from "../../scripts/gpu-refusals.ts";
import { type Package, pinProject } from "../../scripts/pinned.ts";
import { policyText, repository, root } from "../../scripts/project.ts";
import { canUseNamespace, inNamespace } from "./fake/namespace.ts";

const home = mkdtempSync(join(tmpdir(), "kernlock-refusals-"));
const [portable, cases, results] = ["portable", "cases", "results"].map((name) => join(home, name)) as [
  string,
  string,
  string,
];
afterAll(() => rmSync(home, { recursive: true, force: true }));

type Architecture = "sm_90a" | "sm_80" | "PTX";
const cubinFor = (architecture: Architecture): Buffer => craftCubin(architecture === "sm_80" ? sm80 : {});

function packageOf(name: string, architecture: Architecture, file: Variant["files"][0], bytes: Uint8Array): Package {
  const ptx = architecture === "PTX";
  const key = `linux-x86_64-cuda-${ptx ? "ptx90" : architecture.replace("_", "")}`;
  const about = { name, version: "1.2.3", source: repository, revision: "unversioned", licenses: "Apache-2.0" };
  const variant: Variant = {
    schema: "kernlock.variant/v1",
    ...{ package: name, version: about.version, variant: key, abi: 0, abi_build: abiBuild },
    platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
    backend: {
      ...{ kind: "cuda", architectures: ptx ? [] : [architecture], ptx: ptx ? ["sm_90"] : [], driver: "13.0" },
    },
    files: [{ ...file, digest: digestOf(bytes), size: bytes.byteLength }],
    ops: [],
    tested: true,
    license: about.licenses,
  };
  return { about: { ...about, description: "Computes nothing" }, variant, files: new Map([[file.path, bytes]]) };
}

const anyFile = { digest: digestOf(""), size: 1 };
const [both, features] = [
  ["f32", "bf16"] as ("f32" | "bf16")[],
  ["sinks", "sliding_window", "paged", "varlen", "pdl"] as Variant["ops"][0]["features"],
];

/** Every op of a model in a shared object, each of them a launch that the fake driver counts. */
function libraryFor(architecture: Architecture): Package {
  const included = `#include "${join(import.meta.dirname, "fake", "kernels.cc")}"`;
  const source =
    architecture === "PTX"
      ? `#define FAKE_PTX\n${included}`
      : `${included}
    extern "C" __attribute__((used, aligned(64))) const unsigned char code[] = {${[...cubinFor(architecture)].join()}};`;
  const include = ["abi", "abi/generated"].map((folder) => `-I${join(root, "kernels", folder)}`);
  const file = { path: "fake.so", kind: "shared-object", ...anyFile } as const;
  const made = packageOf("kernlock/fake", architecture, file, library(source, include));
  const declared = opNames.map((name): Variant["ops"][0] => {
    const has = new Set<string>(ops[name].fields.map((field) => field.name));
    return {
      ...{ name, path: "fake", covers: [...ops[name].covers], mode: "bf16", file: file.path, features, limits: {} },
      dtypes: {
        ...(has.has("dtype") ? { activation: ["bf16"] } : {}),
        ...(has.has("stream_dtype") ? { stream: both } : {}),
        ...(has.has("kv_dtype") ? { kv: ["bf16"] } : {}),
      },
      ...(has.has("layout") ? { layouts: ["mxfp4.tiles"] } : {}),
      workspace: { scratch: [], state: [] },
    };
  });
  return { ...made, variant: { ...made.variant, ops: declared } };
}

/** An op that is data: a device image and how it is launched. */
function imageFor(architecture: Architecture): Package {
  const file = { path: "image.cubin", kind: "device-image", ...anyFile } as const;
  const made = packageOf("kernlock/image", architecture, file, cubinFor(architecture));
  const step = {
    ...{ file: file.path, entry: "add", shared_bytes: 0 },
    grid: [[], [], []] as [[], [], []],
    block: [128, 1, 1] as [number, number, number],
    params: [{ kind: "null" as const }, { kind: "constant" as const, type: "i32" as const, value: 1 }],
  };
  const op: Variant["ops"][0] = {
    ...{ name: "copy_rows", path: "image", covers: [], mode: "bf16", file: file.path, features: [], limits: {} },
    ...{ dtypes: {}, workspace: { scratch: [], state: [] }, launch: { absent_rows: "untouched", steps: [step] } },
  };
  return { ...made, variant: { ...made.variant, ops: [op] } };
}

beforeAll(async () => {
  const keys = generateKeyPair();
  const key = join(home, "publisher.pem");
  writeFileSync(key, keys.privatePem, { mode: 0o600 });
  const signer = fileSigner(key);
  const policy = policyText(keys.publicPem, { untestedVariants: true });
  const packagesFor = (architecture: Architecture) => [libraryFor(architecture), imageFor(architecture)];
  const own = packagesFor("sm_90a");
  // What of a portable folder the script uses: the command, and a project that is all right.
  await pinProject(join(portable, "project"), own, { policy, signer, cache: join(portable, "project", "cache") });
  const command = join(portable, "kernlock");
  writeFileSync(command, `#!/bin/sh\nexec "${process.execPath}" "${join(root, "cli", "bin", "kernlock.cjs")}" "$@"\n`);
  chmodSync(command, 0o755);
  const material = { own, foreign: packagesFor("sm_80"), ptx: libraryFor("PTX"), policy, signer };
  await makeCases(cases, { ...material, answer: '"device":"cuda:0"' });
}, 300_000);

const names = [
  "control",
  "unaltered",
  "other-architecture",
  "ptx-besides",
  "ptx-only",
  "ptx-permitted",
  "ptx-too-new",
  "ptx-lying",
  "untested",
  "memory",
  "lying-shared-object",
  "lying-device-image",
  "flipped-byte",
];

const answering = ["control", "unaltered", "ptx-permitted"];

function run(of: string) {
  const command = [join(import.meta.dirname, "refusals.sh"), portable, of, results];
  const { status, stdout, stderr } = inNamespace(command, { env: { ...process.env, HOME: home } });
  const lines = stdout.trim().split("\n");
  const report = JSON.parse(readFileSync(join(results, "refusals.json"), "utf8")) as {
    passed: number;
    failed: number;
    cases: { case: string; ok: boolean; code: string; started: boolean; answer: unknown }[];
  };
  return { status, stderr, lines, report };
}

describe.skipIf(!canUseNamespace())("refusals with the fake driver (needs root and mount namespaces)", () => {
  test("every case is refused with its code before a host is started, and what is all right runs", () => {
    const { status, stderr, lines, report } = run(cases);
    expect([status, lines.at(-1)], `${lines.join("\n")}\n${stderr}`).toEqual([0, `${names.length} passed, 0 failed`]);
    expect(report).toMatchObject({ passed: names.length, failed: 0 });
    expect(report.cases.map((one) => one.case)).toEqual(names);
    expect(report.cases.filter((one) => one.started).map((one) => one.case)).toEqual(answering);
    const memory = report.cases.find((one) => one.case === "memory")!;
    expect(memory.answer).toMatchObject({ error: { details: { total: expect.any(Number) } } });
  }, 400_000);

  test("what is not refused is a failure, and so is another code than the expected one", () => {
    const others = join(home, "others");
    cpSync(cases, others, { recursive: true, verbatimSymlinks: true });
    const rows = ["control\tportable\t1\tKL_PLAN_GPU\tGPU\t-\t", "untested\tuntested\t1\tKL_PLAN_GPU\tuntested\t-\t"];
    writeFileSync(join(others, "table"), `${rows.join("\n")}\n`);
    const { status, lines } = run(others);
    expect([status, ...lines.map((line) => line.split(":")[0])]).toEqual([
      1,
      "FAILED control",
      "FAILED untested",
      "0 passed, 2 failed",
    ]);
  }, 400_000);
});
