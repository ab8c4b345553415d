import { openDevice, openLibrary } from "@kernlock/engine/native";
import { ops } from "@kernlock/kernels/abi";
import type { VariantOp } from "@kernlock/kernels/format";
import { expect, it } from "vitest";
import { testOp } from "../../engine/host/selftest/run.ts";
import { probe } from "./probe.ts";

const facts: VariantOp = {
  ...{ name: "residual", path: "cpp", covers: [...ops.residual.covers], mode: "f32", file: "probe.so" },
  ...{ dtypes: { activation: ["f32"], stream: ["f32"] }, limits: {}, features: [] },
  workspace: { scratch: [], state: [] },
};

async function tried(...macros: string[]) {
  const device = openDevice({ kind: "cpu", workers: 2 });
  const library = openLibrary(await probe(...macros), device);
  const index = library.ops.findIndex(({ op }) => op === "residual");
  const results = [...testOp(device, { name: "residual", library, index, pdl: false }, facts, 1)];
  device.close();
  return results;
}

it("finds what an op computes wrongly, and where", async () => {
  const results = await tried("PROBE_FACTOR=3");
  expect(results).toHaveLength(5);
  for (const { ok, text } of results) {
    expect(ok).toBe(false);
    expect(text).toMatch(/^stream, row 0: error/);
  }
});

it("finds rows that are written and are not there", async () => {
  // The probe adds to every row, also to those that row_seq calls absent; alone it is right.
  const [alone, few] = await tried("PROBE_FACTOR=1");
  expect(alone).toMatchObject({ ok: true, label: "dtype f32, stream_dtype f32, 1 rows" });
  expect(few).toMatchObject({ ok: false, text: "stream, row 1: error Infinity" });
});
