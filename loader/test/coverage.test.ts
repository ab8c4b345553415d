import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { fetchLocked, type Lock, loadKernels, type Manifest, openCache, verifyLocked } from "../index.ts";
import { codeOf, machine, newFolder, now, scene } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
beforeAll(async () => {
  stage = await scene();
});

/** The lock with a change, under the very policy that made it: nothing of what is left is wrong by itself. */
function changed(change: (lock: { kernels: Record<string, Lock["kernels"][string]> }) => void): Lock {
  const copy = structuredClone(stage.lock) as Lock & { kernels: Record<string, Lock["kernels"][string]> };
  change(copy);
  return copy;
}

const without = (name: string) => changed(({ kernels }) => delete kernels[name]);
const emptied = () => changed((lock) => (lock.kernels = {}));
/** Without one variant of the two, and without everything that was said of it. */
const narrowed = () =>
  changed(({ kernels }) => {
    const norm = kernels["acme/norm"]!;
    const isV4 = (variant: string | undefined) => variant === "linux-x86_64-cpu-v4";
    kernels["acme/norm"] = {
      ...norm,
      variants: norm.variants.filter(({ key }) => !isV4(key)),
      statements: norm.statements.filter(({ variant }) => !isV4(variant)),
    };
  });

const base = () => ({ policy: stage.policy, cache: stage.cache, now });
const verify = async (lock: Lock, manifest: Manifest | undefined) =>
  (await verifyLocked({ ...base(), lock, manifest })).problems
    .concat((await verifyLocked({ ...base(), lock, manifest })).kernels.flatMap(({ problems }) => problems))
    .map(({ code }) => code);
const load = (lock: Lock, manifest: Manifest | undefined) =>
  codeOf(async () => (await loadKernels({ ...base(), lock, manifest, machine })).close());
const fetch = (lock: Lock, manifest: Manifest | undefined) =>
  codeOf(() => fetchLocked({ lock, manifest, cache: openCache(join(newFolder(), "cache")), registry: stage.client }));

describe("a lock has to answer the kernels.json beside it", () => {
  test("and the one that was made from it does", async () => {
    expect([
      await verify(stage.lock, stage.manifest),
      await load(stage.lock, stage.manifest),
      await fetch(stage.lock, stage.manifest),
    ]).toEqual([[], "no refusal", "no refusal"]);
  });
  test.each([
    ["that was emptied", emptied, 2],
    ["that lost a kernel", () => without("acme/moe"), 1],
    [
      "whose kernel lost every variant",
      () => changed(({ kernels }) => Object.assign(kernels["acme/moe"]!, { variants: [] })),
      1,
    ],
    [
      "that holds a version outside of the range",
      () => changed(({ kernels }) => Object.assign(kernels["acme/moe"]!, { version: "1.0.0" })),
      1,
    ],
    [
      "that holds a kernel nobody asked for",
      () => changed(({ kernels }) => Object.assign(kernels, { "acme/more": kernels["acme/moe"] })),
      1,
    ],
    [
      "of another registry",
      () => changed((lock) => Object.assign(lock, { registry: { origin: "http://127.0.0.1:1" } })),
      1,
    ],
  ])("one %s is refused by verify, load and fetch", async (_, lock, problems) => {
    const found = await verify(lock(), stage.manifest);
    expect(found.filter((code) => code === "KL_LOCK_STALE")).toHaveLength(problems);
    expect(found[0]).toBe("KL_LOCK_STALE");
    expect([await load(lock(), stage.manifest), await fetch(lock(), stage.manifest)]).toEqual([
      "KL_LOCK_STALE",
      "KL_LOCK_STALE",
    ]);
  });
  test("one that lost a variant that the pinned version has is refused, since the index names it", async () => {
    expect(await verify(narrowed(), stage.manifest)).toEqual(["KL_LOCK_STALE"]);
    expect(await load(narrowed(), stage.manifest)).toBe("KL_LOCK_STALE");
    const fewer = { ...stage.manifest, variants: ["linux-x86_64-cpu-v3"] };
    expect([await verify(narrowed(), fewer), await load(narrowed(), fewer)]).toEqual([[], "no refusal"]);
  });
});

describe("a lock without a kernels.json beside it", () => {
  test("is held to itself, and may not be empty", async () => {
    expect([await verify(without("acme/moe"), undefined), await load(without("acme/moe"), undefined)]).toEqual([
      [],
      "no refusal",
    ]);
    expect([
      await verify(emptied(), undefined),
      await load(emptied(), undefined),
      await fetch(emptied(), undefined),
    ]).toEqual([["KL_LOCK_EMPTY"], "KL_LOCK_EMPTY", "KL_LOCK_EMPTY"]);
  });
});

test("where kernels.json asks for nothing, an empty lock is right, and there is nothing to load", async () => {
  const nothing = { ...stage.manifest, kernels: {} };
  expect([await verify(emptied(), nothing), await fetch(emptied(), nothing), await load(emptied(), nothing)]).toEqual([
    [],
    "no refusal",
    "KL_LOCK_EMPTY",
  ]);
});
