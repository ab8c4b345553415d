import { type ErrorCode, fail, parseVariant, type Variant } from "@kernlock/kernels/format";
import { checkVariantManifest, type KernelIndex, parseKernelIndex, parseVariantManifest } from "@kernlock/kernels/oci";
import {
  type AcceptedStatement,
  assertAllowed,
  contentsOf,
  describeBundle,
  type Evidence,
  judge,
  type KernelFacts,
  type Policy,
  type Verdict,
} from "@kernlock/policies/trust";
import type { Cache } from "./cache.ts";
import { statementKey } from "./lock.ts";
import type { LockedKernel, LockedStatement, LockedVariant, Manifest } from "./types.ts";

/** One locked kernel whose documents agree with the lock. Its files have not been looked at yet. */
export interface ReadKernel {
  readonly name: string;
  readonly index: KernelIndex;
  readonly variants: readonly { readonly locked: LockedVariant; readonly variant: Variant }[];
}

const remedy = "Restore the lock from a commit that was reviewed, or lock again and review what changes.";

function refuse(code: ErrorCode, name: string, what: string, details: Record<string, unknown> = {}): never {
  return fail(code, `${name}: ${what}.`, { remedy, details: { kernel: name, ...details } });
}

/**
 * Reads index, manifests and variant.json of a locked kernel from the cache, and refuses whatever the lock says
 * otherwise: each link of the chain index -> manifest -> config and files is compared with its pin. With `manifest`,
 * every variant that it asks for and the index has must be among the pinned ones.
 */
export async function readContents(
  name: string,
  locked: LockedKernel,
  cache: Cache,
  manifest?: Manifest,
): Promise<ReadKernel> {
  const index = parseKernelIndex(await cache.read(locked.index));
  if (index.name !== name || index.version !== locked.version) {
    refuse("KL_LOCK_INDEX", name, `the pinned index is that of ${index.name} ${index.version}`);
  }
  if (index.source !== locked.source.repository || index.revision !== locked.source.revision) {
    refuse("KL_LOCK_SOURCE", name, "the lock pins another source than the index names");
  }
  if (locked.variants.length === 0) refuse("KL_LOCK_VARIANT", name, "the lock pins no variant of it");
  for (const { variant } of index.variants) {
    if (!manifest?.variants.includes(variant) || locked.variants.some(({ key }) => key === variant)) continue;
    refuse("KL_LOCK_STALE", name, `the lock lacks ${variant}, which kernels.json asks for and ${index.version} has`);
  }
  return {
    name,
    index,
    variants: await Promise.all(locked.variants.map((variant) => readVariant(name, locked, variant, index, cache))),
  };
}

async function readVariant(
  name: string,
  kernel: LockedKernel,
  locked: LockedVariant,
  index: KernelIndex,
  cache: Cache,
): Promise<{ locked: LockedVariant; variant: Variant }> {
  const details = { variant: locked.key };
  const entry = index.variants.find(({ variant }) => variant === locked.key)?.manifest;
  if (entry?.digest !== locked.manifest.digest || entry.size !== locked.manifest.size) {
    refuse("KL_LOCK_VARIANT", name, `the index names another manifest for ${locked.key} than the lock`, details);
  }
  const manifest = parseVariantManifest(await cache.read(locked.manifest));
  if (manifest.config.digest !== locked.config.digest || manifest.config.size !== locked.config.size) {
    refuse("KL_LOCK_CONFIG", name, `the manifest of ${locked.key} names another variant.json than the lock`, details);
  }
  const variant = parseVariant(await cache.read(locked.config));
  checkVariantManifest(manifest, variant, { name, version: kernel.version, variant: locked.key });
  if (variant.abi !== kernel.abi) refuse("KL_LOCK_ABI", name, `${locked.key} has another ABI than the lock`, details);
  compareFiles(name, locked, variant);
  return { locked, variant };
}

/** `variant` has been found equal to the manifest; so this compares the lock with both. */
function compareFiles(name: string, locked: LockedVariant, variant: Variant): void {
  const pinned = new Map(locked.files.map((file) => [file.path, file]));
  for (const file of variant.files) {
    const details = { variant: locked.key, path: file.path };
    const pin = pinned.get(file.path);
    if (pin === undefined) throw refuse("KL_LOCK_FILE_MISSING", name, `the lock does not pin ${file.path}`, details);
    if (pin.digest !== file.digest || pin.size !== file.size || pin.kind !== file.kind) {
      refuse("KL_LOCK_FILE_DIFFERS", name, `the lock pins another ${file.path} than the manifest names`, details);
    }
    pinned.delete(file.path);
  }
  for (const path of pinned.keys()) {
    const details = { variant: locked.key, path };
    refuse("KL_LOCK_FILE_UNLISTED", name, `the lock pins ${path}, which the manifest does not name`, details);
  }
}

