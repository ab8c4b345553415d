import { existsSync } from "node:fs";
import { parseVariant } from "@kernlock/kernels/format";
import {
  type AuditLine,
  appendAudit,
  type Cache,
  coverageProblems,
  type Loaded,
  type Lock,
  loadKernels,
  type Manifest,
  openCache,
  parseLock,
  parseManifest,
} from "@kernlock/loader";
import type { KernelFacts, MachineFacts } from "@kernlock/policies/compatibility";
import { type Policy, permits, type Verdict } from "@kernlock/policies/trust";
import { auditLogPath } from "./audit.ts";
import { readPolicies, rememberVerdicts } from "./policies.ts";
import { type Project, readProjectFile } from "./project.ts";

/** The lock, which has to answer the `kernels.json` beside it; where there is none, it may not be empty. */
export function readLock(project: Project): Lock {
  const lock = readAnyLock(project);
  const [problem] = coverageProblems(readManifest(project), lock);
  if (problem) throw problem;
  return lock;
}

/** The lock as it is, for what says more about it than the first problem, or helps to bring it up to date. */
export function readAnyLock(project: Project): Lock {
  return parseLock(readProjectFile(project.lock, "Run `kernlock lock` first, or name a lock with --lock."));
}

/** Said where a command has nothing to do, and that is what was asked for. */
export const nothingLocked = "kernels.json asks for no kernels, and none is locked";

/** `kernels.json`, where there is one: a lock may travel alone. */
export function readManifest(project: Project): Manifest | undefined {
  return existsSync(project.manifest) ? parseManifest(readProjectFile(project.manifest, "")) : undefined;
}

/** The project's policy, below the operator's where this machine has one. */
export function readPolicy(project: Pick<Project, "policy">): Policy {
  const bytes = readProjectFile(
    project.policy,
    "Write a kernels.policy.yaml beside the lock (docs/policy.md), or name one with --policy.",
  );
  return readPolicies(project.policy, bytes);
}

/** What the planner must know of every locked variant, from the cache alone: no native code, nothing sealed. */
export async function lockedKernelFacts(lock: Lock, cache: Cache, policy: Policy): Promise<KernelFacts[]> {
  const facts: KernelFacts[] = [];
  for (const [name, kernel] of Object.entries(lock.kernels)) {
    for (const variant of kernel.variants) {
      facts.push({
        name,
        version: kernel.version,
        digest: variant.manifest.digest,
        signers: kernel.signers,
        descriptor: parseVariant(await cache.read(variant.config)),
        permits: permits(policy, name),
      });
    }
  }
  return facts;
}

/** The project's lock and policy, and every locked variant as the planner sees it. Nothing is verified yet. */
export async function readLocked(project: Project): Promise<Locked & { facts: KernelFacts[] }> {
  const lock = readLock(project);
  const manifest = readManifest(project);
  const policy = readPolicy(project);
  const cache = openCache(project.cache);
  const facts = await lockedKernelFacts(lock, cache, policy);
  return { lock, manifest, policy, policyPath: project.policy, cache, facts };
}

export interface Locked {
  readonly lock: Lock;
  readonly manifest: Manifest | undefined;
  readonly policy: Policy;
  readonly policyPath: string;
  readonly cache: Cache;
}

/** Verifies and seals what a lock pins. Every load, and every refusal, leaves a line in the audit log. */
export async function sealLocked(locked: Locked, machine: MachineFacts): Promise<Loaded> {
  const { lock, manifest, policy, policyPath, cache } = locked;
  const onAudit = (line: AuditLine): void => void appendAudit(auditLogPath(), { ...line });
  // Also what a refusal rests on is remembered: an older feed, put back after it, must not let the kernel pass.
  const onVerdict = (verdict: Verdict): void => rememberVerdicts(policyPath, policy, [verdict]);
  return loadKernels({ lock, manifest, policy, cache, machine, now: new Date(), onAudit, onVerdict });
}
