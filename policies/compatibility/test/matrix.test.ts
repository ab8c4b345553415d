import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errorCodes } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { matrix, renderMatrix, scaleRow } from "../index.ts";

test("docs/compatibility.md holds the table as the code has it", () => {
  const page = readFileSync(join(import.meta.dirname, "..", "..", "..", "docs", "compatibility.md"), "utf8");
  expect(page).toContain(renderMatrix());
});

test("every row has its own id, and every refusal a known code", () => {
  expect(new Set(matrix.map((row) => row.id)).size).toBe(matrix.length);
  for (const row of matrix) {
    expect(row.outcome === "refuse").toBe(row.code !== undefined);
    if (row.code !== undefined) expect(errorCodes).toHaveProperty(row.code);
  }
});

test("scales that have no value, or none in bf16", () => {
  expect(scaleRow(255, "mxfp4.rows")?.id).toBe("S1");
  expect(scaleRow(254, "mxfp4.rows")).toBeUndefined();
  expect(scaleRow(254, "bf16.rows")?.id).toBe("S2");
  expect(scaleRow(253, "bf16.rows")?.id).toBe("S2");
  // 6 * 2^125 is below the largest bf16, 6 * 2^126 is not.
  expect(6 * 2 ** 125).toBeLessThan((2 - 2 ** -7) * 2 ** 127);
  expect(6 * 2 ** 126).toBeGreaterThan((2 - 2 ** -7) * 2 ** 127);
  expect(scaleRow(252, "bf16.rows")).toBeUndefined();
});
