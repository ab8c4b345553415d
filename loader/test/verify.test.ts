import { cpSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Digest } from "@kernlock/kernels/format";
import { digestOf } from "@kernlock/kernels/format";
import { createBundle } from "@kernlock/policies/trust";
import { describe, expect, test } from "vitest";
import {
  assertVerified,
  type Cache,
  formatLock,
  type Lock,
  openCache,
  type Pin,
  parseLock,
  verifyLocked,
} from "../index.ts";
import { codeOf, newFolder, newKey, now, policyOf, provenance, scene } from "./kit.ts";

const { key, policy, norm, cache, lock, text } = await scene();

// biome-ignore lint/suspicious/noExplicitAny: these tests break locks in ways that no type allows
type Loose = any;

/** The codes that a verification finds, each once. */
async function problems(
  what: { lock?: Lock; cache?: Cache; policy?: typeof policy; now?: Date; frozen?: boolean } = {},
) {
  const report = await verifyLocked({ lock, policy, cache, now, ...what });
  const codes = [...report.problems, ...report.kernels.flatMap((kernel) => kernel.problems)].map(({ code }) => code);
  expect(report.ok).toBe(codes.length === 0);
  return [...new Set(codes)];
}

/** The lock with one thing changed in the kernel "acme/norm", read as if from a file. */
function edited(change: (kernel: Loose) => void): Lock {
  const copy = JSON.parse(text) as Loose;
  change(copy.kernels["acme/norm"]);
  return parseLock(formatLock(copy));
}

/** A copy of the cache that a test may spoil. */
function spoiled(change: (pathOf: (pin: Pin) => string, cache: Cache) => void): Cache {
  const copy = openCache(join(newFolder(), "cache"));
  cpSync(cache.folder, copy.folder, { recursive: true });
  change(copy.pathOf, copy);
  return copy;
}

const normKernel = lock.kernels["acme/norm"]!;
const payload = normKernel.variants[0]!.files[1]!;
const card = normKernel.variants[0]!.files[0]!;

describe("a lock that is true", () => {
  test("verifies, every file hashed and every kernel judged", async () => {
    const report = await verifyLocked({ lock, policy, cache, now, frozen: true });
    expect(report.ok).toBe(true);
    expect(report.policyChanged).toBe(false);
    expect(report.kernels.map(({ name, filesChecked, verdict }) => [name, filesChecked, verdict?.ok])).toEqual([
      ["acme/moe", 2, true],
      ["acme/norm", 4, true],
    ]);
    expect(() => assertVerified(report)).not.toThrow();
  });

  test("verifies without a write: the cache may be on a read-only disk", async () => {
    const before = statSync(join(cache.folder, "blobs", "sha256")).mtimeMs;
    await verifyLocked({ lock, policy, cache, now, frozen: true });
    expect(statSync(join(cache.folder, "blobs", "sha256")).mtimeMs).toBe(before);
  });

  test("verifies without native code of ours: no compiler, no addon", async () => {
    await verifyLocked({ lock, policy, cache, now });
    expect(readFileSync("/proc/self/maps", "utf8")).not.toContain(join("loader", "native"));
  });

  test("is judged by the policy of today; only frozen insists on the one that it was made under", async () => {
    const wider = policyOf({ publisher: key, other: newKey() });
    expect(await problems({ policy: wider })).toEqual([]);
    expect((await verifyLocked({ lock, policy: wider, cache, now })).policyChanged).toBe(true);
    expect(await problems({ policy: wider, frozen: true })).toEqual(["KL_LOCK_POLICY"]);
  });
});

