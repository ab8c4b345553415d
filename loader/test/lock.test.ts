import { createBundle, fingerprintOf } from "@kernlock/policies/trust";
import { describe, expect, test } from "vitest";
import { checkLockMatches, createLock, diffLocks, formatLock, type Lock, parseLock } from "../index.ts";
import { builder, codeOf, library, newKey, now, policyOf, provenance, scene, source } from "./kit.ts";

const { registry, client, key, policy, norm, manifest, cache, lock, text, changes, trustChanged, missingVariants } =
  await scene();
const again = (more = {}) => createLock({ manifest, policy, registry: client, cache, now, ...more });
/** The lock's text with one thing in it changed. */
// biome-ignore lint/suspicious/noExplicitAny: these tests break locks in ways that no type allows
function edited(change: (lock: any) => void): string {
  const copy = JSON.parse(text);
  change(copy);
  return JSON.stringify(copy);
}

describe("a new lock", () => {
  test("pins version, digests, signers, builder, source and statements", () => {
    const locked = lock.kernels["acme/norm"]!;
    expect(locked).toMatchObject({
      version: "1.0.0",
      abi: 0,
      signers: [fingerprintOf(key.publicKey)],
      builder,
      source,
      index: { digest: registry.tagged.get("acme/norm")!.get("1.0.0") },
    });
    expect(locked.variants.map(({ key }) => key)).toEqual(["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"]);
    expect(locked.variants[0]!.files.map(({ path }) => path)).toEqual(["README.md", "kernel.so"]);
    expect(locked.statements.map(({ scope, variant }) => variant ?? scope)).toEqual([
      "index",
      "linux-x86_64-cpu-v3",
      "linux-x86_64-cpu-v4",
    ]);
    expect(lock.policy).toBe(policy.digest);
    expect(missingVariants).toEqual(["acme/moe 2.1.0 linux-x86_64-cpu-v4"]);
    expect([changes, trustChanged]).toEqual([[], false]);
  });

  test("is the same text however often it is made, and reads back", async () => {
    expect((await again()).text).toBe(text);
    expect(parseLock(text)).toEqual(lock);
    expect(formatLock(parseLock(Buffer.from(text)))).toBe(text);
    expect(checkLockMatches(manifest, lock)).toEqual([]);
  });

  test("keeps its versions until it is updated, and then shows what changed", async () => {
    await registry.publish({ ...norm, version: "1.1.0" }, key);
    await registry.publish({ ...norm, version: "3.0.0" }, key);
    expect((await again({ previous: lock })).text).toBe(text);
    const updated = await again({ previous: lock, update: true });
    expect(updated.changes).toEqual([
      { kernel: "acme/norm", what: "version", trust: false, before: "1.0.0", after: "1.1.0" },
    ]);
    expect(updated.trustChanged).toBe(false);
    registry.tagged.get("acme/norm")!.delete("1.1.0");
  });

  test("does not care for broken or foreign bundles beside the good ones", async () => {
    const index = lock.kernels["acme/norm"]!.index;
    const subject = { mediaType: "application/vnd.oci.image.index.v1+json", ...index };
    await registry.attach(Buffer.from("junk"), subject);
    await registry.attach(await createBundle(provenance(norm, null, index), newKey()), subject);
    expect((await again()).text).toBe(text);
  });
});

describe("a change of trust is said", () => {
  test("when another allowed key signs the next version", async () => {
    const other = newKey();
    await registry.publish({ ...norm, version: "1.2.0" }, other);
    const both = policyOf({ publisher: key, other });
    const result = await again({ policy: both, previous: lock, update: true });
    expect(result.trustChanged).toBe(true);
    expect(result.changes.filter(({ trust, what }) => trust && what !== "policy")).toEqual([
      {
        kernel: "acme/norm",
        what: "signers",
        trust: true,
        before: [fingerprintOf(key.publicKey)],
        after: [fingerprintOf(other.publicKey)],
      },
    ]);
    expect(await codeOf(() => again({ previous: lock, update: true }))).toBe("KL_BUNDLE_UNKNOWN_KEY");
    registry.tagged.get("acme/norm")!.delete("1.2.0");
  });

  test("of builder, source, registry and bytes under one version; not of a revision with its version", () => {
    const of = (change: (kernel: Lock["kernels"][string]) => object, more = {}): string[] => {
      const kernels = {
        ...lock.kernels,
        "acme/norm": { ...lock.kernels["acme/norm"]!, ...change(lock.kernels["acme/norm"]!) },
      };
      return diffLocks(lock, { ...lock, kernels, ...more }).map(({ what, trust }) => (trust ? `${what}!` : what));
    };
    expect(of(() => ({}))).toEqual([]);
    expect(of(() => ({ builder: "x" }))).toEqual(["builder!"]);
    expect(of(() => ({ source: { ...source, repository: "x" } }))).toEqual(["source!"]);
    expect(of(() => ({ source: { ...source, revision: "x" } }))).toEqual(["source!"]);
    expect(of(() => ({ version: "1.0.1", source: { ...source, revision: "x" } }))).toEqual(["version"]);
    expect(of(({ index }) => ({ index: { ...index, digest: lock.policy } }))).toEqual(["content!"]);
    expect(of(() => ({}), { registry: { origin: "https://other.example" } })).toEqual(["registry!"]);
    expect(of(() => ({}), { policy: lock.kernels["acme/norm"]!.index.digest })).toEqual(["policy!"]);
    expect(diffLocks(lock, { ...lock, kernels: {} }).map(({ what }) => what)).toEqual(["removed", "removed"]);
  });
});

