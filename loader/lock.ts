import {
  checkShape,
  fail,
  fields,
  isDigest,
  KernlockError,
  parseStrictJson,
  prettyJson,
} from "@kernlock/kernels/format";
import { checkCall, given } from "@kernlock/policies/trust";
import semver from "semver";
import { z } from "zod";
import { checkManifest, origin } from "./manifest.ts";
import type { Lock, Manifest } from "./types.ts";

const what = "kernels.lock";

/** Fields that later versions will fill; a lock that has one of them today was not written by this program. */
const reserved = {
  lock: ["checkpoint", "log"],
  registry: ["keys"],
  kernel: ["advisory", "logIndex"],
} as const;

/** Sorted and without repetition, so that one content has one text and a diff shows what changed. */
function sorted<T>(item: z.ZodType<T>, key: (value: T) => string, max = 1024) {
  const inOrder = (list: readonly T[]) => list.every((value, i) => i === 0 || key(list[i - 1] as T) < key(value));
  return z.array(item).max(max).refine(inOrder, "is not sorted, or names something twice");
}

const pin = z.strictObject({ digest: fields.digest, size: fields.size });
const statement = z
  .strictObject({
    scope: z.enum(["index", "variant"]),
    variant: fields.variantKey.optional(),
    predicateType: fields.line,
    subject: fields.digest,
    payload: fields.digest,
    bundle: pin,
    signer: fields.line.optional(),
  })
  .refine(({ scope, variant }) => (scope === "variant") === (variant !== undefined), "has a scope without its variant");
/** A fingerprint, or issuer and subject of a certificate. */
const signer = fields.line.refine(
  (text) => isDigest(text) || / ./.test(text),
  "is neither a fingerprint nor an identity",
);
const variant = z.strictObject({
  key: fields.variantKey,
  manifest: pin,
  config: pin,
  files: sorted(
    z.strictObject({
      path: fields.filePath,
      kind: z.enum(["shared-object", "device-image", "card", "sbom", "license"]),
      digest: fields.digest,
      size: fields.size,
    }),
    ({ path }) => path,
  ),
});
const schema = z.strictObject({
  lockVersion: z.literal(1),
  registry: z.strictObject({ origin }),
  policy: fields.digest,
  advisories: z.record(z.string().max(128), z.number().int().positive()).optional(),
  model: z
    .strictObject({
      name: fields.line,
      files: sorted(
        z.strictObject({ path: fields.filePath, digest: fields.digest, size: fields.size }),
        ({ path }) => path,
        4096,
      ).refine((files) => files.length > 0, "names no file"),
    })
    .optional(),
  kernels: z.record(
    fields.packageName,
    z.strictObject({
      version: fields.version,
      index: pin,
      abi: z.number().int().nonnegative(),
      signers: sorted(signer, String),
      builder: fields.line,
      source: z.strictObject({ repository: fields.line, revision: fields.line }),
      statements: sorted(statement as z.ZodType<StatementShape>, statementKey),
      variants: sorted(variant, ({ key }) => key, 256),
    }),
  ),
});
type StatementShape = z.infer<typeof statement>;

/** The order of statements in a lock: the index first, then by variant, then by what was signed. */
export function statementKey(statement: {
  readonly variant?: string | undefined;
  readonly payload: string;
  readonly bundle: { readonly digest: string };
}): string {
  return `${statement.variant ?? ""} ${statement.payload} ${statement.bundle.digest}`;
}

/**
 * Reads `kernels.lock`, strictly. Throws KL_JSON_* (also for duplicate keys), KL_LOCK_VERSION, KL_LOCK_RESERVED (a field
 * that this version does not fill), KL_LOCK_FIELD (missing, unknown or malformed). Whether what it pins is true is for
 * `verifyLocked` to say.
 */
export function parseLock(bytes: Uint8Array | string): Lock {
  checkCall("parseLock", given.document, bytes);
  const json = parseStrictJson(bytes, { maxBytes: 16 << 20, maxDepth: 16, what });
  const lock = asObject(json);
  if (Object.hasOwn(lock, "lockVersion") && lock.lockVersion !== 1) {
    fail("KL_LOCK_VERSION", `${what} has a version that this program does not know.`, {
      remedy: "Use the Kernlock that wrote it, or lock again.",
    });
  }
  refuseReserved(lock, reserved.lock);
  refuseReserved(asObject(lock.registry), reserved.registry);
  for (const kernel of Object.values(asObject(lock.kernels))) refuseReserved(asObject(kernel), reserved.kernel);
  return checkLock(json);
}

/** What a lock is, whoever made it. KL_LOCK_FIELD. */
export function checkLock(value: unknown): Lock {
  return checkShape<Lock>(schema as unknown as z.ZodType<Lock>, value, "KL_LOCK_FIELD", what);
}

const asObject = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};

function refuseReserved(object: Record<string, unknown>, names: readonly string[]): void {
  for (const name of names) {
    if (!Object.hasOwn(object, name)) continue;
    fail("KL_LOCK_RESERVED", `${what} has the field "${name}", which is reserved.`, {
      remedy: "Lock again with this program instead of editing the lock.",
    });
  }
}

/** The only text that a lock has: canonical JSON with two spaces, one kernel a block. */
export function formatLock(lock: Lock): string {
  return prettyJson(checkLock(lock));
}

/**
 * Whether a lock may be used beside this `kernels.json`, or beside none. Where there is one, the lock has to answer it:
 * one problem (KL_LOCK_STALE) for each difference. Alone it is held to itself, and may not be empty (KL_LOCK_EMPTY):
 * nothing says that this is meant.
 */
export function coverageProblems(manifest: Manifest | undefined, lock: Lock): KernlockError[] {
  if (manifest !== undefined) return checkLockMatches(manifest, lock);
  return Object.keys(checkLock(lock).kernels).length === 0 ? [emptyLock()] : [];
}

export const emptyLock = (): KernlockError =>
  new KernlockError("KL_LOCK_EMPTY", "The lock pins no kernel.", {
    remedy: "Name kernels with `kernlock add` and run `kernlock lock`, or restore the lock that was reviewed.",
  });

/** Whether the lock still answers `kernels.json`: one problem (KL_LOCK_STALE) for each difference. */
export function checkLockMatches(manifest: Manifest, lock: Lock): KernlockError[] {
  checkManifest(manifest);
  checkLock(lock);
  const problems: string[] = [];
  if (manifest.registry !== lock.registry.origin) problems.push(`it is of the registry ${lock.registry.origin}`);
  for (const [name, range] of Object.entries(manifest.kernels)) {
    const locked = Object.hasOwn(lock.kernels, name) ? lock.kernels[name] : undefined;
    if (locked === undefined) problems.push(`it lacks ${name}`);
    else if (!semver.satisfies(locked.version, range)) problems.push(`${name} ${locked.version} is not in ${range}`);
  }
  for (const [name, { variants }] of Object.entries(lock.kernels)) {
    if (!Object.hasOwn(manifest.kernels, name)) problems.push(`it has ${name}, which kernels.json does not name`);
    if (variants.length === 0) problems.push(`it pins no variant of ${name}`);
    const extra = variants.find(({ key }) => !manifest.variants.includes(key));
    if (extra) problems.push(`it has ${name} for ${extra.key}, which kernels.json does not name`);
  }
  return problems.map(
    (problem) =>
      new KernlockError("KL_LOCK_STALE", `The lock does not answer kernels.json: ${problem}.`, {
        remedy: "Run `kernlock lock` and review what it changes.",
      }),
  );
}
