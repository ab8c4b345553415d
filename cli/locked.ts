import { parseVariant } from "@kernlock/kernels/format";
import {
  type AuditLine,
  type Cache,
  type Loaded,
  type Lock,
  loadKernels,
  openCache,
  parseLock,
} from "@kernlock/loader";
import type { KernelFacts, MachineFacts } from "@kernlock/policies/compatibility";
import { type Policy, parsePolicy } from "@kernlock/policies/trust";
import { appendAudit } from "./audit.ts";
import { type Project, readProjectFile } from "./project.ts";

export function readLock(project: Project): Lock {
  return parseLock(readProjectFile(project.lock, "Run `kernlock lock` first, or name a lock with --lock."));
}

export function readPolicy(project: Project): Policy {
  const bytes = readProjectFile(
    project.policy,
    "Write a kernels.policy.yaml beside the lock (docs/policy.md), or name one with --policy.",
  );
  return parsePolicy(bytes);
}

/** What the planner must know of every locked variant, from the cache alone: no native code, nothing sealed. */
export async function lockedKernelFacts(lock: Lock, cache: Cache): Promise<KernelFacts[]> {
  const facts: KernelFacts[] = [];
  for (const [name, kernel] of Object.entries(lock.kernels)) {
    for (const variant of kernel.variants) {
      facts.push({
        name,
        version: kernel.version,
        digest: variant.manifest.digest,
        signers: kernel.signers,
        descriptor: parseVariant(await cache.read(variant.config)),
      });
    }
  }
  return facts;
}

/** Verifies and seals what the lock pins. Every load, and every refusal, leaves a line in the audit log. */
export async function loadLocked(project: Project, machine: MachineFacts): Promise<{ loaded: Loaded; policy: Policy }> {
  const lock = readLock(project);
  const policy = readPolicy(project);
  const cache = openCache(project.cache);
  const loaded = await loadKernels({
    lock,
    policy,
    cache,
    machine,
    now: new Date(),
    onAudit: (line: AuditLine) => appendAudit(line),
  });
  return { loaded, policy };
}
