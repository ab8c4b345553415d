import { describe, expect, test } from "vitest";
import { extentValue, gridOf, isTested, KernlockError, paramBytes, parseVariant } from "../index.ts";

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "accepted";
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return error.code;
  }
};
const digest = `sha256:${"a".repeat(64)}`;
// biome-ignore lint/suspicious/noExplicitAny: edits make the document wrong on purpose
type Edit = (v: any) => void;

const variant = () => ({
  schema: "kernlock.variant/v1",
  package: "a/b",
  version: "1.0.0",
  variant: "linux-x86_64-cuda-sm90a",
  abi: 0,
  abi_build: digest,
  platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
  backend: { kind: "cuda", architectures: ["sm_90a"], ptx: [], driver: "13.0" },
  tested: true,
  files: [
    { path: "a.cubin", kind: "device-image", digest, size: 10 },
    { path: "b.so", kind: "shared-object", digest, size: 10 },
  ],
  ops: [
    {
      name: "moe",
      path: "triton",
      covers: ["moe_up", "moe_down"],
      mode: "bf16",
      file: "a.cubin",
      dtypes: { activation: ["bf16"], stream: ["f32", "bf16"] },
      layouts: ["mxfp4.rows"],
      limits: {},
      features: [],
      workspace: { scratch: [{ bytes: 4, dims: ["tokens"] }], state: [] },
      launch: {
        absent_rows: "untouched",
        steps: [
          {
            file: "a.cubin",
            when: { sizes: { tokens: { max: 16 } } },
            entry: "moe",
            grid: [[{ dims: ["tokens"], per: 16 }, { dims: ["experts"] }], [], []],
            block: [128, 1, 1],
            shared_bytes: 49_152,
            params: [
              { kind: "argument", name: "x" },
              { kind: "extent", type: "i32", value: [{ dims: ["hidden"], times: 2 }] },
              { kind: "constant", type: "f32", value: 0.5 },
              { kind: "scratch", term: 0 },
              { kind: "sink", bytes: 4 },
              { kind: "null" },
            ],
          },
        ],
      },
    },
  ],
  license: "Apache-2.0",
});
const refusal = (edit: Edit): string => {
  const value = variant();
  edit(value);
  return codeOf(() => parseVariant(JSON.stringify(value)));
};

test("launch data are read as they are written", () => {
  const read = parseVariant(JSON.stringify(variant()));
  expect(read.ops[0]?.launch).toEqual(variant().ops[0]?.launch);
  expect(read.ops[0]!.launch!.steps[0]!.params.map((p) => paramBytes("moe", p))).toEqual([8, 4, 4, 8, 8, 8]);
  expect(paramBytes("moe", { kind: "argument", name: "scratch_bytes" })).toBe(8);
  expect(paramBytes("moe", { kind: "argument", name: "alpha" })).toBe(4);
});

test("a variant says whether it was tested; where it does not, only CPUs count as such", () => {
  const { backend } = parseVariant(JSON.stringify(variant()));
  expect([true, false].map((tested) => isTested({ tested, backend }))).toEqual([true, false]);
  expect(isTested({ backend })).toBe(false);
  expect(isTested({ backend: { kind: "cpu", level: "x86-64-v3" } })).toBe(true);
});

