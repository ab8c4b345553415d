import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { kernlock, root } from "../../scripts/project.ts";
import { newProject, policyText, run, scene } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
let project: string;
const lockOf = (folder: string) => join(folder, "kernels.lock");
const textOf = (folder: string) => readFileSync(lockOf(folder), "utf8");
beforeAll(async () => {
  stage = await scene();
  project = stage.project;
  const made = await run(project, ["lock"]);
  expect(made.status, made.stdout).toBe(0);
});

describe("kernels.json is edited by", () => {
  test("add, which asks the registry, and remove", async () => {
    const own = newProject(stage.client.origin, policyText(stage.people), {});
    expect((await run(own, ["add", "acme/norm"])).json.added).toEqual({ "acme/norm": "^1.1.0" });
    expect((await run(own, ["add", "acme/norm@~1.0.0"])).json.added).toEqual({ "acme/norm": "~1.0.0" });
    expect((await run(own, ["add", "acme/none"])).code).toBe("KL_LOCK_NO_VERSION");
    expect((await run(own, ["add", "acme/norm@^9"])).code).toBe("KL_LOCK_NO_VERSION");
    expect((await run(own, ["add", "acme/norm@nonsense"])).status).toBe(2);
    expect((await run(own, ["add", "Acme/Norm"])).status).toBe(2);
    expect((await run(own, ["remove", "acme/none"])).code).toBe("KL_MANIFEST_KERNEL");
    expect((await run(own, ["remove", "acme/norm"])).json.removed).toEqual(["acme/norm"]);
    expect(JSON.parse(readFileSync(join(own, "kernels.json"), "utf8")).kernels).toEqual({});
  });
});

test("outdated names what is newer, inside the range and beyond", async () => {
  expect((await run(project, ["outdated"])).json.kernels).toEqual([
    { name: "acme/norm", locked: "1.0.0", in_range: "1.0.0", newest: "1.1.0" },
  ]);
});

describe("lock --check", () => {
  test("passes for the lock as it was written, and writes nothing", async () => {
    const before = textOf(project);
    for (const args of [
      ["lock", "--check"],
      ["lock", "--check", "--frozen"],
    ]) {
      const done = await run(project, args);
      expect([done.status, done.json?.ok], done.stdout).toEqual([0, true]);
    }
    expect(textOf(project)).toBe(before);
  });
  test.each([
    [
      "KL_LOCK_STALE",
      (own: string) =>
        writeFileSync(
          join(own, "kernels.json"),
          readFileSync(join(own, "kernels.json"), "utf8").replace('"1.0.0"', '"^1.1.0"'),
        ),
    ],
    [
      "KL_LOCK_POLICY",
      (own: string) => writeFileSync(join(own, "kernels.policy.yaml"), `${policyText(stage.people)}# more\n`),
    ],
    ["KL_LOCK_CHECK", (own: string) => writeFileSync(lockOf(own), JSON.stringify(JSON.parse(textOf(own))))],
    ["KL_LOCK_FIELD", (own: string) => writeFileSync(lockOf(own), textOf(own).replace('"abi"', '"aby"'))],
  ])("refuses with %s", async (code, spoil) => {
    const own = copy();
    spoil(own);
    expect((await run(own, ["lock", "--check", "--frozen"])).code).toBe(code);
  });
  test("ends with 3 when locking again would change trust", async () => {
    const own = copy();
    writeFileSync(
      lockOf(own),
      textOf(own).replace(/"https:\/\/builder\.example\/one"/, '"https://builder.example/two"'),
    );
    const done = await run(own, ["lock", "--check"]);
    expect([done.status, done.json.trust_changed]).toEqual([3, true]);
    expect(done.json.changes.map(({ what }: { what: string }) => what)).toEqual(["builder"]);
  });
  test("ends with 3 for an edit that no word of the diff names", async () => {
    const own = copy();
    const lock = JSON.parse(textOf(own));
    lock.kernels["acme/norm"].variants[0].files[0].size += 1;
    writeFileSync(lockOf(own), `${JSON.stringify(lock, null, 2)}\n`);
    // Not named by any word of the diff, and all the more suspicious.
    expect((await run(own, ["lock", "--check"])).status).toBe(3);
  });
  test("goes with no other wish", async () => {
    expect((await run(project, ["lock", "--check", "--update"])).status).toBe(2);
    expect((await run(project, ["lock", "--frozen"])).status).toBe(2);
  });
});

