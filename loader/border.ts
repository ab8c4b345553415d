import { checkCall, given } from "@kernlock/policies/trust";
import { z } from "zod";
import { checkLock } from "./lock.ts";
import { checkManifest } from "./manifest.ts";

const cache = given.methods("cache", ["pathOf", "open", "read", "check", "put", "receive"]);
const registry = (...methods: readonly string[]) => given.methods("registry client", methods);
const names = z.array(z.string()).optional();
const document = z.looseObject({}).optional();
const judged = { policy: given.policy, cache, now: given.date };
const machine = z.object({
  os: z.string(),
  arch: z.string(),
  libc: z.object({ family: z.string(), version: z.string() }),
  cpu: z.object({ level: z.string() }),
  cuda: z.object({ architectures: z.array(z.string()), driver: z.string() }).optional(),
});

const requests = {
  verifyLocked: z.object({ ...judged, manifest: document, names, frozen: z.boolean().optional() }),
  explainLocked: z.object({ ...judged, manifest: document, name: z.string() }),
  loadKernels: z.object({
    ...judged,
    manifest: document,
    names,
    frozen: z.boolean().optional(),
    machine,
    onAudit: given.callback,
    onVerdict: given.callback,
    onSealed: given.callback,
  }),
  fetchLocked: z.object({
    cache,
    registry: registry("getManifest", "blobStream"),
    manifest: document,
    names,
    concurrency: z.int().positive().optional(),
    onProgress: given.callback,
  }),
  createLock: z.object({
    ...judged,
    registry: registry("getManifest", "getBlob", "tags", "referrers"),
    manifest: z.looseObject({}),
    update: z.boolean().optional(),
    avoid: given.callback,
  }),
} as const;

interface Documents {
  readonly lock?: unknown;
  readonly previous?: unknown;
  readonly manifest?: unknown;
}

/**
 * Where programs call in: what a request holds is checked once, here, and is what its type says from there on. A lock or
 * manifest that was put together by a program has to have the form of one that was read (KL_LOCK_FIELD,
 * KL_MANIFEST_FIELD); everything else is KL_CALL_ARGUMENT.
 */
export function checkRequest(call: keyof typeof requests, request: unknown): void {
  checkCall(call, requests[call], request);
  const { lock, previous, manifest } = request as Documents;
  if (call !== "createLock") checkLock(lock);
  if (previous !== undefined) checkLock(previous);
  if (manifest !== undefined) checkManifest(manifest);
}

const place = z.object({ path: z.string().min(1) });
export const checkPath = (call: string, path: unknown): void => checkCall(call, place, { path });
