import { encodeArgs } from "@kernlock/kernels/abi";
import type { VariantOp } from "@kernlock/kernels/format";
import { describe, expect, it } from "vitest";
import { type ImageOp, imageLaunches } from "../host/images.ts";
import type { Image } from "../native/index.ts";

/** Numbers kernels by how they were asked for; nothing is loaded. */
const asked: string[] = [];
const image = {
  device: null,
  origin: undefined,
  kernel(name: string, shared: number) {
    asked.push(`${name} ${shared}`);
    return asked.length - 1;
  },
} as unknown as Image;

const steps = (kind: "f32" | "bf16"): NonNullable<VariantOp["launch"]>["steps"][number] => ({
  file: "norm.cubin",
  when: { stream_dtype: kind, sizes: { hidden: { max: 4096 } } },
  entry: `norm_${kind}`,
  grid: [[{ dims: ["tokens"] }], [{ dims: ["hidden"], per: 128 }], []],
  block: [64, 1, 1],
  shared_bytes: 1024,
  params: [
    { kind: "argument", name: "hidden" },
    { kind: "argument", name: "out" },
    { kind: "argument", name: "eps" },
    { kind: "extent", type: "i32", value: [{ dims: ["tokens", "hidden"], times: 2, per: 3 }] },
    { kind: "constant", type: "i64", value: -5 },
    { kind: "sink", bytes: 64 },
    { kind: "null" },
  ],
});
const op: ImageOp = {
  facts: {
    ...{ name: "rmsnorm", path: "triton", covers: ["norm"], mode: "bf16", file: "norm.cubin" },
    ...{ dtypes: { activation: ["bf16"], stream: ["f32", "bf16"] }, limits: {}, features: ["pdl"] },
    workspace: { scratch: [], state: [] },
    launch: { absent_rows: "computed", steps: [steps("f32"), steps("bf16")] },
  },
  images: new Map([["norm.cubin", image]]),
  sink: 0xabcd00n,
};
const args = (hidden: number, stream_dtype = 0) =>
  encodeArgs("rmsnorm", {
    ...{ dtype: 1, stream_dtype, tokens: 3, hidden, eps: 0.5, row_seq: 1n, x: 2n, weight: 3n },
    out: 0x123456789an,
  });

describe("launches of a device image", () => {
  it("pack parameters as C does and follow the sizes of the arguments", () => {
    const [launch, ...more] = imageLaunches(op, args(200));
    expect(more).toEqual([]);
    expect(launch).toMatchObject({
      op: "rmsnorm/triton",
      grid: [3, 2, 1],
      block: [64, 1, 1],
      sharedBytes: 1024,
      pdl: true,
    });
    expect(launch!.offsets).toEqual([0, 8, 16, 20, 24, 32, 40]);
    const view = new DataView(launch!.params.buffer);
    expect([view.getUint32(0, true), view.getBigUint64(8, true)]).toEqual([200, 0x123456789an]);
    expect([view.getFloat32(16, true), view.getInt32(20, true)]).toEqual([0.5, 400]);
    expect([24, 32, 40].map((at) => view.getBigInt64(at, true))).toEqual([-5n, 0xabcd00n, 0n]);
  });

  it("take the steps whose conditions hold, and never none", () => {
    imageLaunches(op, args(200, 0));
    expect(asked.at(-1)).toBe("norm_f32 1024");
    imageLaunches(op, args(200, 1));
    expect(asked.at(-1)).toBe("norm_bf16 1024");
    expect(() => imageLaunches(op, args(8192))).toThrow(expect.objectContaining({ code: "KL_LAUNCH_SIZE" }));
  });
});
