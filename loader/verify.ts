import { KernlockError } from "@kernlock/kernels/format";
import { allPolicies, checkCall, type Policy, type Verdict } from "@kernlock/policies/trust";
import { z } from "zod";
import { checkRequest } from "./border.ts";
import type { Cache } from "./cache.ts";
import { assertPinned, judgeLocked, readContents } from "./contents.ts";
import { coverageProblems } from "./lock.ts";
import type { KernelReport, Lock, LockedKernel, Manifest, VerifyReport } from "./types.ts";

/**
 * Re-hashes every file that the lock pins, loaded or not; verifies every bundle; judges; and compares signers, builder,
 * source and statements with the pins. Reads the cache, writes nothing, asks nobody. What is wrong stands in the report;
 * one kernel's problems do not hide another's. `frozen` also refuses a lock made under another policy.
 *
 * With `manifest`, the lock has to answer that `kernels.json` as well: nothing of what it asks for may be left out.
 */
export async function verifyLocked(request: {
  readonly lock: Lock;
  readonly manifest?: Manifest | undefined;
  readonly policy: Policy;
  readonly cache: Cache;
  readonly now: Date;
  readonly frozen?: boolean;
  readonly names?: readonly string[];
}): Promise<VerifyReport> {
  checkRequest("verifyLocked", request);
  const { lock, manifest, policy, cache, now } = request;
  const problems = lockProblems(request);
  const kernels: KernelReport[] = [];
  for (const [name, locked] of selected(lock, request.names)) {
    kernels.push(await verifyKernel({ name, locked, manifest, policy, cache, now, seen: lock.advisories }));
  }
  return {
    ok: problems.length === 0 && kernels.every(({ ok }) => ok),
    policyChanged: lock.policy !== policy.digest,
    problems,
    kernels,
  };
}

const reportShape = z.object({
  ok: z.boolean(),
  problems: z.array(z.instanceof(Error)),
  kernels: z.array(z.object({ problems: z.array(z.instanceof(Error)) })),
});

/** Throws the first problem of a report. */
export function assertVerified(report: VerifyReport): void {
  checkCall("assertVerified", reportShape, report);
  const [first] = [...report.problems, ...report.kernels.flatMap(({ problems }) => problems)];
  if (first) throw first;
}

async function verifyKernel(request: {
  readonly name: string;
  readonly locked: LockedKernel;
  readonly manifest: Manifest | undefined;
  readonly policy: Policy;
  readonly cache: Cache;
  readonly now: Date;
  readonly seen: Lock["advisories"];
  /** Whether to hash every file; otherwise only documents and statements are read. */
  readonly files?: boolean;
}): Promise<KernelReport> {
  const { name, locked, manifest, policy, cache, now, seen } = request;
  const problems: KernlockError[] = [];
  const attempt = async <T>(step: () => T | Promise<T>): Promise<T | null> => {
    try {
      return await step();
    } catch (error) {
      if (!(error instanceof KernlockError)) throw error;
      problems.push(error);
      return null;
    }
  };
  const kernel = await attempt(() => readContents(name, locked, cache, manifest));
  let verdict: Verdict | null = null;
  if (kernel) {
    verdict = await attempt(() => judgeLocked({ kernel, locked, policy, cache, now, seen }));
    if (verdict) await attempt(() => assertPinned(verdict as Verdict, kernel, locked));
  }
  let filesChecked = 0;
  for (const file of request.files === false ? [] : locked.variants.flatMap(({ files }) => files)) {
    await attempt(() => cache.check(file));
    filesChecked++;
  }
  return { name, version: locked.version, ok: problems.length === 0, verdict, filesChecked, problems };
}

/** What is wrong with a lock as a whole, beside its `kernels.json` and under a policy. */
export function lockProblems(request: {
  readonly lock: Lock;
  readonly manifest?: Manifest | undefined;
  readonly policy: Policy;
  readonly frozen?: boolean | undefined;
}): KernlockError[] {
  const { lock, manifest, policy, frozen = false } = request;
  const problems = coverageProblems(manifest, lock);
  for (const allowed of allPolicies(policy).flatMap(({ registry }) => registry?.origin ?? [])) {
    if (allowed === lock.registry.origin) continue;
    problems.push(
      new KernlockError(
        "KL_POLICY_REGISTRY",
        `The lock is of ${lock.registry.origin}, and the policy allows ${allowed}.`,
        {
          remedy: "Lock against the registry that the policy names.",
        },
      ),
    );
  }
  if (frozen && lock.policy !== policy.digest) {
    problems.push(
      new KernlockError("KL_LOCK_POLICY", "The lock was made under another policy.", {
        remedy: "Run `kernlock lock` under this policy and review what it changes.",
        details: { pinned: lock.policy, found: policy.digest },
      }),
    );
  }
  return problems;
}

/** The locked kernels that are meant. KL_LOCK_NO_KERNEL for a name that the lock does not have. */
export function selected(lock: Lock, names?: readonly string[]): [string, LockedKernel][] {
  if (names === undefined) return Object.entries(lock.kernels);
  return names.map((name) => {
    const locked = Object.hasOwn(lock.kernels, name) ? lock.kernels[name] : undefined;
    if (locked) return [name, locked];
    throw new KernlockError("KL_LOCK_NO_KERNEL", `The lock has no kernel ${name}.`, {
      remedy: "Add it to kernels.json and lock again.",
    });
  });
}

/** The verdict about one locked kernel, by its documents and statements alone: payload files are not read. */
export async function explainLocked(request: {
  readonly lock: Lock;
  readonly manifest?: Manifest | undefined;
  readonly policy: Policy;
  readonly cache: Cache;
  readonly now: Date;
  readonly name: string;
}): Promise<{ version: string; verdict: Verdict | null; problems: readonly KernlockError[] }> {
  checkRequest("explainLocked", request);
  const { lock, manifest, policy, cache, now, name } = request;
  const [, locked] = selected(lock, [name])[0] as [string, LockedKernel];
  const report = await verifyKernel({
    ...{ name, locked, manifest, policy, cache, now },
    seen: lock.advisories,
    files: false,
  });
  const problems = [...lockProblems({ lock, manifest, policy }), ...report.problems];
  return { version: locked.version, verdict: report.verdict, problems };
}
