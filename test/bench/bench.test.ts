/** `kernlock bench` as a whole, on this machine's CPU and a shape that it runs in no time. Figures are not judged. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { kernlock, kernlockOk } from "../../scripts/project.ts";
import { testProject } from "../project.ts";

const scratch = mkdtempSync(join(tmpdir(), "kernlock-bench-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
let project: string;
beforeAll(async () => {
  ({ folder: project } = await testProject());
}, 600_000);

const bench = async <T>(...args: string[]): Promise<T> =>
  JSON.parse(await kernlockOk(["bench", ...args, "--device", "cpu", "--json"], { cwd: project })) as T;
const positive = (value: number): void => expect(value).toBeGreaterThan(0);

test("op: every choice for an op beside the others, with bytes, operations and a share of the ceiling", async () => {
  type Row = {
    op: string;
    kernel: string;
    tokens: number;
    ms: number;
    bytes: number;
    operations: number;
    share: number;
    experts: number | null;
    digest: string;
    layout: string | null;
  };
  const args = [
    "--shape",
    "tiny",
    "--quick",
    "--batch",
    "1,300",
    "--context",
    "100",
    "--op",
    "moe",
    "--op",
    "attn_decode",
    "--op",
    "copy_rows",
  ];
  const { ceiling, rows, shape } = await bench<{
    ceiling: { bytes_per_second: number };
    rows: Row[];
    shape: { name: string };
  }>("op", ...args);
  expect(shape.name).toBe("tiny");
  positive(ceiling.bytes_per_second);
  const named = rows.map(({ op, kernel, tokens }) => `${op} ${kernel} ${tokens}`);
  for (const kernel of ["mxfp4", "megablocks-moe"]) {
    for (const tokens of [1, 300]) expect(named).toContain(`moe/cpp kernlock/${kernel} ${tokens}`);
  }
  // Decoding has 256 rows at most; a copy of weights does not depend on them.
  expect(named.filter((name) => name.startsWith("attn_decode"))).toEqual(
    Array(2).fill("attn_decode/cpp kernlock/fa3-sinks 1"),
  );
  expect(named.filter((name) => name.startsWith("copy_rows"))).toHaveLength(1);
  for (const row of rows) {
    for (const value of [row.ms, row.bytes, row.share]) positive(value);
    expect(row.digest).toMatch(/^sha256:/);
  }
  const moe = rows.filter(({ op, tokens }) => op === "moe/cpp" && tokens === 1);
  // 4 experts of 3 x 256 x 256 weights, in 4.25 or 16 bits each, biases besides.
  const weights = 4 * 3 * 256 * 256;
  const values = 4 * 3 * 256 * 2 + 2 * 256 * 4 + 32;
  expect(moe.find(({ layout }) => layout === "mxfp4.rows")!.bytes).toBe((weights * 17) / 32 + values);
  expect(moe.find(({ layout }) => layout === "bf16.rows")!.bytes).toBe(weights * 2 + values);
  for (const row of moe) expect([row.operations, row.experts]).toEqual([2 * weights, 4]);
}, 300_000);

test("gpu: the whole table, from a folder", async () => {
  const model = join(scratch, "tiny");
  await kernlockOk(["make-model", model, "--shape", "tiny"]);
  interface Found {
    choices: {
      name: string;
      rows: {
        kind: string;
        batch?: number;
        context?: number;
        tokens?: number;
        tokens_per_second: number;
        share: number;
        distinct_experts: number | null;
        agreement?: { compared: number; equal: number; repeated: number; sequences: number };
        stages: {
          step_us: number;
          rows: { stage: string; launches: number; floor_us: number; alone_us: number; in_step_us: number | null }[];
        };
      }[];
      memory: { weights: number; kv: number; limit: number; used: number | null }[];
    }[];
    loading: { ms: number; timeline: { name: string }[] }[];
    start: { ms: number; timeline: { name: string; ms: number }[] };
  }
  const sizes = [
    "--batch",
    "1,3",
    "--prompt",
    "20",
    "--new",
    "30",
    "--depth",
    "150",
    "--prefill",
    "40,90",
    "--chunk",
    "64",
    "--repeats",
    "1",
  ];
  const found = await bench<Found>("gpu", "--model", model, "--quick", ...sizes, "--also", "moe=megablocks-moe");
  expect(found.choices.map(({ name }) => name)).toEqual(["as planned", "moe=megablocks-moe"]);
  for (const { rows, memory } of found.choices) {
    expect(rows.map(({ kind, batch, tokens, context }) => [kind, batch ?? tokens, context])).toEqual([
      ["decode", 1, 20],
      ["decode", 3, 20],
      ["prefill", 40, undefined],
      ["prefill", 90, undefined],
      ["decode", 1, 150],
    ]);
    for (const { kind, tokens_per_second, share, distinct_experts, agreement, batch, stages } of rows) {
      positive(tokens_per_second);
      positive(share);
      positive(stages.step_us);
      for (const { launches, alone_us, floor_us } of stages.rows) {
        for (const value of [launches, alone_us]) positive(value);
        expect(floor_us).toBeGreaterThanOrEqual(0);
      }
      // The layers attend by turns, and each has one mixture of experts.
      const launches = (start: string): number[] =>
        stages.rows.filter(({ stage }) => stage.startsWith(start)).map((one) => one.launches);
      const attention = launches(kind === "decode" ? "attn_decode" : "attn_prefill");
      expect(launches("moe")).toEqual([attention[0]! + attention[1]!]);
      if (kind !== "decode") continue;
      // One sequence has four experts in every layer; more have more, and none has all.
      if (batch === 1) expect(distinct_experts).toBe(4);
      else expect(distinct_experts).toBeGreaterThan(4);
      expect(agreement!.equal).toBe(agreement!.compared);
      expect(agreement!.repeated).toBe(batch);
    }
    for (const { weights, kv, limit, used } of memory) expect([limit, used]).toEqual([weights + kv + 600e6, null]);
  }
  positive(found.loading[0]!.ms);
  expect(found.loading[0]!.timeline.map(({ name }) => name)).toContain("kernels");
  positive(found.start.ms);
  expect(found.start.timeline.at(-1)!.name).toContain("first token");
}, 600_000);

test("profile: the choices that the matrix allows, and one recommended", async () => {
  interface Found {
    rows: {
      flags: string[];
      tokens_per_second: number | null;
      expert_layout: string;
      memory: { weights: number };
      conversions: string[];
    }[];
    recommended: { flags: string[]; text: string };
  }
  const found = await bench<Found>(
    "profile",
    "--shape",
    "tiny",
    "--batch",
    "2",
    "--prompt",
    "10",
    "--new",
    "6",
    "--repeats",
    "1",
  );
  expect(found.rows.map(({ expert_layout }) => expert_layout)).toEqual(["mxfp4.rows", "bf16.rows"]);
  expect(found.rows.map(({ flags }) => flags)).toEqual([
    [],
    ["--kernel", "moe=kernlock/megablocks-moe/cpp", "--allow-dequant"],
  ]);
  expect(found.rows[1]!.memory.weights).toBeGreaterThan(found.rows[0]!.memory.weights);
  expect(found.rows[1]!.conversions.join()).toContain("dequantize");
  for (const row of found.rows) positive(row.tokens_per_second!);
  expect(found.rows.map(({ flags }) => flags)).toContainEqual(found.recommended.flags);
}, 300_000);

describe("wrong usage ends with 2, before anything is loaded", () => {
  test.each([
    [["op", "--op", "nothing"]],
    [["op", "--batch", "1,x"]],
    [["gpu", "--prefill", "0"]],
    [["gpu", "--shape", "tiny", "--model", "somewhere"]],
    [["gpu", "--shape", "huge"]],
    [["profile", "--batch", "-1"]],
  ])("%j", async (args) => {
    const { status, stdout } = await kernlock(["bench", ...args, "--json"], { cwd: project });
    expect([status, (JSON.parse(stdout) as { error: { code: string } }).error.code]).toEqual([2, "KL_CLI_USAGE"]);
  });
});