describe("diff", () => {
  const newer = async () => {
    const own = copy();
    writeFileSync(
      join(own, "kernels.json"),
      readFileSync(join(own, "kernels.json"), "utf8").replace('"1.0.0"', '"^1.0.0"'),
    );
    expect((await run(own, ["lock", "--update"])).status).toBe(0);
    return own;
  };
  test("says a version bump apart, and ends with 0", async () => {
    const own = await newer();
    const { status, stdout } = await kernlock(["diff", lockOf(project), lockOf(own)]);
    expect(status).toBe(0);
    expect(stdout).toContain("acme/norm: version 1.0.0 to 1.1.0");
    expect(stdout).not.toContain("Trust changed");
    expect((await kernlock(["diff", lockOf(own), lockOf(own)])).stdout).toBe("nothing changed\n");
  });
  test("says a change of trust first, and ends with 3", async () => {
    const own = copy();
    writeFileSync(
      lockOf(own),
      textOf(own).replace(/"https:\/\/builder\.example\/one"/, '"https://builder.example/two"'),
    );
    const { status, stdout } = await kernlock(["diff", lockOf(project), lockOf(own)]);
    expect(status).toBe(3);
    expect(stdout).toBe(
      "Trust changed. Somebody has to agree to each of these:\n" +
        "  ! acme/norm: builder https://builder.example/one to https://builder.example/two\n",
    );
  });
  test("takes an empty file for no lock, and a first lock for a change of trust", async () => {
    const empty = join(stage.folder, "empty.lock");
    writeFileSync(empty, "");
    const { status, stdout } = await kernlock(["diff", empty, lockOf(project)]);
    expect(status).toBe(3);
    expect(stdout).toContain("acme/norm: new publisher sha256:");
    expect((await run(project, ["diff", lockOf(project), empty])).code).toBe("KL_LOCK_FIELD");
    expect((await run(project, ["diff", "none.lock", lockOf(project)])).code).toBe("KL_CLI_FILE");
  });
  test("says when a new kernel comes from people who are not known yet", async () => {
    const lock = JSON.parse(textOf(project));
    const other = structuredClone(lock.kernels["acme/norm"]);
    other.signers = [`sha256:${"a".repeat(64)}`];
    lock.kernels["acme/other"] = other;
    const file = join(stage.folder, "grown.lock");
    writeFileSync(file, JSON.stringify(lock));
    const { status, stdout } = await kernlock(["diff", lockOf(project), file]);
    expect(status).toBe(3);
    expect(stdout).toContain(`acme/other: new publisher sha256:${"a".repeat(64)}`);
    expect(stdout).toContain("acme/other 1.0.0 is new");
  });
});

describe("the model's files can be pinned", () => {
  const tiny = join(root, "test/golden/tiny-mxfp4");
  test("and stay pinned until they are not", async () => {
    const own = copy();
    const pinned = await run(own, ["lock", "--model", tiny]);
    expect(pinned.status, pinned.stdout).toBe(0);
    const files = (): string[] =>
      (JSON.parse(textOf(own)).model?.files ?? []).map(({ path }: { path: string }) => path);
    expect(files()).toEqual(expect.arrayContaining(["config.json", "model.safetensors"]));
    expect((await run(own, ["lock"])).status).toBe(0);
    expect(files().length).toBeGreaterThan(1);
    const { stdout, status } = await kernlock(["diff", lockOf(project), lockOf(own)]);
    expect(status).toBe(0);
    expect(stdout).toContain("The lock: the model tiny-mxfp4 is pinned");
    expect((await run(own, ["lock", "--no-model"])).status).toBe(0);
    expect(files()).toEqual([]);
  });
  test("and another model is refused before anything else is looked at", async () => {
    const own = copy();
    await run(own, ["lock", "--model", tiny]);
    const other = join(root, "models/dictionary");
    const done = await run(own, ["generate", "--model", other, "--token-ids", "1"]);
    expect(done.code).toBe("KL_LOCK_MODEL");
  });
});

function copy(): string {
  const own = newProject(stage.client.origin, policyText(stage.people), { "acme/norm": "1.0.0" });
  writeFileSync(lockOf(own), textOf(project));
  return own;
}
