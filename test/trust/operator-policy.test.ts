import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { mountNamespaces, underOperator } from "../../scripts/operator.ts";
import { newFolder, newProject, type Outcome, policyText, run, scene } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
let project: string;
beforeAll(async () => {
  stage = await scene();
  project = stage.project;
  expect((await run(project, ["lock"])).status).toBe(0);
});

/** A folder that stands where /etc/kernlock would, with the operator's policy in it. */
function etc(text: string | null, spoil: (folder: string, file: string) => void = () => {}): string {
  const folder = newFolder();
  chmodSync(folder, 0o755);
  const file = join(folder, "policy.yaml");
  if (text !== null) writeFileSync(file, text, { mode: 0o644 });
  spoil(folder, file);
  return folder;
}

/** Runs a command where `folder` is mounted as /etc/kernlock. */
async function under(folder: string, args: readonly string[], env: Record<string, string> = {}, cwd = project) {
  const options = { cwd, env: { XDG_STATE_HOME: join(cwd, "state"), ...env } };
  const { status, stdout } = await underOperator(folder, [...args, "--json"], options);
  const json = JSON.parse(stdout || "null") as Outcome["json"];
  return { status, json, code: (json?.error?.code ?? null) as string | null };
}

const allowing = () => policyText(stage.people);
const auditing = () => policyText(stage.people, "require: { audit: { by: [alice], criteria: [reviewed] } }");
const elsewhere = () => policyText(stage.people, "", "", "kernlock/*");

describe.skipIf(mountNamespaces === null)("the operator's policy (needs the right to make a mount namespace)", () => {
  test("is asked as well: one that allows changes nothing, one that demands more refuses", async () => {
    expect((await under(etc(null), ["verify"])).status).toBe(0);
    expect((await under(etc(allowing()), ["verify"])).status).toBe(0);
    expect((await under(etc(auditing()), ["verify"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
    expect((await under(etc(elsewhere()), ["verify"])).code).toBe("KL_POLICY_NO_RULE");
    expect((await under(etc(auditing()), ["lock"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
  });

  test("is not moved or switched off by a flag or a variable", async () => {
    const strict = etc(auditing());
    const loose = join(etc(allowing()), "policy.yaml");
    const variables = [
      "KERNLOCK_POLICY",
      "KERNLOCK_OPERATOR_POLICY",
      "KERNLOCK_ETC",
      "XDG_CONFIG_HOME",
      "XDG_CONFIG_DIRS",
      "HOME",
    ];
    const all = Object.fromEntries(variables.map((name) => [name, loose]));
    expect((await under(strict, ["verify"], all)).code).toBe("KL_VERDICT_AUDIT_MISSING");
    expect((await under(strict, ["verify", "--policy", loose])).code).toBe("KL_VERDICT_AUDIT_MISSING");
  });

  test("shows in explain, and forbids what the project's policy would allow", async () => {
    const strict = etc(auditing());
    const { status, json } = await under(strict, ["explain", "acme/norm"]);
    expect(status).toBe(1);
    expect(json.operator_policy).toMatch(/^sha256:/);
    expect(JSON.stringify(json.verdict.tree)).toContain("the operator's policy");
    expect(json.problems[0].code).toBe("KL_VERDICT_AUDIT_MISSING");
  });

  test.each([
    ["can be written by others", (_: string, file: string) => chmodSync(file, 0o666)],
    ["can be written by its group", (_: string, file: string) => chmodSync(file, 0o664)],
    ["lies in a folder that others can write", (folder: string) => chmodSync(folder, 0o777)],
  ])("is refused, and with it everything, when it %s", async (_, spoil) => {
    expect((await under(etc(allowing(), spoil), ["verify"])).code).toBe("KL_POLICY_OPERATOR");
  });
  // Only root can give a file away.
  test.skipIf(process.getuid?.() !== 0).each([
    ["belongs to somebody else", (_: string, file: string) => chownSync(file, 12345, 0)],
    ["lies in a folder of somebody else", (folder: string) => chownSync(folder, 12345, 0)],
  ])("is refused, and with it everything, when it %s (needs root)", async (_, spoil) => {
    expect((await under(etc(allowing(), spoil), ["verify"])).code).toBe("KL_POLICY_OPERATOR");
  });
  test("is refused when it is a link or a folder, or cannot be understood", async () => {
    const link = etc(null, (folder, file) => {
      writeFileSync(join(folder, "real.yaml"), allowing());
      symlinkSync("real.yaml", file);
    });
    expect((await under(link, ["verify"])).code).toBe("KL_POLICY_OPERATOR");
    const directory = etc(null, (_, file) => mkdirSync(file));
    expect((await under(directory, ["verify"])).code).toBe("KL_POLICY_OPERATOR");
    expect((await under(etc("version: 2\n"), ["verify"])).code).toBe("KL_POLICY_FIELD");
    expect((await under(etc("a: &b 1\n"), ["verify"])).code).toBe("KL_POLICY_SYNTAX");
  });

  test("can demand that a project's policy is signed", async () => {
    const operator = etc(policyText(stage.people, "", "approval: { by: [alice, officer], atLeast: 2, maxDays: 30 }\n"));
    const own = newProject(stage.client.origin, allowing(), { "acme/norm": "1.0.0" });
    await run(own, ["lock"]);
    const verify = async () => (await under(operator, ["verify"], {}, own)).code;
    const sign = (who: "alice" | "officer" | "bob") =>
      run(own, ["policy", "sign", "kernels.policy.yaml", "--key", stage.people[who].privateFile]);
    expect(await verify()).toBe("KL_POLICY_APPROVAL");
    await sign("alice");
    await sign("alice");
    await sign("bob");
    expect(await verify()).toBe("KL_POLICY_APPROVAL");
    await sign("officer");
    expect(await verify()).toBeNull();
    writeFileSync(join(own, "kernels.policy.yaml"), `${allowing()}# edited\n`);
    expect(await verify()).toBe("KL_POLICY_APPROVAL");
  });
});
