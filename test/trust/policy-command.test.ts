import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { kernlock } from "../../scripts/project.ts";
import { builder, newFolder, newProject, policyText, run, scene, source } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
beforeAll(async () => {
  stage = await scene();
});

const authorities =
  "exceptions: { by: [alice, officer], atLeast: 2, maxDays: 30 }\nbreakGlass: { by: [officer], maxDays: 3 }\n";
const demand = "require: { audit: { by: [bob], criteria: [reviewed] } }";
const key = (who: "alice" | "bob" | "officer" | "publisher") => ["--key", stage.people[who].privateFile];

test("lint ends with 1 on errors and names them", async () => {
  const project = newProject(stage.client.origin, policyText(stage.people, demand, authorities), {});
  const lint = () => run(project, ["policy", "lint", "kernels.policy.yaml"]);
  expect((await lint()).json).toEqual({ ok: true, findings: [] });
  writeFileSync(join(project, "kernels.policy.yaml"), policyText(stage.people, "", "", "*/*"));
  const found = await lint();
  expect(found.status).toBe(1);
  const codes = found.json.findings.map(({ code }: { code: string }) => code);
  expect(codes).toEqual(expect.arrayContaining(["KL_LINT_WILDCARD", "KL_LINT_UNUSED_KEY", "KL_LINT_UNUSED_CRITERION"]));
  expect((await run(project, ["policy", "lint", "none.yaml"])).code).toBe("KL_CLI_FILE");
});

test("nothing is signed that no verdict could read", async () => {
  const project = newProject(stage.client.origin, policyText(stage.people, "", authorities), { "acme/norm": "1.0.0" });
  expect((await run(project, ["lock"])).status).toBe(0);
  const order = (...more: string[]) =>
    run(project, ["policy", "exception", "acme/norm", "--days", "7", ...more, ...key("alice")]);
  const odd = await order("--waive", "everything", "--reason", "Why not.");
  expect([odd.status, odd.code]).toEqual([1, "KL_ATTEST_FORM"]);
  expect(odd.json.error.message).toContain("is nothing that can be waived");
  expect((await order("--waive", "audit", "--reason", "")).code).toBe("KL_ATTEST_FORM");
  expect(readdirSync(project)).not.toContain("kernels.exceptions");
  writeFileSync(join(project, "list.json"), '[{ "kind": "everything", "reason": "x" }]');
  const sign = (kind: string, feed: string) =>
    run(project, [
      "policy",
      "feed",
      "list.json",
      "--kind",
      kind,
      "--feed",
      feed,
      "--sequence",
      "1",
      "--output",
      "feed.json",
      ...key("officer"),
    ]);
  expect((await sign("revocations", "acme")).code).toBe("KL_ATTEST_FORM");
  expect((await sign("advisories", "acme")).code).toBe("KL_ATTEST_FORM");
  expect((await sign("advisories", "Acme!")).status).toBe(2);
  expect(readdirSync(project)).not.toContain("feed.json");
});

test("schema prints what is published", async () => {
  const { stdout } = await kernlock(["policy", "schema"]);
  expect(JSON.parse(stdout)).toEqual(
    JSON.parse(readFileSync(new URL("../../schemas/policy.schema.json", import.meta.url), "utf8")),
  );
});

test("test compares each case's verdict with what it expects", async () => {
  const folder = newFolder();
  writeFileSync(join(folder, "policy.yaml"), policyText(stage.people));
  writeFileSync(join(folder, "strict.yaml"), policyText(stage.people, demand));
  const subject = stage.subjectOf("acme/norm", "1.0.0");
  const index = JSON.parse(Buffer.from(subject.bytes).toString());
  const manifest = index.manifests[0].digest;
  const evidence = [subject.digest, manifest].map((digest: string, i) => {
    const referrer = stage.registry.attached.get(digest as `sha256:${string}`)?.[0]?.digest ?? "";
    const bundle = JSON.parse(Buffer.from(stage.registry.manifests.get(referrer)?.bytes ?? "").toString()).layers[0]
      .digest;
    writeFileSync(join(folder, `bundle-${i}.json`), stage.registry.blobs.get(bundle) ?? "");
    return { subject: digest, bundle: `bundle-${i}.json` };
  });
  const one = (name: string, change: object) => {
    const base = {
      name,
      policy: "policy.yaml",
      now: "2026-11-24T12:00:00Z",
      kernel: {
        name: "acme/norm",
        version: "1.0.0",
        index: subject.digest,
        source,
        variants: [
          {
            key: "linux-x86_64-cpu-v3",
            manifest,
            contents: { payloads: ["shared-object"], ptx: false, license: "MIT" },
          },
        ],
      },
      evidence,
      expect: "allowed",
    };
    writeFileSync(join(folder, `${name}.case.json`), JSON.stringify({ ...base, ...change }));
  };
  one("allowed", {});
  one("unsigned", { evidence: evidence.slice(1), expect: "KL_VERDICT_MISSING" });
  one("unaudited", { policy: "strict.yaml", expect: "KL_VERDICT_AUDIT_MISSING" });
  one("operator", { operator: "strict.yaml", expect: "KL_VERDICT_AUDIT_MISSING" });
  const tested = await run(folder, ["policy", "test", folder]);
  expect([tested.status, tested.json?.ok, tested.json?.cases.length], tested.stdout).toEqual([0, true, 4]);
  one("wrong", { expect: "KL_VERDICT_MISSING" });
  const failed = await run(folder, ["policy", "test", folder]);
  expect([failed.status, failed.json.ok]).toEqual([1, false]);
  expect(builder).toContain("builder");
  one("wrong", { surprise: 1 });
  expect((await run(folder, ["policy", "test", folder])).code).toBe("KL_POLICY_TEST");
  expect((await run(folder, ["policy", "test", newFolder()])).code).toBe("KL_POLICY_TEST");
  expect((await run(folder, ["policy", "test", join(folder, "none")])).status).toBe(2);
});