describe("an edited lock is refused", () => {
  const someDigest = `sha256:${"ab".repeat(32)}` as Digest;
  const [v3, v4] = normKernel.variants;
  const cases: [string, string, (kernel: Loose) => void][] = [
    ["another version", "KL_LOCK_INDEX", (k) => (k.version = "1.0.1")],
    ["another index digest", "KL_CACHE_MISSING", (k) => (k.index.digest = someDigest)],
    ["another index size", "KL_CACHE_SIZE", (k) => k.index.size++],
    ["another package's index", "KL_LOCK_INDEX", (k) => (k.index = lock.kernels["acme/moe"]!.index)],
    ["signers emptied", "KL_LOCK_SIGNERS", (k) => (k.signers = [])],
    ["another signer", "KL_LOCK_SIGNERS", (k) => (k.signers = [someDigest])],
    ["one more signer", "KL_LOCK_SIGNERS", (k) => (k.signers = [...k.signers, someDigest].sort())],
    ["another builder", "KL_LOCK_BUILDER", (k) => (k.builder = "https://builder.example/two")],
    ["another repository", "KL_LOCK_SOURCE", (k) => (k.source.repository = "https://git.example/fork")],
    ["another revision", "KL_LOCK_SOURCE", (k) => (k.source.revision = "f".repeat(40))],
    ["another ABI", "KL_LOCK_ABI", (k) => (k.abi = 1)],
    ["statements emptied", "KL_VERDICT_MISSING", (k) => (k.statements = [])],
    ["the index's statement taken out", "KL_VERDICT_MISSING", (k) => k.statements.shift()],
    ["another payload digest", "KL_LOCK_STATEMENT", (k) => (k.statements[0].payload = someDigest)],
    ["another predicate type", "KL_LOCK_STATEMENT", (k) => (k.statements[0].predicateType = "https://x.example/v1")],
    [
      "a statement moved to another manifest",
      "KL_VERDICT_MISSING",
      (k) => (k.statements[1].subject = v4!.manifest.digest),
    ],
    ["no variants", "KL_LOCK_VARIANT", (k) => (k.variants = [])],
    ["another manifest digest", "KL_LOCK_VARIANT", (k) => (k.variants[0].manifest.digest = someDigest)],
    ["manifests swapped between variants", "KL_LOCK_VARIANT", (k) => (k.variants[0].manifest = v4!.manifest)],
    ["configs swapped between variants", "KL_LOCK_CONFIG", (k) => (k.variants[0].config = v4!.config)],
    ["files swapped between variants", "KL_LOCK_FILE_DIFFERS", (k) => (k.variants[0].files = v4!.files)],
    ["a file of another kind", "KL_LOCK_FILE_DIFFERS", (k) => (k.variants[0].files[1].kind = "device-image")],
    ["a file left out", "KL_LOCK_FILE_MISSING", (k) => k.variants[0].files.pop()],
    [
      "a file that the manifest does not name",
      "KL_LOCK_FILE_UNLISTED",
      (k) => k.variants[0].files.push({ ...v3!.files[1], path: "planted.so" }),
    ],
  ];
  test.each(cases)("%s", async (_, code, change) => {
    expect((await problems({ lock: edited(change) }))[0]).toBe(code);
  });

  test("whatever leaf of it is changed", async () => {
    const leaves: (readonly (string | number)[])[] = [];
    const walk = (value: unknown, path: readonly (string | number)[]): void => {
      if (typeof value !== "object" || value === null) return void leaves.push(path);
      for (const [key, member] of Object.entries(value)) walk(member, [...path, key]);
    };
    walk(JSON.parse(text), []);
    expect(leaves.length).toBeGreaterThan(80);
    const bound = policyOf({ publisher: key }, `registry:\n  origin: ${lock.registry.origin}\n`);
    for (const path of leaves) {
      const copy = JSON.parse(text) as Loose;
      let parent = copy;
      for (const step of path.slice(0, -1)) parent = parent[step];
      const last = path.at(-1)!;
      const before = parent[last];
      if (typeof before === "number") parent[last] = before + 1;
      else parent[last] = before.replace(/.$/, (end: string) => (end === "0" ? "1" : "0"));
      const code = await codeOf(async () => {
        const report = await verifyLocked({
          lock: parseLock(formatLock(copy)),
          policy: path[0] === "registry" ? bound : policy,
          cache,
          now,
          frozen: path[0] === "policy",
        });
        assertVerified(report);
      });
      expect(code, `${path.join(".")}: ${before} -> ${parent[last]}`).toMatch(/^KL_(LOCK|CACHE|VERDICT|POLICY)_/);
    }
  });

  test("even where somebody else made all of it, with kernels of his own", async () => {
    const theirs = await scene();
    expect(await problems({ lock: theirs.lock, cache: theirs.cache, policy: theirs.policy })).toEqual([]);
    expect(await problems({ lock: theirs.lock, cache: theirs.cache })).toEqual(["KL_BUNDLE_UNKNOWN_KEY"]);
  });

  test("the registry, when the policy names one", async () => {
    const bound = policyOf({ publisher: key }, `registry:\n  origin: ${lock.registry.origin}\n`);
    expect(await problems({ policy: bound })).toEqual([]);
    const moved = { ...lock, registry: { origin: "https://other.example" } };
    expect(await problems({ policy: bound, lock: moved })).toEqual(["KL_POLICY_REGISTRY"]);
  });
});

