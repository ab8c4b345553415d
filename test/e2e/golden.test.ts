import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kernlock, root } from "../../scripts/project.ts";
import { testProject } from "../project.ts";
import { floats, ids, readSafetensors, worstRow } from "../safetensors.ts";

interface Line {
  readonly prompt: string | null;
  readonly prompt_token_ids: number[];
  readonly token_ids: number[];
  readonly text: string | null;
  readonly channels: Record<string, string>;
  readonly finish_reason: string;
  readonly run_record: { node: string; kernel: string; op: string; digest: string; signer: string }[];
}

const scratch = mkdtempSync(join(tmpdir(), "kernlock-golden-"));
let project = "";
beforeAll(async () => {
  project = (await testProject()).folder;
}, 300_000);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function generate(model: string, requests: readonly object[], ...flags: string[]): Promise<Line[]> {
  const file = join(scratch, "requests.jsonl");
  writeFileSync(file, requests.map((request) => `${JSON.stringify(request)}\n`).join(""));
  const args = ["generate", "--model", join(root, model), "--requests", file, "--json", ...flags];
  const { status, stdout, stderr } = await kernlock(args, { cwd: project });
  expect(status, stdout.slice(0, 2000) + stderr).toBe(0);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

const paths = [
  { name: "mxfp4", flags: ["--kernel", "moe=mxfp4"], kernel: "kernlock/mxfp4" },
  {
    name: "megablocks-moe on bf16",
    flags: ["--kernel", "moe=megablocks-moe", "--allow-dequant"],
    kernel: "kernlock/megablocks-moe",
  },
];

describe.each(paths)("golden models in mode f32 through $name", ({ flags, kernel }) => {
  it("answers the 55 conversations of the dictionary token for token", async () => {
    const conversations = JSON.parse(readFileSync(join(root, "models/dictionary/reference.json"), "utf8")) as {
      messages: object[];
      reasoning_effort?: string;
      prompt: string;
      output: string;
      channels: Record<string, string>;
      finish_reason: string;
    }[];
    const reference = readSafetensors(join(root, "models/dictionary/reference.safetensors"));
    const requests = conversations.map(({ messages, reasoning_effort }) => ({
      messages,
      reasoning_effort,
      greedy: true,
    }));
    const lines = await generate("models/dictionary", requests, ...flags);
    expect(lines).toHaveLength(55);
    lines.forEach((line, i) => {
      const expected = conversations[i];
      expect(line.prompt).toBe(expected?.prompt);
      expect(line.prompt_token_ids).toEqual(ids(reference, `prompt_${i}`));
      expect(line.token_ids).toEqual(ids(reference, `greedy_${i}`));
      expect(line.text).toBe(expected?.output);
      expect(line.channels).toEqual(expected?.channels);
      expect(line.finish_reason).toBe(expected?.finish_reason);
    });
    const moe = lines[0]?.run_record.filter(({ node }) => node === "moe_up" || node === "moe_down") ?? [];
    expect(moe.length).toBeGreaterThan(0);
    expect(new Set(moe.map((entry) => entry.kernel))).toEqual(new Set([kernel]));
  }, 300_000);

  it.each([
    ["test/golden/tiny-mxfp4", "reference.safetensors"],
    ["test/golden/tiny-mxfp4", "reference-long.safetensors"],
    ["test/golden/tiny-mxfp4-sharded", "reference.safetensors"],
  ])(
    "gives the recorded ids and logits of %s %s",
    async (model, file) => {
      const reference = readSafetensors(join(root, model, file));
      const count = [...reference.keys()].filter((name) => name.startsWith("prompt_")).length;
      const requests = Array.from({ length: count }, (_, i) => ({
        token_ids: ids(reference, `prompt_${i}`),
        greedy: true,
        ignore_eos: true,
        max_new_tokens: ids(reference, `greedy_${i}`).length,
      }));
      const logitsFile = join(scratch, "logits.safetensors");
      const lines = await generate(model, requests, "--logits", logitsFile, ...flags);
      const logits = readSafetensors(logitsFile);
      lines.forEach((line, i) => {
        expect(line.token_ids).toEqual(ids(reference, `greedy_${i}`));
        const expected = floats(reference, `logits_${i}`);
        const [rows = 0, vocab = 0] = expected.shape;
        const got = floats(logits, `logits_${i}`);
        const prompt = line.prompt_token_ids.length;
        expect(got.shape).toEqual([prompt + line.token_ids.length, vocab]);
        // The reference keeps the last rows of long prompts only.
        const slice = got.data.subarray((prompt - rows) * vocab, prompt * vocab);
        expect(worstRow(slice, expected.data, vocab)).toBeLessThanOrEqual(1e-4);
      });
    },
    300_000,
  );
});
