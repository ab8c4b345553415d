import { digestOf } from "@kernlock/kernels/format";
import { expect, test } from "vitest";
import { refusal } from "../../registry-server/test/material.ts";
import { uploadAttacks } from "./cases/upload.ts";
import { makePack } from "./pack.ts";
import { honestPolicy, pushes, serverFor } from "./places.ts";
import { keys, runAttacks } from "./run.ts";

runAttacks("uploads and publishing", uploadAttacks);

// The one attack that is no refusal of one request: row 82 of the table.
test("82: of eight publishes of one version at once exactly one wins, and its bytes are all of what is served", async () => {
  const server = await serverFor(honestPolicy(keys));
  const packs = await Promise.all(
    Array.from({ length: 8 }, (_, n) =>
      makePack(keys, { index: (i) => (i.annotations["org.opencontainers.image.description"] = `Candidate ${n}.`) }),
    ),
  );
  const tags = [];
  for (const pack of packs) {
    const steps = pushes(server, pack);
    tags.push(steps.pop()!);
    for (const send of steps) expect((await send()).ok).toBe(true);
  }
  const answers = await Promise.all(tags.map((send) => send()));
  const won = answers.map(({ status }) => status === 201);
  expect(won.filter(Boolean)).toHaveLength(1);
  for (const [i, answer] of answers.entries()) {
    if (!won[i]) expect((await refusal(answer))[2]).toBe("KL_REGISTRY_VERSION_EXISTS");
  }
  const stands = await fetch(`${server.origin}/v2/acme/norm/manifests/1.0.0`);
  expect(stands.headers.get("docker-content-digest")).toBe(digestOf(packs[won.indexOf(true)]!.index));
});
