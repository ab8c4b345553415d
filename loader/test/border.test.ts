import { join } from "node:path";
import { KernlockError } from "@kernlock/kernels/format";
import { beforeAll, describe, expect, test } from "vitest";
import * as loader from "../index.ts";
import { codeOf, machine, newFolder, now, scene } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
beforeAll(async () => {
  stage = await scene();
});

// biome-ignore lint/suspicious/noExplicitAny: callers from JavaScript have no types
const loose = (value: unknown): any => value;
const junk = [undefined, null, 0, "", "junk", {}, [], [null], new Date(Number.NaN), new Uint8Array(3), () => {}];

describe("a time that is none is refused before anything is read: ", () => {
  test.each([
    ["an invalid Date", new Date(Number.NaN)],
    ["a number", Date.now()],
    ["a string", "2026-11-24T12:00:00Z"],
    ["null", null],
    ["nothing", undefined],
  ])("%s", async (_, at) => {
    const { lock, policy, cache, manifest, client } = stage;
    const request = { lock, policy, cache, now: loose(at) };
    expect([
      await codeOf(() => loader.verifyLocked(request)),
      await codeOf(() => loader.loadKernels({ ...request, machine })),
      await codeOf(() => loader.explainLocked({ ...request, name: "acme/norm" })),
      await codeOf(() => loader.createLock({ manifest, policy, registry: client, cache, now: loose(at) })),
    ]).toEqual(Array(4).fill("KL_CALL_ARGUMENT"));
  });
});

describe("every part of a request, replaced by anything, is refused with a code or changes nothing: ", () => {
  const replaced = async (call: (request: never) => unknown, good: Record<string, unknown>) => {
    for (const name of Object.keys(good)) {
      for (const value of junk) {
        const code = await codeOf(() => call({ ...good, [name]: value } as never));
        expect(code, `${name}: ${String(value)}`).toMatch(/^(KL_|no refusal)/);
      }
    }
  };
  test("verifyLocked", async () => {
    const { lock, manifest, policy, cache } = stage;
    const names: string[] = [];
    await replaced(loader.verifyLocked, { lock, manifest, policy, cache, now, frozen: true, names });
  });
  test("loadKernels", async () => {
    const { lock, manifest, policy, cache } = stage;
    const nothing = () => {};
    await replaced(async (request) => (await loader.loadKernels(request)).close(), {
      ...{ lock, manifest, policy, cache, now, frozen: false, machine },
      ...{ onAudit: nothing, onVerdict: nothing, onSealed: nothing, names: ["acme/norm"] },
    });
  });
  test("explainLocked", async () => {
    const { lock, manifest, policy, cache } = stage;
    await replaced(loader.explainLocked, { lock, manifest, policy, cache, now, name: "acme/norm" });
  });
  test("createLock and fetchLocked", async () => {
    const { lock, manifest, policy, client: registry } = stage;
    const cache = loader.openCache(join(newFolder(), "cache"));
    await replaced(loader.createLock, { manifest, policy, registry, cache, now, previous: lock, update: false });
    await replaced(loader.fetchLocked, { lock, manifest, registry, cache, concurrency: 2, onProgress: () => {} });
  });
});

test("appendAudit writes nothing for a path or an entry that is none", async () => {
  for (const path of junk.filter((value) => typeof value !== "string")) {
    expect(await codeOf(() => loader.appendAudit(loose(path), {}))).toBe("KL_CALL_ARGUMENT");
  }
  const path = join(newFolder(), "audit.jsonl");
  for (const entry of [1n, { x: 1n }, { x: Number.NaN }, () => {}]) {
    expect(await codeOf(() => loader.appendAudit(path, loose(entry)))).toMatch(/^KL_|no refusal/);
  }
});

describe("every exported function throws nothing untyped, whatever it is given: ", () => {
  const functions = Object.entries(loader).filter(([name, value]) => {
    // The first takes nothing; the second would write files of these names.
    return typeof value === "function" && !["memoryAddonPath", "appendAudit"].includes(name);
  });
  test.each(functions)("%s", async (_, callable) => {
    const call = callable as (...given: unknown[]) => unknown;
    for (const first of junk) {
      for (const second of junk) {
        try {
          await call(first, second, first);
        } catch (error) {
          expect(error).toBeInstanceOf(KernlockError);
        }
      }
    }
  });
});