describe("launch data are refused", () => {
  const step = (v: ReturnType<typeof variant>) => v.ops[0]!.launch.steps[0]!;
  test.each<[string, string, Edit]>([
    ["that a device image lacks", "KL_VARIANT_LAUNCH", (v) => delete v.ops[0].launch],
    ["of a shared object", "KL_VARIANT_LAUNCH", (v) => (v.ops[0].file = "b.so")],
    ["that launch a shared object", "KL_VARIANT_LAUNCH", (v) => (step(v).file = "b.so")],
    ["that launch what is no file", "KL_VARIANT_LAUNCH", (v) => (step(v).file = "c.cubin")],
    [
      "of a CPU variant",
      "KL_VARIANT_LAUNCH",
      (v) => {
        v.variant = "linux-x86_64-cpu-v3";
        v.backend = { kind: "cpu", level: "x86-64-v3" };
      },
    ],
    [
      "with an argument that the op does not take",
      "KL_VARIANT_LAUNCH",
      (v) => (v.ops[0].launch.steps[0].params[0].name = "y"),
    ],
    [
      "with a dim that the op does not take",
      "KL_VARIANT_LAUNCH",
      (v) => (v.ops[0].launch.steps[0].grid[1] = [{ dims: ["vocab"] }]),
    ],
    [
      "with a dim that there is not",
      "KL_VARIANT_SHAPE",
      (v) => (v.ops[0].launch.steps[0].grid[1] = [{ dims: ["length"] }]),
    ],
    [
      "with a term that the rule does not have",
      "KL_VARIANT_LAUNCH",
      (v) => (v.ops[0].launch.steps[0].params[3].term = 1),
    ],
    ["with a fraction for an integer", "KL_VARIANT_LAUNCH", (v) => (v.ops[0].launch.steps[0].params[2].type = "i32")],
    [
      "with a condition on what the op does not take",
      "KL_VARIANT_LAUNCH",
      (v) => (v.ops[0].launch.steps[0].when = { kv_dtype: "bf16" }),
    ],
    [
      "for a dtype that the op does not declare",
      "KL_VARIANT_LAUNCH",
      (v) => (v.ops[0].launch.steps[0].when = { dtype: "f32" }),
    ],
    [
      "that run nothing for a declared dtype",
      "KL_VARIANT_LAUNCH",
      (v) => (v.ops[0].launch.steps[0].when = { stream_dtype: "f32" }),
    ],
    ["with too many threads", "KL_VARIANT_LAUNCH", (v) => (v.ops[0].launch.steps[0].block = [1024, 2, 1])],
    ["with too much shared memory", "KL_VARIANT_SHAPE", (v) => (v.ops[0].launch.steps[0].shared_bytes = 1 << 20)],
    [
      "with too many parameters",
      "KL_VARIANT_SHAPE",
      (v) => (v.ops[0].launch.steps[0].params = Array(65).fill({ kind: "null" })),
    ],
    ["with a strange name", "KL_VARIANT_SHAPE", (v) => (v.ops[0].launch.steps[0].entry = "a b")],
    ["with a field that is not known", "KL_VARIANT_SHAPE", (v) => (v.ops[0].launch.steps[0].host = "code")],
    ["with a divisor of zero", "KL_VARIANT_SHAPE", (v) => (v.ops[0].launch.steps[0].grid[0][0].per = 0)],
  ])("%s", (_what, code, edit) => {
    expect(refusal(edit)).toBe(code);
  });
});

test("sizes of a launch follow from the sizes of the arguments", () => {
  expect(extentValue([], {})).toBe(1);
  expect(extentValue([{ dims: ["tokens"], per: 16 }], { tokens: 17 })).toBe(2);
  expect(
    extentValue(
      [
        { dims: ["tokens", "top_k"], per: 64 },
        { dims: ["hidden"], times: 2 },
      ],
      { tokens: 33, top_k: 4, hidden: 8 },
    ),
  ).toBe(48);
  expect(codeOf(() => extentValue([{ dims: ["tokens"] }], {}))).toBe("KL_LAUNCH_SIZE");
  const most = 2 ** 31;
  expect(codeOf(() => extentValue([{ dims: ["tokens", "tokens"] }], { tokens: most }))).toBe("KL_LAUNCH_SIZE");
  const grid = (x: number, y: number) => () =>
    gridOf({ grid: [[{ dims: ["tokens"] }], [{ dims: ["rows"] }], []] }, { tokens: x, rows: y });
  expect(grid(3, 2)()).toEqual([3, 2, 1]);
  for (const [x, y] of [
    [0, 1],
    [1, 65_536],
    [most, 1],
    [1 << 20, 4096],
  ] as const)
    expect(codeOf(grid(x, y))).toBe("KL_LAUNCH_SIZE");
});
