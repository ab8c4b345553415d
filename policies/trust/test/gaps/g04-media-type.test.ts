import { expect, test } from "vitest";
import { verifyBundle } from "../../verify.ts";
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
const identities = [identity(trustedRoot(world))];
const good = newBundle({ leaf: newLeaf(world), entries: (signed) => [world.oldLog.promised(signed, signedAt)] });
const verify = (bundle: unknown) => codeOf(() => verifyBundle(bytesOf(bundle), { keys: [], identities, now }));
const v01 = "application/vnd.dev.sigstore.bundle+json;version=0.1";

test("G4: exactly v0.3, so that no label switches a check off", () => {
  expect(verify(good)).toBe("no refusal");
  const labels = [v01, `${good.mediaType}x`, good.mediaType.replace("v0.3", "v0.9"), good.mediaType.toUpperCase(), ""];
  for (const mediaType of labels) expect(verify({ ...good, mediaType }), mediaType).toBe("KL_BUNDLE_MEDIA_TYPE");

  const dropped = structuredClone(good);
  delete dropped.verificationMaterial.tlogEntries[0].inclusionProof;
  expect(verify(dropped)).toBe("KL_BUNDLE_CHECKPOINT");
  expect(stockAccepts({ ...dropped, mediaType: v01 }, newRoot(world))).toBe(true);
  expect(verify({ ...dropped, mediaType: v01 })).toBe("KL_BUNDLE_MEDIA_TYPE");
});
