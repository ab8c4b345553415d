/** A mirrored version is shown some days after a time that somebody trusted vouches for; without one, never. */
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { createBundle, exceptionType } from "@kernlock/policies/trust";
import { expect, test } from "vitest";
import { bytesOf, newBundle, newRoot, newWorld, signedAt } from "../../policies/trust/test/authorities/index.ts";
import { newKey } from "../../policies/trust/test/material.ts";
import { makePackage, policyFor, refusal, statement, type TestPackage } from "../../registry-server/test/material.ts";
import {
  blobOf,
  manifestOf,
  put,
  refer,
  type Shelf,
  startMirror,
  startShelf,
} from "../../registry-server/test/mirror-material.ts";

const world = newWorld();
const publisher = newKey();
const officer = newKey();
const dayMs = 86_400_000;
const clockOf = `roots: { ours: { json: '${JSON.stringify(newRoot(world))}' } }\ntimes: { root: ours }\n`;
const pem = (key: { pem: string }) => key.pem.trimEnd().replaceAll(/^/gm, "      ");

/** Attaches provenance with timestamps that say when it existed. */
async function stamped(shelf: Shelf, pack: TestPackage, time: Date): Promise<void> {
  const stamps = (signature: Buffer) => [world.tsa.stamp(signature, time)];
  const bundle = (payload: Uint8Array) => bytesOf(newBundle({ pair: publisher, payload, stamps }));
  await put(shelf, pack, null);
  await refer(shelf, pack.index, mediaTypes.index, bundle(statement(pack)));
  for (const variant of pack.variants) {
    await refer(shelf, variant.manifest, mediaTypes.manifest, bundle(statement(pack, variant)));
  }
}

async function start(options: { more?: string; rule?: string; coolDownDays?: number }) {
  const upstream = await startShelf();
  const time = { now: signedAt.getTime() + dayMs };
  const policy = policyFor(publisher)
    .replace("rules:", `  officer:\n    pem: |\n${pem(officer)}\nrules:`)
    .replace("numerics:", `${options.rule ?? ""}numerics:`)
    .concat(options.more ?? clockOf);
  const at = await startMirror(upstream, {
    policy,
    settings: { coolDownDays: options.coolDownDays ?? 14 },
    registry: { now: () => new Date(time.now) },
  });
  const later = (days: number) => {
    time.now += days * dayMs;
  };
  return { upstream, at, later };
}

const list = async (at: { origin: string }) => {
  const answer = await fetch(`${at.origin}/v2/acme/norm/tags/list`);
  return answer.status === 200 ? ((await answer.json()) as { tags: string[] }).tags : answer.status;
};
const codeOf = async (at: { origin: string }) => (await refusal(manifestOf(at, "1.0.0")))[2];

test("a young version is neither listed nor handed out; an old one is", async () => {
  const { upstream, at, later } = await start({});
  const pack = makePackage();
  await stamped(upstream.shelf, pack, signedAt);
  expect(await list(at)).toBe(404);
  expect(await refusal(manifestOf(at, "1.0.0"))).toEqual([403, "DENIED", "KL_VERDICT_TOO_YOUNG"]);
  expect((await manifestOf(at, pack.digest)).status).toBe(403);
  for (const bytes of pack.blobs) expect((await blobOf(at, digestOf(bytes))).status).toBe(404);
  later(12);
  expect(await codeOf(at)).toBe("KL_VERDICT_TOO_YOUNG");
  later(1);
  expect(await list(at)).toEqual(["1.0.0"]);
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
});

test("the newest that is old enough is listed", async () => {
  const { upstream, at, later } = await start({});
  later(30);
  await stamped(upstream.shelf, makePackage(), signedAt);
  await stamped(upstream.shelf, makePackage({ version: "1.1.0" }), new Date(signedAt.getTime() + 25 * dayMs));
  expect(await list(at)).toEqual(["1.0.0"]);
  later(10);
  expect(await list(at)).toEqual(["1.0.0", "1.1.0"]);
});

test("without a trusted time nothing is ever shown, however old it says it is", async () => {
  for (const more of [clockOf, ""]) {
    const { upstream, at, later } = await start({ more });
    await put(upstream.shelf, makePackage(), publisher);
    later(3000);
    expect(await codeOf(at)).toBe("KL_VERDICT_NO_TRUSTED_TIME");
    expect(await list(at)).toBe(404);
  }
});

test("a clock that the policy does not name counts for nothing", async () => {
  const { upstream, at, later } = await start({ more: "" });
  await stamped(upstream.shelf, makePackage(), signedAt);
  later(3000);
  expect((await manifestOf(at, "1.0.0")).status).toBe(403);
});

test("the longer of the mirror's and the policy's cool-down counts", async () => {
  const { upstream, at, later } = await start({ rule: "    minimumAgeDays: 20\n", coolDownDays: 5 });
  await stamped(upstream.shelf, makePackage(), signedAt);
  later(10);
  expect(await codeOf(at)).toBe("KL_VERDICT_TOO_YOUNG");
  later(10);
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
});

test("a clock that goes back shows nothing early, and hides nothing that was shown", async () => {
  const { upstream, at, later } = await start({});
  await stamped(upstream.shelf, makePackage(), signedAt);
  later(-1000);
  expect((await manifestOf(at, "1.0.0")).status).toBe(403);
  later(1020);
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  later(-1000);
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
});

test("somebody with the right to may let one version through early, signed, dated and on record", async () => {
  const { upstream, at, later } = await start({ more: `${clockOf}exceptions: { by: [officer], maxDays: 30 }\n` });
  const pack = makePackage();
  await stamped(upstream.shelf, pack, signedAt);
  expect(await codeOf(at)).toBe("KL_VERDICT_TOO_YOUNG");
  const value = {
    ...{ package: pack.name, version: pack.version, waives: ["minimumAge"], reason: "a fix that cannot wait" },
    issued: new Date(signedAt.getTime() + dayMs / 2).toISOString(),
    expires: new Date(signedAt.getTime() + 5 * dayMs).toISOString(),
  };
  const bytes = Buffer.from(
    JSON.stringify({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: pack.name, digest: { sha256: pack.digest.slice(7) } }],
      predicateType: exceptionType,
      predicate: value,
    }),
  );
  await at.registry.keepException({ namespace: "acme", bundle: await createBundle(bytes, officer) });
  later(0.01);
  expect((await manifestOf(at, "1.0.0")).status).toBe(200);
  const published = (await at.registry.auditAfter(0, 100)).find(({ action }) => action === "version.publish");
  expect(JSON.parse(published!.details)).toMatchObject({
    waivers: [{ kind: "exception", requirement: "minimumAge" }],
    mirrored_from: { origin: upstream.origin },
  });
});
