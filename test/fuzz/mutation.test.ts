/**
 * One field or a few bytes of something honest are changed at random; then all that names it is hashed, locked and signed
 * anew, and it is verified, or loaded. Each mutant is refused with a coded error, or it changes nothing: the verdict is
 * that of the honest one. MUTATIONS says how many (400); MUTATION_SEED repeats a run.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { loadKernels, openCache, parseLock, verifyLocked } from "@kernlock/loader";
import type { Verdict } from "@kernlock/policies/trust";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { craftCubin, craftFatbin } from "../../kernels/inspect/test/craft-cubin.ts";
import { machine, newFolder } from "../../loader/test/kit.ts";
import { source as theirs } from "../../policies/trust/test/material.ts";
import { people, policyText } from "../../policies/trust/test/rules.ts";
import { source } from "../../registry-server/test/material.ts";
import type { Edit, Keys, Twist } from "../attacks/attack.ts";
import { libraries, makePack, now, type Pack } from "../attacks/pack.ts";
import { cacheOf, codeOfError, lockText, memoryFiles, policyOf } from "../attacks/places.ts";
import { mutateBytes, mutateField } from "./mutate.ts";
import { type Random, random } from "./random.ts";

const count = Number(process.env.MUTATIONS ?? "400");
const seed = Number(process.env.MUTATION_SEED ?? "20261124");
const keys: Keys = { publisher: people.publisher, other: people.bob, auditor: people.alice, second: people.carol };
const policy = policyText().replaceAll(theirs.repository, source.repository);
const folder = join(newFolder(), "cache");
const gpu = { cuda: { architectures: ["sm_90a"], driver: "13.0" } };

interface Kind {
  readonly what: string;
  /** "load" where machine code is read. */
  readonly by: "verify" | "load";
  readonly honest: Twist;
  readonly mutant: (r: Random) => Twist;
}

const fieldOrBytes = (r: Random): Edit => {
  const byField = r.below(2) === 0;
  return (document) => {
    if (byField) return Buffer.from(JSON.stringify(mutateField(document, r)));
    return mutateBytes(Buffer.from(JSON.stringify(document)), r);
  };
};
/** The builder of packages under test does not take empty files. */
const notEmpty = (bytes: Buffer): Buffer => (bytes.length > 0 ? bytes : Buffer.from([0]));
const image = craftCubin();
const fatbin = craftFatbin([{ payload: image }]);

const kinds: readonly Kind[] = [
  {
    what: "bundles, as somebody on the way would",
    by: "verify",
    honest: {},
    mutant: (r) => ({ bundle: fieldOrBytes(r) }),
  },
  { what: "statements, signed anew", by: "verify", honest: {}, mutant: (r) => ({ statement: fieldOrBytes(r) }) },
  {
    what: "locks",
    by: "verify",
    honest: {},
    mutant: (r) => {
      const edit = fieldOrBytes(r);
      return { lock: (lock) => edit(lock, "") };
    },
  },
  {
    what: "policies",
    by: "verify",
    honest: {},
    // JSON is YAML too: so a field can be changed where the whole still parses.
    mutant: (r) => {
      const fields = r.below(2) === 0;
      const text = fields
        ? JSON.stringify(mutateField(parse(policy), r))
        : mutateBytes(Buffer.from(policy), r).toString();
      return { policy: () => text };
    },
  },
  { what: "variant.json", by: "verify", honest: {}, mutant: (r) => ({ config: fieldOrBytes(r) }) },
  {
    what: "manifests and indexes",
    by: "verify",
    honest: {},
    mutant: (r) => (r.below(2) ? { index: fieldOrBytes(r) } : { manifest: fieldOrBytes(r) }),
  },
  {
    what: "shared objects",
    by: "load",
    honest: {},
    mutant: (r) => ({ payload: notEmpty(mutateBytes(libraries().good, r, [libraries().other])) }),
  },
  {
    what: "cubins and fatbins",
    by: "load",
    honest: { image },
    mutant: (r) => ({ image: notEmpty(mutateBytes(r.pick([image, fatbin]), r)) }),
  },
];

/** A verdict without the digests of what was mutated: who vouches for what, and as what. */
function essence(verdict: Verdict | null | undefined, pack: Pack): string {
  const role = (digest: string) => (digest === digestOf(pack.index) ? "index" : "variant");
  const accepted = (verdict?.accepted ?? []).map(
    ({ scope, variant, predicateType, subject, signer, builder, source: from }) => [
      scope,
      variant,
      predicateType,
      role(subject),
      signer,
      builder,
      from,
    ],
  );
  return JSON.stringify([verdict?.ok, verdict?.mode, accepted.map((item) => JSON.stringify(item)).sort()]);
}

async function judged(twist: Twist, by: Kind["by"]): Promise<string> {
  rmSync(folder, { recursive: true, force: true });
  const pack = await makePack(keys, twist);
  cacheOf(pack, undefined, folder);
  try {
    const under = await policyOf({ policy: () => policy, ...twist }, pack, keys);
    const lock = parseLock(lockText(twist, pack, under));
    const request = { lock, policy: under, cache: openCache(folder), now };
    if (by === "verify") {
      const report = await verifyLocked(request);
      const [problem] = [...report.problems, ...report.kernels.flatMap(({ problems }) => problems)];
      if (problem) throw problem;
      // A lock without the kernel verifies, and whoever asks for the kernel gets nothing.
      if (!Object.hasOwn(lock.kernels, pack.name)) {
        await loadKernels({ ...request, machine, names: [pack.name] });
        return "loaded what no lock pins";
      }
      return report.kernels.map(({ verdict }) => essence(verdict, pack)).join();
    }
    const loaded = await loadKernels({
      ...request,
      machine: { ...machine, libc: { family: "glibc", version: "2.41" }, ...(twist.image ? gpu : {}) },
    });
    const verdict = loaded.verdicts.get(pack.name);
    loaded.close();
    return essence(verdict, pack);
  } catch (error) {
    return codeOfError(error);
  }
}

describe.each(kinds.map((kind, k) => ({ ...kind, k })))("mutants of $what", ({ by, honest, mutant, k }) => {
  test("are refused with a code, or change nothing", { timeout: 120_000 + count * 100 }, async () => {
    const same = await judged(honest, by);
    expect(same).toMatch(/^\[true,"enforce",/);
    const before = memoryFiles();
    const outcomes = new Map<string, number>();
    const wrong: string[] = [];
    for (let n = 0; n < Math.ceil(count / kinds.length); n++) {
      const outcome = await judged(mutant(random(seed + k * 1_000_003 + n)), by);
      const fine = outcome === same || /^KL_[A-Z0-9]+_[A-Z0-9_]+$/.test(outcome);
      const said = outcome === same ? "the same verdict" : outcome;
      outcomes.set(said, (outcomes.get(said) ?? 0) + 1);
      if (!fine || outcome === "KL_INTERNAL" || outcome === "KL_LOAD_INTERNAL")
        wrong.push(`${n}: ${outcome.slice(0, 500)}`);
    }
    if (process.env.MUTATIONS) console.log(JSON.stringify(Object.fromEntries([...outcomes].sort())));
    expect(wrong).toEqual([]);
    expect(outcomes.size).toBeGreaterThan(2);
    expect(memoryFiles()).toEqual(before);
  });
});
