import { expect, test } from "vitest";
import { trustedKey } from "../../keys.ts";
import { verifyBundle } from "../../verify.ts";
import { newPair } from "../authorities/certificates.ts";
import {
  bytesOf,
  identity,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  signedAt,
  stockAccepts,
  trustedRoot,
} from "../authorities/index.ts";
import { codeOf, now } from "../material.ts";

const world = newWorld();
const bundle = newBundle({
  leaf: newLeaf(world),
  stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
  entries: (signed) => [world.log.entry(signed)],
});
const judged = (log: object) =>
  codeOf(() => verifyBundle(bytesOf(bundle), { keys: [], identities: [identity(trustedRoot(world, { log }))], now }));

test("G7: an entry without a promise counts only inside the log key's window", () => {
  const retired = { start: "2026-01-01T00:00:00Z", end: "2026-05-31T00:00:00Z" };
  const future = { start: "2026-07-01T00:00:00Z" };
  expect(stockAccepts(bundle, newRoot(world, { log: retired }), undefined, { tlogThreshold: 1 })).toBe(true);
  expect(judged(retired)).toBe("KL_BUNDLE_LOG_WINDOW");
  expect(judged(future)).toBe("KL_BUNDLE_LOG_WINDOW");
  expect(judged({ start: "2026-01-01T00:00:00Z", end: "2026-07-01T00:00:00Z" })).toBe("no refusal");
  // Both ends belong to the window.
  expect(judged({ start: signedAt.toISOString(), end: signedAt.toISOString() })).toBe("no refusal");
});

test("G7: without a proved time, the caller's clock has to be inside", () => {
  const pair = newPair();
  const key = trustedKey("k", pair.publicKey.export({ type: "spki", format: "pem" }) as string);
  const bytes = bytesOf(newBundle({ pair, entries: (signed) => [world.log.entry(signed)] }));
  const at = (log: object) =>
    codeOf(() => verifyBundle(bytes, { keys: [key], anchor: { root: trustedRoot(world, { log }) }, now }));
  expect(at({ start: "2026-01-01T00:00:00Z" })).toBe("no refusal");
  expect(at({ start: "2026-01-01T00:00:00Z", end: "2026-10-01T00:00:00Z" })).toBe("KL_BUNDLE_LOG_WINDOW");
});
