import { describe, expect, it } from "vitest";
import { type ArgsOf, argsBytes, encodeArgs, fieldOffset } from "../index.ts";

const residual: ArgsOf<"residual"> = {
  dtype: 1,
  stream_dtype: 2,
  tokens: 3,
  hidden: 0xffffffff,
  row_seq: 0x1122334455667788n,
  x: 1n,
  stream: 2n,
};

describe("encodeArgs", () => {
  it("begins with the size, leaves gaps zero and is little endian", () => {
    const bytes = encodeArgs("residual", residual);
    expect(bytes.length).toBe(argsBytes("residual"));
    expect(Buffer.from(bytes).toString("hex")).toBe(
      ["30000000", "01000000", "02000000", "03000000", "ffffffff", "00000000", "8877665544332211"].join("") +
        ["0100000000000000", "0200000000000000"].join(""),
    );
    expect(fieldOffset("residual", "row_seq")).toBe(24);
  });

  const encode = (change: object) => () => encodeArgs("residual", { ...residual, ...change });
  it.each([
    ["a missing value", { tokens: undefined }],
    ["a negative u32", { tokens: -1 }],
    ["a u32 of 33 bits", { tokens: 2 ** 32 }],
    ["a fraction", { tokens: 1.5 }],
    ["a number for an address", { x: 5 }],
    ["a negative address", { x: -1n }],
    ["an address of 65 bits", { x: 1n << 64n }],
    ["null where it may not be", { x: 0n }],
  ])("refuses %s", (_, change) => expect(encode(change)).toThrow(expect.objectContaining({ code: "KL_ABI_ARGUMENT" })));

  it("refuses a float that f32 cannot hold", () => {
    const norm = {
      dtype: 0,
      stream_dtype: 0,
      tokens: 1,
      hidden: 1,
      eps: 1e300,
      row_seq: 1n,
      x: 1n,
      weight: 1n,
      out: 1n,
    };
    expect(() => encodeArgs("rmsnorm", norm)).toThrow(expect.objectContaining({ code: "KL_ABI_ARGUMENT" }));
  });

  it("takes null where the op allows it", () => {
    const projection = { dtype: 0, stream_dtype: 0, tokens: 1, in_features: 1, out_features: 1, row_seq: 1n, x: 1n };
    const bytes = encodeArgs("o_proj", { ...projection, weight: 1n, bias: 0n, out: 1n });
    expect(new DataView(bytes.buffer).getBigUint64(fieldOffset("o_proj", "bias"), true)).toBe(0n);
  });
});
