import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { kernlock, root } from "../../scripts/project.ts";
import { copyProject, type TestProject, testProject } from "../project.ts";

const tiny = join(root, "test/golden/tiny-mxfp4");
const dictionary = join(root, "models/dictionary");
let project: TestProject;
beforeAll(async () => {
  project = await testProject();
}, 300_000);

describe("wrong usage ends with 2", () => {
  it.each([
    [["generate", "--model", tiny]],
    [["generate", "--model", tiny, "--prompt", "a", "--chat", "b"]],
    [["generate", "--model", tiny, "--token-ids", "1,x"]],
    [["generate", "--model", tiny, "--token-ids", "1", "--greedy", "--temperature", "0.5"]],
    [["generate", "--model", tiny, "--token-ids", "1", "--greedy", "--seed", "5"]],
    [["generate", "--model", tiny, "--token-ids", "1", "--max-new-tokens", "-1"]],
    [["generate", "--model", tiny, "--token-ids", "1", "--top-p", "0"]],
    [["generate", "--model", tiny, "--token-ids", "1", "--device", "tpu"]],
    [["generate", "--model", tiny, "--token-ids", "1", "--mode", "f64"]],
    [["generate", "--token-ids", "1"]],
    [["generate", "--no-such-flag"]],
    [["no-such-command"]],
    [["plan"]],
    [["registry", "serve"]],
  ])("%j", async (args) => {
    const { status, stdout } = await kernlock([...args, "--json"], { cwd: project.folder });
    expect(status).toBe(2);
    expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe("KL_CLI_USAGE");
  });
});

describe("a refusal is an object on stdout and ends with 1", () => {
  it.each([
    ["KL_ENGINE_TOKEN_RANGE", ["--model", tiny, "--token-ids", "1,1024"]],
    ["KL_ENGINE_TOKEN_RANGE", ["--model", tiny, "--token-ids", "-1"]],
    ["KL_ENGINE_PROMPT_EMPTY", ["--model", tiny, "--token-ids", ""]],
    ["KL_MODEL_NOT_FOUND", ["--model", join(tmpdir(), "no-such-model"), "--token-ids", "1"]],
    ["KL_PLAN_NO_DRIVER", ["--model", tiny, "--token-ids", "1", "--device", "cuda"]],
    ["KL_PLAN_PIN", ["--model", tiny, "--token-ids", "1", "--kernel", "moe=nothing"]],
  ])("%s %j", async (code, args) => {
    const { status, stdout } = await kernlock(["generate", ...args, "--json"], { cwd: project.folder });
    expect(status, stdout).toBe(1);
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string; remedy: string | null } };
    expect(error.code).toBe(code);
    expect(error.message.length).toBeGreaterThan(10);
    expect(error).toHaveProperty("remedy");
  });
});

describe("--requests", () => {
  it("prints one object a line in order, a bad line's error in its place, and runs the rest", async () => {
    const file = join(mkdtempSync(join(tmpdir(), "kernlock-requests-")), "requests.jsonl");
    writeFileSync(
      file,
      [
        '{"token_ids":[1,2,3],"greedy":true,"max_new_tokens":3}',
        '{"token_ids":[1],"token_ids":[2]}',
        '{"token_ids":[5],"prompt":"x"}',
        "not json",
        '{"token_ids":[99999]}',
        '{"token_ids":[4],"unknown_flag":1}',
        '{"token_ids":[7],"temperature":0.7,"seed":11,"max_new_tokens":2,"ignore_eos":true}',
        "",
      ].join("\n"),
    );
    const { status, stdout } = await kernlock(["generate", "--model", tiny, "--requests", file], {
      cwd: project.folder,
    });
    expect(status).toBe(1);
    const lines = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { token_ids?: number[]; text?: null; error?: { code: string } });
    expect(lines).toHaveLength(7);
    expect(lines.map((line) => line.error?.code)).toEqual([
      undefined,
      "KL_JSON_DUPLICATE_KEY",
      "KL_REQUEST_LINE",
      "KL_JSON_SYNTAX",
      "KL_ENGINE_TOKEN_RANGE",
      "KL_REQUEST_LINE",
      undefined,
    ]);
    expect(lines[0]?.token_ids?.length).toBeLessThanOrEqual(3);
    expect(lines[6]?.token_ids).toHaveLength(2);
    expect(lines[0]?.text).toBeNull();
  });

  it("the same seed gives the same tokens, alone and among others", async () => {
    const one = { token_ids: [9, 8, 7], temperature: 1.3, top_p: 0.9, seed: 77, max_new_tokens: 12, ignore_eos: true };
    const run = async (requests: object[]): Promise<number[][]> => {
      const input = requests.map((request) => JSON.stringify(request)).join("\n");
      const { status, stdout } = await kernlock(["generate", "--model", tiny, "--requests", "-"], {
        cwd: project.folder,
        input,
      });
      expect(status).toBe(0);
      return stdout
        .trimEnd()
        .split("\n")
        .map((line) => (JSON.parse(line) as { token_ids: number[] }).token_ids);
    };
    const [alone] = await run([one]);
    const among = await run([{ ...one, seed: 78 }, one, { ...one, token_ids: [1] }]);
    expect(among[1]).toEqual(alone);
    expect(among[0]).not.toEqual(alone);
  });
});

describe("what people see", () => {
  it("generate streams the answer on stdout, plan and timing on stderr", async () => {
    const { status, stdout, stderr } = await kernlock(
      ["generate", "--model", dictionary, "--chat", "What is a harbor?", "--greedy", "--record"],
      { cwd: project.folder },
    );
    expect(status).toBe(0);
    expect(stdout).toContain("a sheltered port where ships can take on or discharge cargo");
    expect(stderr).toContain("plan: ");
    expect(stderr).toContain("run record");
  });

  it("chat answers two turns and shows thinking apart", async () => {
    const { status, stdout } = await kernlock(["chat", "--model", dictionary, "--greedy", "--reasoning", "medium"], {
      cwd: project.folder,
      input: "What is a harbor?\nUse harbor in a sentence.\n",
    });
    expect(status).toBe(0);
    expect(stdout).toContain("thinking: harbor is a noun and a verb.");
    expect(stdout).toContain("a sheltered port where ships can take on or discharge cargo");
  });

  it.each(["plan", "inspect", "doctor"])(
    "%s works without native addons, in a copy of the project elsewhere",
    async (name) => {
      const copy = copyProject(project);
      const args = name === "inspect" ? [name, dictionary] : [name, "--model", dictionary];
      // A Node that may load no addon at all.
      const { status, stdout, stderr } = await kernlock([...args, "--json"], {
        cwd: copy,
        env: { NODE_OPTIONS: "--no-addons" },
      });
      expect(status, stdout + stderr).toBe(0);
      expect(() => JSON.parse(stdout)).not.toThrow();
    },
  );

  it("doctor ends with 1 when the plan would be refused", async () => {
    const args = ["doctor", "--model", dictionary, "--kernel", "moe=megablocks-moe", "--json"];
    const { status, stdout } = await kernlock(args, { cwd: project.folder });
    expect(status).toBe(1);
    expect(stdout).toContain("KL_PLAN_CONFLICT");
  });
});
