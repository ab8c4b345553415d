import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makePackage, policyFor, publish, startRegistry } from "../../registry-server/test/material.ts";
import { newFolder, newProject, person, run } from "./kit.ts";

test("attest pushes to a registry, where lock finds what it pushed", async () => {
  const at = await startRegistry();
  const pack = makePackage();
  await publish(at, pack);
  const folder = newFolder();
  const alice = person("alice", folder);
  const base = policyFor(at.key);
  const indented = alice.publicPem.trimEnd().replaceAll(/^/gm, "      ");
  const policy = base
    .replace(/^keys:\n/m, `criteria: { reviewed: {} }\nkeys:\n  alice:\n    pem: |\n${indented}\n`)
    .replace(
      /^rules:\n( +)- match: (.*)\n/m,
      "rules:\n$1- match: $2\n$1  require: { audit: { by: [alice], criteria: [reviewed] } }\n",
    );
  const project = newProject(at.origin, policy, { [pack.name]: pack.version });
  const token = join(folder, "token");
  writeFileSync(token, at.write);
  expect((await run(project, ["lock"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
  const args = ["attest", "audit", `${pack.name}@${pack.version}`, "--registry", at.origin, "--criteria", "reviewed"];
  const refused = await run(project, [...args, "--key", alice.privateFile]);
  expect(refused.code).toMatch(/^KL_/);
  const made = await run(project, [...args, "--key", alice.privateFile, "--token-file", token]);
  expect(made.status, made.stdout).toBe(0);
  expect(made.json.attached).toMatch(/^sha256:/);
  const locked = await run(project, ["lock"]);
  expect(locked.status, locked.stdout).toBe(0);
});