describe("a kernel that a rule refuses", () => {
  /** Locked under a policy without the demand, which then came. */
  const stuck = async () => {
    const project = newProject(stage.client.origin, policyText(stage.people), { "acme/norm": "1.0.0" });
    expect((await run(project, ["lock"])).status).toBe(0);
    writeFileSync(join(project, "kernels.policy.yaml"), policyText(stage.people, demand, authorities));
    expect((await run(project, ["verify"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
    return project;
  };
  test("passes by an exception that enough people signed, and verify says so", async () => {
    const project = await stuck();
    const made = await run(project, [
      "policy",
      "exception",
      "acme/norm",
      "--waive",
      "audit",
      "--reason",
      "The audit comes on Monday.",
      "--days",
      "7",
      ...key("alice"),
    ]);
    expect(made.status, made.stdout).toBe(0);
    expect((await run(project, ["verify"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
    expect((await run(project, ["policy", "cosign", made.json.file, ...key("officer")])).status).toBe(0);
    expect(readdirSync(join(project, "kernels.exceptions"))).toHaveLength(2);
    const { json } = await run(project, ["verify"]);
    expect(json.ok).toBe(true);
    expect(json.kernels[0].waivers).toMatchObject([{ kind: "exception", requirement: "audit" }]);
    const { stdout } = await kernlock(["explain", "acme/norm"], { cwd: project });
    expect(stdout).toContain("waived: audit, by exception until");
    expect(stdout).toContain("The audit comes on Monday.");
  });
  test("passes by a break-glass order of the one who may give it, and every record says so", async () => {
    const project = await stuck();
    const order = ["policy", "exception", "acme/norm", "--break-glass", "--reason", "Outage.", "--days", "2"];
    await run(project, [...order, ...key("alice")]);
    expect((await run(project, ["verify"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
    await run(project, [...order, ...key("officer")]);
    const { json } = await run(project, ["verify"]);
    expect([json.ok, json.kernels[0].mode]).toEqual([true, "break-glass"]);
  });
  test("does not pass by junk among the exceptions", async () => {
    const project = await stuck();
    mkdirSync(join(project, "kernels.exceptions"));
    writeFileSync(join(project, "kernels.exceptions/x.json"), "{");
    expect((await run(project, ["verify"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
    expect((await run(project, ["policy", "lint", "kernels.policy.yaml"])).json.findings).toMatchObject([
      { code: "KL_LINT_EXPIRED_EXCEPTION" },
    ]);
  });
});

describe("feeds", () => {
  const osv = (id: string, fixed: string) => ({
    id,
    modified: "2026-11-01T00:00:00Z",
    affected: [
      {
        package: { ecosystem: "Kernlock", name: "acme/norm" },
        ranges: [{ type: "SEMVER", events: [{ introduced: "0" }, { fixed }] }],
      },
    ],
  });
  test("are signed, pinned by number in the lock, and never go back", async () => {
    const more = "advisories: [{ id: acme, file: feed.json, by: [officer], maxAgeDays: 7 }]\n";
    const project = newProject(stage.client.origin, policyText(stage.people, "", more), { "acme/norm": "1.0.0" });
    const list = join(project, "list.json");
    const publish = async (sequence: number, records: object[]) => {
      writeFileSync(list, JSON.stringify(records));
      const args = ["--kind", "advisories", "--feed", "acme", "--sequence", String(sequence), "--output", "feed.json"];
      const made = await run(project, ["policy", "feed", list, ...args, ...key("officer")]);
      expect(made.status, made.stdout).toBe(0);
    };
    expect((await run(project, ["lock"])).code).toBe("KL_FEED_MISSING");
    await publish(3, []);
    expect((await run(project, ["lock"])).status).toBe(0);
    expect(JSON.parse(readFileSync(join(project, "kernels.lock"), "utf8")).advisories).toEqual({ acme: 3 });
    await publish(2, []);
    expect((await run(project, ["verify"])).code).toBe("KL_FEED_ROLLBACK");
    // Another client, which has seen nothing: the lock still knows.
    expect((await run(project, ["verify"], { XDG_STATE_HOME: newFolder() })).code).toBe("KL_FEED_ROLLBACK");
    await publish(4, [osv("KSA-1", "1.0.1")]);
    const refused = await run(project, ["verify"]);
    expect(refused.code).toBe("KL_VERDICT_ADVISORY");
    expect(refused.json.error.message).toContain("1.0.1 fixes it");
    await publish(5, [osv("KSA-1", "1.0.0")]);
    expect((await run(project, ["verify"])).json.ok).toBe(true);
    expect((await run(project, ["lock"])).status).toBe(0);
    expect(JSON.parse(readFileSync(join(project, "kernels.lock"), "utf8")).advisories).toEqual({ acme: 5 });
  });
});
