import { createHash } from "node:crypto";
import { parseStrictJson } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { fingerprintOf } from "../keys.ts";
import { lintTrustedRoot } from "../verify/root.ts";
import { verifyBundle } from "../verify.ts";
import { recertify } from "./authorities/certificates.ts";
import {
  bytesOf,
  identity,
  type Loose,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  signedAt,
  trustedRoot,
} from "./authorities/index.ts";
import type { Signed } from "./authorities/logs.ts";
import { newKey, now, statement, trusted } from "./material.ts";
import { mutateBytes, mutateField, newRandom, type Random } from "./mutate.ts";

/** In all; the long run sets more, and another seed. A failure names the seed and the number of its change. */
const count = Number(process.env.KERNLOCK_MUTATIONS ?? 1200);
const seed = Number(process.env.KERNLOCK_SEED ?? 20261124);

const world = newWorld();
const root = trustedRoot(world);
const key = newKey();
const leaf = newLeaf(world);
const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];

const originals: Readonly<Record<string, Loose>> = {
  "a key": newBundle({ pair: key }),
  "a key, a timestamp and a log": newBundle({ pair: key, stamps, entries: (it) => [world.log.entry(it)] }),
  "a certificate, a timestamp and Rekor v2": newBundle({ leaf, stamps, entries: (it) => [world.log.entry(it)] }),
  "a certificate and Rekor v1": newBundle({ leaf, entries: (it) => [world.oldLog.promised(it, signedAt)] }),
};

// Evidence that is not demanded could be stripped by anybody, which would give another verdict.
const anchor = { root, demand: { times: 1, logEntries: 1 } };
const bare = { keys: [trusted(key)], identities: [identity(root)], now };
const optionsOf = (what: string) => (what === "a key" ? bare : { ...bare, anchor });

/** What a caller may act on, as text. */
function verdict(bytes: Uint8Array, options = bare as Parameters<typeof verifyBundle>[1]): string {
  try {
    const { bundleDigest: _, bundleSize: __, ...decides } = verifyBundle(bytes, options);
    return JSON.stringify(decides, (_key, value) => (typeof value === "bigint" ? String(value) : value));
  } catch (error) {
    const { code, name } = error as { code?: string; name?: string };
    return name === "KernlockError" && code?.startsWith("KL_BUNDLE_") ? code : `untyped ${String(error)}`;
  }
}

const share = Math.ceil(count / (2 * Object.keys(originals).length + 5));

describe(`${share * (2 * Object.keys(originals).length + 5)} random changes, seed ${seed}`, () => {
  describe.each(Object.entries(originals))(
    "of a bundle with %s: refused with a code, or the same verdict",
    (what, json) => {
      const options = optionsOf(what);
      const expected = verdict(bytesOf(json), options);
      const run = (change: (random: Random) => Uint8Array, random: Random) => {
        const seen = new Map<string, number>();
        for (let i = 0; i < share; i++) {
          const found = verdict(change(random), options);
          expect(found === expected || found.startsWith("KL_BUNDLE_"), `change ${i}: ${found}`).toBe(true);
          seen.set(found, (seen.get(found) ?? 0) + 1);
        }
        return seen;
      };

      test("one byte", () => {
        expect(expected).toMatch(/^\{/);
        run((random) => mutateBytes(bytesOf(json), random), newRandom(seed));
      });

      test("one field", () => {
        const seen = run((random) => bytesOf(mutateField(json, random)), newRandom(seed + 1));
        // The changes reach behind the parser: signatures and proofs refuse some of them.
        expect([...seen.keys()].some((code) => /SIGNATURE|INCLUSION|TIMESTAMP|UNKNOWN_KEY/.test(code))).toBe(true);
      });
    },
  );

  test("of a statement, signed again: refused with a code, or read as what was signed", () => {
    const random = newRandom(seed + 2);
    const original = JSON.parse(Buffer.from(statement()).toString());
    for (let i = 0; i < share; i++) {
      const payload = random(2) === 0 ? bytesOf(mutateField(original, random)) : mutateBytes(bytesOf(original), random);
      const found = verdict(bytesOf(newBundle({ pair: key, payload })));
      if (found.startsWith("KL_BUNDLE_")) continue;
      const signed = JSON.parse(found);
      expect(signed.payloadDigest, `change ${i}: ${found}`).toBe(
        `sha256:${createHash("sha256").update(payload).digest("hex")}`,
      );
      expect(signed.statement).toEqual(parseStrictJson(payload));
      expect(signed.signer.fingerprint).toBe(fingerprintOf(key.publicKey));
    }
  });

  test("of a log entry, logged and signed again: refused with a code, or the same verdict", () => {
    const random = newRandom(seed + 3);
    const bundle = (change: (body: Loose) => Loose) =>
      newBundle({
        leaf,
        stamps,
        entries: (it: Signed) => {
          const honest = world.log.entry(it);
          const body = JSON.parse(Buffer.from(honest.canonicalizedBody, "base64").toString());
          return [world.log.entry(it, { body: change(body) })];
        },
      });
    const expected = verdict(bytesOf(bundle((body) => body)));
    for (let i = 0; i < share; i++) {
      let changed = "";
      const json = bundle((body) => {
        const mutated = mutateField(body, random);
        changed = JSON.stringify(mutated);
        return mutated;
      });
      const found = verdict(bytesOf(json));
      const fine = found.startsWith("KL_BUNDLE_") || found === expected;
      expect(fine, `change ${i}: ${found} ${changed}`).toBe(true);
    }
  });

  test("of a checkpoint, signed again: refused with a code, or the same verdict", () => {
    const random = newRandom(seed + 5);
    const bundle = (note: (text: string) => string) =>
      bytesOf(newBundle({ leaf, stamps, entries: (it) => [world.log.entry(it, { note })] }));
    const expected = verdict(bundle((text) => text));
    for (let i = 0; i < share; i++) {
      const found = verdict(bundle((text) => mutateBytes(Buffer.from(text), random).toString()));
      expect(found.startsWith("KL_BUNDLE_") || found === expected, `change ${i}: ${found}`).toBe(true);
    }
  });

  test("of a certificate, certified again: refused with a code, or the same verdict", () => {
    const random = newRandom(seed + 6);
    const bundle = (change: (tbs: Buffer) => Buffer) =>
      bytesOf(newBundle({ leaf: recertify(leaf, world.ca, change), stamps, entries: (it) => [world.log.entry(it)] }));
    const expected = verdict(bundle((tbs) => tbs));
    expect(expected).toMatch(/^\{/);
    for (let i = 0; i < share; i++) {
      const found = verdict(bundle((tbs) => mutateBytes(tbs, random)));
      expect(found.startsWith("KL_BUNDLE_") || found === expected, `change ${i}: ${found}`).toBe(true);
    }
  });

  test("of a trusted root: it is read, or its problems are listed", () => {
    const random = newRandom(seed + 4);
    const json = newRoot(world);
    for (let i = 0; i < share; i++) {
      const bytes = random(2) === 0 ? bytesOf(mutateField(json, random)) : mutateBytes(bytesOf(json), random);
      for (const { code } of lintTrustedRoot(bytes)) expect(code, `change ${i}`).toMatch(/^KL_ROOT_/);
    }
  });
});
