import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine } from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import { expect, onTestFinished, test } from "vitest";
import { floats, ids, readSafetensors, worstRow } from "../safetensors.ts";
import { dequantizedCopy } from "./checkpoints.ts";
import { models, startOn } from "./engines.ts";

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-run-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The tiny model with one scale byte changed, in its last layer. */
function withScale(byte: number): string {
  const folder = temporaryFolder();
  for (const file of ["config.json", "generation_config.json", "model.safetensors"]) {
    cpSync(join(models.tiny, file), join(folder, file));
  }
  const model = openModel(folder);
  const tensor = model.tensors.get("model.layers.3.mlp.experts.down_proj_scales")!;
  model.close();
  const bytes = readFileSync(join(folder, "model.safetensors"));
  bytes[tensor.offset + tensor.bytes - 1] = byte;
  writeFileSync(join(folder, "model.safetensors"), bytes);
  return folder;
}

async function outcome(starting: Promise<Engine>): Promise<unknown> {
  try {
    await using engine = await starting;
    return engine.plan.expertLayout;
  } catch (error) {
    return error;
  }
}

test("a scale of 255 is refused before anything runs; of 253, where bf16 would have to hold it", async () => {
  const nan = { code: "KL_MODEL_SCALE", row: "S1", details: { byte: 255, index: 8 * 256 * 8 - 1 } };
  expect(await outcome(startOn(withScale(255)))).toMatchObject(nan);
  expect(await outcome(startOn(withScale(255), { moe: "megablocks-moe" }))).toMatchObject(nan);
  const large = withScale(253);
  expect(await outcome(startOn(large))).toBe("mxfp4.rows");
  expect(await outcome(startOn(large, { moe: "megablocks-moe" }))).toMatchObject({ code: "KL_MODEL_SCALE", row: "S2" });
}, 300_000);

test.each(["in_out", "out_in"] as const)(
  "bf16 experts stored [%s] give the same logits",
  async (order) => {
    const folder = dequantizedCopy(models.tiny, temporaryFolder(), order);
    await using engine = await startOn(folder, { allowDequant: false });
    const reference = readSafetensors(join(models.tiny, "reference.safetensors"));
    expect(engine.plan.conversions.map(({ kind }) => kind)).toEqual(
      order === "in_out" ? ["pack", "transpose"] : ["pack"],
    );
    const made = await engine.generate({
      prompt: { tokenIds: ids(reference, "prompt_0") },
      sampling: { kind: "greedy" },
      ignoreEos: true,
      logits: true,
      maxNewTokens: ids(reference, "greedy_0").length,
    });
    expect(made.result.token_ids).toEqual(ids(reference, "greedy_0"));
    const { data, shape } = floats(reference, "logits_0");
    expect(worstRow(made.logits!.data.subarray(0, data.length), data, shape[1]!)).toBeLessThanOrEqual(1e-4);
  },
  300_000,
);

test("a library with other ops than its variant.json declares is refused", async () => {
  const fewer = startOn(models.tiny, {}, (kernels) =>
    kernels.map((kernel) => {
      const ops = kernel.variant.ops.filter((op) => op.name !== "o_proj");
      return { ...kernel, variant: { ...kernel.variant, ops } };
    }),
  );
  expect(await outcome(fewer)).toMatchObject({ code: "KL_LOAD_OP_TABLE" });
  const renamed = startOn(models.tiny, {}, (kernels) =>
    kernels.map((kernel) => {
      const ops = kernel.variant.ops.map((op) => (op.name === "rmsnorm" ? { ...op, path: "other" } : op));
      return { ...kernel, variant: { ...kernel.variant, ops } };
    }),
  );
  expect(await outcome(renamed)).toMatchObject({ code: "KL_LOAD_OP_TABLE" });
}, 300_000);

test("a host that dies takes its requests with it, and says how", async () => {
  await using engine = await startOn(models.tiny);
  const running = engine.generate({ prompt: { tokenIds: [1] }, ignoreEos: true, maxNewTokens: 4000 });
  setTimeout(() => process.kill(engine.pid, "SIGKILL"), 50);
  await expect(running).rejects.toMatchObject({ code: "KL_ENGINE_DIED", details: { how: "signal SIGKILL" } });
  await expect(engine.generate({ prompt: { tokenIds: [1] } })).rejects.toMatchObject({ code: "KL_ENGINE_DIED" });
}, 300_000);

test("the host has sealed files and the model open, and no file of the kernel cache", async () => {
  await using engine = await startOn(models.tiny);
  const maps = readFileSync(`/proc/${engine.pid}/maps`, "utf8");
  const libraries = maps.split("\n").filter((line) => line.includes("memfd:") && line.includes(" r-xp "));
  expect(libraries.length).toBeGreaterThanOrEqual(4);
  expect(maps).toContain(join(models.tiny, "model.safetensors"));
  expect(maps).not.toMatch(/blobs\/sha256/);
}, 300_000);

test("after closing, requests are refused and the process is gone", async () => {
  const engine = await startOn(models.tiny);
  await engine.close();
  await engine.close();
  await expect(engine.generate({ prompt: { tokenIds: [1] } })).rejects.toMatchObject({ code: "KL_ENGINE_CLOSED" });
  expect(() => process.kill(engine.pid, 0)).toThrow();
}, 300_000);
