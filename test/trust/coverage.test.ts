import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { kernlock, root } from "../../scripts/project.ts";
import { newProject, policyText, run, scene } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
beforeAll(async () => {
  stage = await scene();
  const made = await run(stage.project, ["lock"]);
  expect(made.status, made.stdout).toBe(0);
});

/** A project with the lock of the stage, changed. */
function projectWith(change: (lock: { kernels: Record<string, unknown> }) => void, kernels = { "acme/norm": "1.0.0" }) {
  const own = newProject(stage.client.origin, policyText(stage.people), kernels);
  const lock = JSON.parse(readFileSync(join(stage.project, "kernels.lock"), "utf8"));
  change(lock);
  writeFileSync(join(own, "kernels.lock"), `${JSON.stringify(lock, null, 2)}\n`);
  return own;
}
const emptied = (lock: { kernels: Record<string, unknown> }) => (lock.kernels = {});
const model = join(root, "test/golden/tiny-mxfp4");

describe("a lock that was emptied although kernels.json asks for a kernel is refused by", () => {
  let project: string;
  beforeAll(() => {
    project = projectWith(emptied);
  });
  test.each([
    [["verify"]],
    [["verify", "--frozen"]],
    [["lock", "--check"]],
    [["lock", "--check", "--frozen"]],
    [["fetch"]],
    [["explain", "acme/norm"]],
    [["plan", "--model", model]],
    [["generate", "--model", model, "--token-ids", "1"]],
  ])("%j", async (args) => {
    const done = await run(project, args);
    expect([done.status, done.code], done.stdout).toEqual([1, "KL_LOCK_STALE"]);
  });
  test("doctor", async () => {
    const { status, json } = await run(project, ["doctor"]);
    expect(status).toBe(1);
    const lock = json.checks.find(({ name }: { name: string }) => name === "lock");
    expect([lock.ok, lock.error.code]).toEqual([false, "KL_LOCK_STALE"]);
  });
});

test("verify names everything that is missing, and still says how the rest does", async () => {
  const project = projectWith(() => {}, { "acme/norm": "1.0.0", "acme/other": "*", "acme/third": "*" } as never);
  const { status, json } = await run(project, ["verify"]);
  expect(status).toBe(1);
  expect(json.problems.map(({ code }: { code: string }) => code)).toEqual(["KL_LOCK_STALE", "KL_LOCK_STALE"]);
  expect(json.kernels).toMatchObject([{ name: "acme/norm", version: "1.0.0" }]);
});

test("an empty lock alone is refused; one of a kernels.json that asks for nothing is called what it is", async () => {
  const alone = projectWith(emptied);
  rmSync(join(alone, "kernels.json"));
  for (const args of [["verify"], ["fetch"]]) expect((await run(alone, args)).code).toBe("KL_LOCK_EMPTY");
  const none = projectWith(emptied, {} as never);
  const nothing = "kernels.json asks for no kernels, and none is locked";
  for (const args of [["verify"], ["fetch"], ["lock"], ["lock", "--check"]]) {
    const { status, stdout } = await kernlock(args, { cwd: none, env: { XDG_STATE_HOME: join(none, "state") } });
    expect([status, stdout.includes(nothing)], `${args}: ${stdout}`).toEqual([0, true]);
  }
  expect((await run(none, ["generate", "--model", model, "--token-ids", "1"])).code).toMatch(/^KL_(LOCK_EMPTY|PLAN_)/);
});

test("a lock may travel alone, and verify says that nothing told it what has to be there", async () => {
  const alone = projectWith(() => {});
  rmSync(join(alone, "kernels.json"));
  expect((await run(alone, ["fetch"])).status).toBe(0);
  const { status, stdout } = await kernlock(["verify"], { cwd: alone, env: { XDG_STATE_HOME: join(alone, "state") } });
  expect(status, stdout).toBe(0);
  expect(stdout).toContain("note: there is no kernels.json beside the lock");
});
