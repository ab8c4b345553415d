import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { kernlock, root } from "../../scripts/project.ts";
import { copyProject, type TestProject, testProject } from "../project.ts";

let project: TestProject;
beforeAll(async () => {
  project = await testProject();
}, 300_000);

const ask = [
  "generate",
  "--model",
  join(root, "models/dictionary"),
  "--chat",
  "What is a harbor?",
  "--greedy",
  "--json",
];

async function refusal(
  args: readonly string[],
  cwd: string,
): Promise<{ code: string; message: string; remedy: string; row?: string }> {
  const { status, stdout } = await kernlock(args, { cwd });
  expect(status).toBe(1);
  return (JSON.parse(stdout) as { error: { code: string; message: string; remedy: string; row?: string } }).error;
}

describe("MXFP4 weights against a bf16-only MoE kernel", () => {
  it("is refused by row K1 with the memory it would cost and the two ways out", async () => {
    const error = await refusal([...ask, "--kernel", "moe=megablocks-moe"], project.folder);
    expect(error.code).toBe("KL_PLAN_CONFLICT");
    expect(error.row).toBe("K1");
    expect(error.message).toMatch(/\d+(\.\d+)? (KiB|MiB|GiB|MB|GB)/);
    expect(error.remedy).toContain("mxfp4");
    expect(error.remedy).toContain("--allow-dequant");
  });

  it("is refused with the flag when the policy does not allow it", async () => {
    const copy = copyProject(project);
    const policy = join(copy, "kernels.policy.yaml");
    writeFileSync(
      policy,
      readFileSync(policy, "utf8").replace("allowDequantization: true", "allowDequantization: false"),
    );
    const error = await refusal([...ask, "--kernel", "moe=megablocks-moe", "--allow-dequant"], copy);
    expect(error.code).toMatch(/^KL_PLAN_/);
    expect(error.message).toContain("policy");
  });

  it("runs with the flag, and says what was converted", async () => {
    const { status, stdout } = await kernlock([...ask, "--kernel", "moe=megablocks-moe", "--allow-dequant"], {
      cwd: project.folder,
    });
    expect(status).toBe(0);
    const result = JSON.parse(stdout) as {
      plan: { conversions: { kind: string; reason: { row: string | null } }[] };
      run_record: { node: string; op: string }[];
    };
    expect(result.plan.conversions.some(({ kind }) => kind === "dequantize")).toBe(true);
    expect(result.run_record.some(({ op }) => op.startsWith("mxfp4_dequantize"))).toBe(true);
  });

  it("keeps MXFP4 when the flag is given but nothing asks for bf16", async () => {
    const { status, stdout } = await kernlock([...ask, "--allow-dequant"], { cwd: project.folder });
    expect(status).toBe(0);
    expect((JSON.parse(stdout) as { plan: { expertLayout: string } }).plan.expertLayout).toBe("mxfp4.rows");
  });
});