describe("other evidence than the pinned is refused", () => {
  /** The lock and cache with the index's bundle replaced. */
  async function withBundle(bundle: Uint8Array) {
    const pin = { digest: digestOf(bundle), size: bundle.byteLength };
    const copy = spoiled(() => {});
    await copy.put(pin, bundle);
    return { lock: edited((k) => (k.statements[0].bundle = pin)), cache: copy };
  }
  const other = newKey();
  const statement = provenance(norm, null, normKernel.index);

  test("an unknown signer's", async () => {
    expect(await problems(await withBundle(await createBundle(statement, other)))).toEqual(["KL_BUNDLE_UNKNOWN_KEY"]);
  });
  test("another allowed signer's, which the lock does not pin", async () => {
    const both = policyOf({ publisher: key, other });
    const swapped = await withBundle(await createBundle(statement, other));
    expect(await problems({ ...swapped, policy: both })).toEqual(["KL_LOCK_SIGNERS"]);
  });
  test("the same signer's statement about something else", async () => {
    const elsewhere = provenance(norm, null, lock.kernels["acme/moe"]!.index);
    expect(await problems(await withBundle(await createBundle(elsewhere, key)))).toEqual(["KL_VERDICT_SUBJECT"]);
    const renamed = provenance({ ...norm, name: "acme/other" }, null, normKernel.index);
    expect(await problems(await withBundle(await createBundle(renamed, key)))).toEqual(["KL_VERDICT_SUBJECT"]);
  });
  test("the same statement signed anew by the same key", async () => {
    expect(await problems(await withBundle(await createBundle(statement, key)))).toEqual([]);
  });
  test("an unsigned bundle", async () => {
    const bundle = JSON.parse(Buffer.from(await createBundle(statement, key)).toString());
    bundle.dsseEnvelope.signatures = [];
    expect(await problems(await withBundle(Buffer.from(JSON.stringify(bundle))))).toEqual(["KL_BUNDLE_UNSIGNED"]);
  });
  test("the pinned signer's, once its key's window is over by the caller's clock", async () => {
    const brief = policyOf({ publisher: { ...key, validUntil: "2026-12-01T00:00:00Z" } });
    expect(await problems({ policy: brief })).toEqual([]);
    expect(await problems({ policy: brief, now: new Date("2026-12-02T00:00:00Z") })).toEqual(["KL_BUNDLE_KEY_WINDOW"]);
  });
});

describe("a cache that does not hold what is pinned is refused", () => {
  const flip = (path: string) => {
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
  };
  const cases: [string, string, (pathOf: (pin: Pin) => string) => void][] = [
    ["a payload bit flipped", "KL_CACHE_DIGEST", (pathOf) => flip(pathOf(payload))],
    ["a bit flipped in a file that is never loaded", "KL_CACHE_DIGEST", (pathOf) => flip(pathOf(card))],
    ["a bundle bit flipped", "KL_CACHE_DIGEST", (pathOf) => flip(pathOf(normKernel.statements[0]!.bundle))],
    ["an index bit flipped", "KL_CACHE_DIGEST", (pathOf) => flip(pathOf(normKernel.index))],
    ["a file cut short", "KL_CACHE_SIZE", (pathOf) => truncateSync(pathOf(payload), 100)],
    ["a file missing", "KL_CACHE_MISSING", (pathOf) => rmSync(pathOf(payload))],
    [
      "a link, even to the right bytes",
      "KL_CACHE_FILE",
      (pathOf) => {
        const elsewhere = join(newFolder(), "x");
        cpSync(pathOf(payload), elsewhere);
        rmSync(pathOf(payload));
        symlinkSync(elsewhere, pathOf(payload));
      },
    ],
  ];
  test.each(cases)("%s", async (_, code, change) => {
    expect(await problems({ cache: spoiled((pathOf) => change(pathOf)) })).toEqual([code]);
  });

  test("and one kernel's problems do not hide another's", async () => {
    const copy = spoiled((pathOf) => {
      flip(pathOf(payload));
      rmSync(pathOf(lock.kernels["acme/moe"]!.index));
    });
    expect((await problems({ cache: copy })).sort()).toEqual(["KL_CACHE_DIGEST", "KL_CACHE_MISSING"]);
  });
});

test("a name that the lock does not have is refused", async () => {
  expect(await codeOf(() => verifyLocked({ lock, policy, cache, now, names: ["acme/none"] }))).toBe(
    "KL_LOCK_NO_KERNEL",
  );
  const report = await verifyLocked({ lock, policy, cache, now, names: ["acme/moe"] });
  expect(report.kernels.map(({ name }) => name)).toEqual(["acme/moe"]);
});
