import { join } from "node:path";
import { canonicalJson, digestOf } from "@kernlock/kernels/format";
import { breakGlassType, createBundle, narrow, type Policy, withDocuments } from "@kernlock/policies/trust";
import { describe, expect, test } from "vitest";
import { createLock, fetchLocked, loadKernels, openCache } from "../index.ts";
import { codeOf, library, machine, newFolder, now, policyOf, scene } from "./kit.ts";

const stage = await scene();
const { key, policy, cache, lock, client, registry, manifest } = stage;
const withRule = (more: Partial<Policy["rules"][number]>): Policy => ({
  ...policy,
  rules: policy.rules.map((rule) => ({ ...rule, ...more })),
});
const load = async (under: Policy, locked = lock, from = cache) => {
  const loaded = await loadKernels({ lock: locked, policy: under, cache: from, machine, now });
  loaded.close();
  return loaded;
};

describe("the libraries that a policy allows", () => {
  test("are compared with those that the sealed bytes need", async () => {
    const needy = library("needy", ["-Wl,--no-as-needed", "-lm"]);
    await registry.publish({ name: "acme/needy", version: "1.0.0", variants: { v3: { library: needy } } }, key);
    const own = openCache(join(newFolder(), "cache"));
    const kernels = { "acme/needy": "1.0.0" };
    const made = await createLock({ manifest: { ...manifest, kernels }, policy, registry: client, cache: own, now });
    await fetchLocked({ lock: made.lock, cache: own, registry: client });
    const outcome = (under: Policy) => codeOf(() => load(under, made.lock, own));
    expect(await outcome(policy)).toBe("no refusal");
    expect(await outcome(withRule({ libraries: ["libm.so.6", "libc.so.6"] }))).toBe("no refusal");
    expect(await outcome(withRule({ libraries: ["libc.so.6"] }))).toBe("KL_ELF_LIBRARY");
    expect(await outcome(narrow(policy, withRule({ libraries: [] })))).toBe("KL_ELF_LIBRARY");
    // A policy takes away from what the loader knows; it adds nothing.
    expect(await outcome(withRule({ libraries: ["libm.so.6", "libssl.so.3"] }))).toBe("no refusal");
  });
});

describe("the audit line says", () => {
  test("which operator's policy stood above", async () => {
    const operator = policyOf({ publisher: key }, "# the operator's\n");
    const { audit } = await load(narrow(policy, operator));
    expect(new Set(audit.map((line) => line.operatorPolicy))).toEqual(new Set([operator.digest]));
    expect((await load(policy)).audit[0]).not.toHaveProperty("operatorPolicy");
  });

  test("that only a break-glass order let a kernel pass", async () => {
    const strict = policyOf({ publisher: key }, "breakGlass: { by: [publisher] }\n");
    const demanding: Policy = {
      ...strict,
      rules: strict.rules.map((rule) => ({ ...rule, minimumVersion: "9.0.0" })),
    };
    expect(await codeOf(() => load(demanding))).toBe("KL_VERDICT_MINIMUM_VERSION");
    const orders = await Promise.all(
      Object.entries(lock.kernels).map(([name, { version, index }]) => {
        const predicate = {
          ...{ package: name, version, reason: "Outage." },
          ...{ issued: "2026-11-24T00:00:00Z", expires: "2026-11-25T00:00:00Z" },
        };
        const subject = [{ name, digest: { sha256: index.digest.slice(7) } }];
        const statement = {
          _type: "https://in-toto.io/Statement/v1",
          subject,
          predicateType: breakGlassType,
          predicate,
        };
        return createBundle(Buffer.from(JSON.stringify(statement)), key);
      }),
    );
    const { audit } = await load(withDocuments(demanding, { feeds: new Map(), exceptions: orders, seen: {} }));
    expect(audit.every((line) => line.mode === "break-glass" && line.waivers?.length === 1)).toBe(true);
  });
});

test("a lock pins the number of a feed, and a load refuses an older one", async () => {
  const feeds = policyOf(
    { publisher: key },
    "advisories: [{ id: acme, file: a.json, by: [publisher], maxAgeDays: 7 }]\n",
  );
  expect(await codeOf(() => load(feeds))).toBe("KL_FEED_MISSING");
  const pinned = { ...lock, advisories: { acme: 5 } };
  const bundle = (sequence: number) => {
    const predicate = { feed: "acme", sequence, issued: "2026-11-24T00:00:00Z", advisories: [] };
    const statement = {
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: "feed:acme", digest: { sha256: digestOf(canonicalJson(predicate)).slice(7) } }],
      predicateType: "https://kernlock.dev/feed/advisories/v1",
      predicate,
    };
    return createBundle(Buffer.from(JSON.stringify(statement)), key);
  };
  const at = async (sequence: number) =>
    withDocuments(feeds, { feeds: new Map([["acme", await bundle(sequence)]]), exceptions: [], seen: {} });
  expect(await codeOf(async () => load(await at(4), pinned))).toBe("KL_FEED_ROLLBACK");
  expect(await codeOf(async () => load(await at(5), pinned))).toBe("no refusal");
});