describe("no lock is made", () => {
  test("when no version, no variant or no kernel answers", async () => {
    const ask = (kernels: Record<string, string>, variants = manifest.variants) =>
      codeOf(() => again({ manifest: { ...manifest, kernels, variants } }));
    expect(await ask({ "acme/norm": "^9.0.0" })).toBe("KL_LOCK_NO_VERSION");
    expect(await ask({ "acme/norm": "1.0.0" }, ["linux-x86_64-cpu-v2"])).toBe("KL_LOCK_NO_VARIANT");
    expect(await ask({ "acme/none": "*" })).toBe("KL_LOCK_NO_VERSION");
  });

  test("when the registry has other bytes under a locked version", async () => {
    const tags = registry.tagged.get("acme/norm")!;
    const before = tags.get("1.0.0")!;
    const bundles = registry.attached.get(before);
    await registry.publish({ ...norm, variants: { v3: { library: library("other") } } }, key);
    expect(await codeOf(() => again({ previous: lock }))).toBe("KL_LOCK_MOVED");
    tags.set("1.0.0", before);
    registry.attached.set(before, bundles!);
  });

  test("when a tag leads to another package's index", async () => {
    const moe = registry.tagged.get("acme/moe")!.get("2.1.0")!;
    registry.tagged.get("acme/norm")!.set("1.9.0", moe);
    expect(await codeOf(() => again())).toBe("KL_LOCK_INDEX");
    registry.tagged.get("acme/norm")!.delete("1.9.0");
  });

  test("when nobody signed", async () => {
    await registry.publish({ ...norm, version: "1.5.0" }, key);
    const index = registry.tagged.get("acme/norm")!.get("1.5.0")!;
    registry.attached.delete(index);
    expect(await codeOf(() => again())).toBe("KL_VERDICT_MISSING");
    registry.tagged.get("acme/norm")!.delete("1.5.0");
  });

  test("when the policy allows another registry, or kernels.json names one", async () => {
    const elsewhere = policyOf({ publisher: key }, "registry:\n  origin: https://kernels.example\n");
    expect(await codeOf(() => again({ policy: elsewhere }))).toBe("KL_POLICY_REGISTRY");
    const other = { ...manifest, registry: "https://kernels.example" };
    expect(await codeOf(() => again({ manifest: other }))).toBe("KL_LOCK_REGISTRY");
  });
});

describe("an edited lock is not read", () => {
  const first = (copy: { kernels: Record<string, unknown> }) => copy.kernels["acme/norm"] as Record<string, never>;
  test.each([
    ["an unknown field", "KL_LOCK_FIELD", edited((l) => (l.extra = 1))],
    ["an unknown field of a kernel", "KL_LOCK_FIELD", edited((l) => (l.kernels["acme/norm"].trusted = true))],
    ["a missing field", "KL_LOCK_FIELD", edited((l) => delete first(l).signers)],
    ["a digest that is none", "KL_LOCK_FIELD", edited((l) => (l.kernels["acme/norm"].index.digest = "sha256:00"))],
    ["an unsorted list", "KL_LOCK_FIELD", edited((l) => l.kernels["acme/norm"].variants.reverse())],
    [
      "a path out of the package",
      "KL_LOCK_FIELD",
      edited((l) => (l.kernels["acme/norm"].variants[0].files[0].path = "../x")),
    ],
    ["a reserved field", "KL_LOCK_RESERVED", edited((l) => (l.checkpoint = "x"))],
    ["a model pin that names no file", "KL_LOCK_FIELD", edited((l) => (l.model = { name: "x", files: [] }))],
    ["a feed's number that is none", "KL_LOCK_FIELD", edited((l) => (l.advisories = { osv: 0 }))],
    ["registry keys", "KL_LOCK_RESERVED", edited((l) => (l.registry.keys = []))],
    ["a log index", "KL_LOCK_RESERVED", edited((l) => (l.kernels["acme/norm"].logIndex = 1))],
    ["another version", "KL_LOCK_VERSION", edited((l) => (l.lockVersion = 2))],
    [
      "a duplicate key",
      "KL_JSON_DUPLICATE_KEY",
      text.replace('"lockVersion": 1', '"lockVersion": 1,\n  "lockVersion": 1'),
    ],
    ["data behind it", "KL_JSON_TRAILING", `${text}{}`],
    ["no object", "KL_LOCK_FIELD", "null"],
  ])("with %s", async (_, code, hostile) => {
    expect(await codeOf(() => parseLock(hostile))).toBe(code);
  });

  test("a lock that no longer answers kernels.json is stale", () => {
    const stale = (change: object) => checkLockMatches({ ...manifest, ...change }, lock).map(({ code }) => code);
    expect(stale({ registry: "https://kernels.example" })).toEqual(["KL_LOCK_STALE"]);
    expect(stale({ kernels: { "acme/norm": "^2.0.0", "acme/moe": "*" } })).toEqual(["KL_LOCK_STALE"]);
    expect(stale({ kernels: { "acme/norm": "*" } })).toEqual(["KL_LOCK_STALE"]);
    expect(stale({ kernels: { ...manifest.kernels, "acme/x": "*" } })).toEqual(["KL_LOCK_STALE"]);
    expect(stale({ variants: ["linux-x86_64-cpu-v3"] })).toEqual(["KL_LOCK_STALE"]);
  });
});
