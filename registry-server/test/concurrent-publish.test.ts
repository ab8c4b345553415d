import { expect, test } from "vitest";
import { makePackage, pushAll, putTag, startRegistry } from "./material.ts";

test("of twenty publishes of one version exactly one wins", async () => {
  const at = await startRegistry();
  const packs = Array.from({ length: 20 }, (_, i) => makePackage({ card: `# Candidate ${i}\n` }));
  for (const pack of packs) await pushAll(at, pack);
  const answers = await Promise.all(packs.map((pack) => putTag(at, pack)));
  const statuses = answers.map((answer) => answer.status);
  expect(statuses.filter((s) => s === 201)).toHaveLength(1);
  expect(statuses.filter((s) => s === 409)).toHaveLength(19);
  const winner = packs[statuses.indexOf(201)]!;
  const stands = await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`);
  expect(stands.headers.get("docker-content-digest")).toBe(winner.digest);
  const document = await fetch(`${at.origin}/api/v1/kernels/acme/norm`);
  expect(((await document.json()) as { versions: unknown[] }).versions).toHaveLength(1);
});

test("publishes of different versions do not disturb each other", async () => {
  const at = await startRegistry();
  const packs = Array.from({ length: 12 }, (_, i) => makePackage({ version: `1.${i}.0` }));
  await Promise.all(packs.map((pack) => pushAll(at, pack)));
  const answers = await Promise.all(packs.map((pack) => putTag(at, pack)));
  expect(answers.map((answer) => answer.status)).toEqual(packs.map(() => 201));
});