/** What the evidence has to be about. */
export function kernelFacts(kernel: ReadKernel, locked: Pick<LockedKernel, "index">): KernelFacts {
  return {
    name: kernel.name,
    version: kernel.index.version,
    index: locked.index.digest,
    source: { repository: kernel.index.source, revision: kernel.index.revision },
    license: kernel.index.licenses,
    variants: kernel.variants.map(({ locked: { key, manifest }, variant }) => ({
      key,
      manifest: manifest.digest,
      contents: contentsOf(variant),
    })),
  };
}

/** Judges a kernel by the bundles that the lock pins and by nothing else. Does not throw on a refusal. */
export async function judgeLocked(request: {
  readonly kernel: ReadKernel;
  readonly locked: LockedKernel;
  readonly policy: Policy;
  readonly cache: Cache;
  readonly now: Date;
  /** Numbers of feeds below which none is taken. */
  readonly seen?: Readonly<Record<string, number>> | undefined;
}): Promise<Verdict> {
  const { kernel, locked, policy, cache, now, seen = {} } = request;
  const evidence = await Promise.all(
    locked.statements.map(async (statement): Promise<Evidence> => {
      const bundle = await cache.read(statement.bundle);
      checkDescription(kernel.name, statement, bundle);
      return { subject: statement.subject, bundle };
    }),
  );
  return judge({ policy, kernel: kernelFacts(kernel, locked), evidence, now, seen });
}

/** Refuses a kernel that the policy refuses, and one whose evidence is not exactly what the lock pins. */
export function assertPinned(verdict: Verdict, kernel: ReadKernel, locked: LockedKernel): void {
  const { name } = kernel;
  assertAllowed(verdict, { name, version: locked.version });
  const trust = trustOf(name, verdict.accepted);
  if (trust.signers.join() !== locked.signers.join()) {
    refuse("KL_LOCK_SIGNERS", name, "the lock pins other signers than signed its statements", {
      pinned: locked.signers,
      found: trust.signers,
    });
  }
  if (trust.builder !== locked.builder) refuse("KL_LOCK_BUILDER", name, "the lock pins another builder");
  const key = ({ bundle, subject }: LockedStatement) => `${bundle.digest} ${subject}`;
  const same = (a: LockedStatement, b: LockedStatement | undefined) =>
    b !== undefined &&
    a.scope === b.scope &&
    a.variant === b.variant &&
    a.predicateType === b.predicateType &&
    a.subject === b.subject &&
    a.payload === b.payload &&
    a.signer === b.signer &&
    a.bundle.digest === b.bundle.digest &&
    a.bundle.size === b.bundle.size;
  // Provenance has to be exactly what is pinned. Of other evidence more may be pinned than today's policy asks for: an
  // operator's policy, or that of another machine, may ask for it. What counted has to be what stands in the lock.
  const accepted = new Map(trust.statements.map((statement) => [key(statement), statement]));
  for (const statement of locked.statements) {
    const found = accepted.get(key(statement));
    accepted.delete(key(statement));
    if (found === undefined && statement.signer !== undefined) continue;
    if (!same(statement, found)) refuseStatement(name);
  }
  if (accepted.size > 0) refuseStatement(name);
}

const refuseStatement = (name: string): never =>
  refuse("KL_LOCK_STATEMENT", name, "a statement that the lock pins is another one, or says what the policy ignores");

/** What the lock says of a statement has to be so, also where no rule asks for the statement and nobody verifies it. */
function checkDescription(name: string, statement: LockedStatement, bundle: Uint8Array): void {
  if (statement.signer === undefined) return;
  const described = describeBundle(bundle);
  const right =
    described !== null &&
    described.payload === statement.payload &&
    described.predicateType === statement.predicateType &&
    described.subjects.includes(statement.subject);
  if (!right) refuseStatement(name);
}

/** What a lock writes down of a verdict's evidence. KL_LOCK_BUILDER: the statements disagree about who built. */
export function trustOf(
  name: string,
  accepted: readonly AcceptedStatement[],
): Pick<LockedKernel, "signers" | "builder" | "statements"> {
  const provenance = accepted.filter(({ builder }) => builder !== undefined);
  const builders = [...new Set(provenance.map(({ builder }) => builder))];
  const [builder] = builders;
  if (builder === undefined || builders.length > 1) {
    return refuse("KL_LOCK_BUILDER", name, "its statements name several builders", { builders });
  }
  return {
    signers: [...new Set(provenance.map(({ signer }) => signer))].sort(),
    builder,
    statements: accepted
      .map(({ scope, variant, predicateType, subject, payload, bundle, signer, builder: by }) => ({
        scope,
        ...(variant === null ? {} : { variant }),
        predicateType,
        subject,
        payload,
        bundle,
        ...(by === undefined ? { signer } : {}),
      }))
      .sort((a, b) => (statementKey(a) < statementKey(b) ? -1 : 1)),
  };
}
