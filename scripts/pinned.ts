/**
 * Locks and caches made without a registry: packages that no registry would take are signed, pinned and stored as if there
 * were nothing wrong with them, so that what refuses them is what looks at them last.
 */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { buildType } from "@kernlock/kernels/build";
import { type Digest, digestOf, formatVariant, mediaTypes, parseVariant, type Variant } from "@kernlock/kernels/format";
import {
  type KernelIndexFields,
  kernelIndex,
  parseKernelIndex,
  parseVariantManifest,
  variantManifest,
} from "@kernlock/kernels/oci";
import { type Cache, formatLock, type LockedKernel, type LockedStatement, openCache, type Pin } from "@kernlock/loader";
import { createBundle, fingerprintOf, parsePolicy, provenanceType, type Signer } from "@kernlock/policies/trust";
import { builder } from "./project.ts";

/** A package of one variant, with the bytes of its files by path. */
export interface Package {
  readonly about: KernelIndexFields;
  readonly variant: Variant;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Reads a variant of a package from a cache, or from an OCI layout, which keeps its blobs in the same way. */
export async function readPackage(folder: string, index: Pin, key: string): Promise<Package> {
  const from = openCache(folder);
  const { variants, ...about } = parseKernelIndex(await from.read(index));
  const entry = variants.find(({ variant }) => variant === key);
  if (entry === undefined) throw new Error(`${about.name} has no variant ${key}`);
  const { config } = parseVariantManifest(await from.read(entry.manifest));
  const variant = parseVariant(await from.read(config));
  const files = new Map<string, Uint8Array>();
  for (const file of variant.files) files.set(file.path, await from.read(file));
  return { about, variant, files };
}

/** A package that says something else, or holds other files under the names that it has. */
export function altered(
  { about, variant, files }: Package,
  claims: Partial<Variant>,
  others: ReadonlyMap<string, Uint8Array> = new Map(),
): Package {
  return { about, variant: { ...variant, ...claims }, files: new Map([...files, ...others]) };
}

/** kernels.json, lock and policy in a new folder, beside a link to the cache, which gets what the lock pins. */
export async function pinProject(
  folder: string,
  packages: readonly Package[],
  { policy, signer, cache }: { readonly policy: string; readonly signer: Signer; readonly cache: string },
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  mkdirSync(cache, { recursive: true });
  const origin = "https://registry.kernlock.example";
  const kernels: Record<string, LockedKernel> = {};
  for (const one of packages) kernels[one.about.name] = await pinPackage(one, signer, openCache(cache));
  const manifest = {
    version: 1,
    registry: origin,
    variants: [...new Set(packages.map(({ variant }) => variant.variant))],
    kernels: Object.fromEntries(packages.map(({ about }) => [about.name, about.version])),
  };
  writeFileSync(join(folder, "kernels.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(join(folder, "kernels.policy.yaml"), policy);
  const { digest } = parsePolicy(policy);
  writeFileSync(
    join(folder, "kernels.lock"),
    formatLock({ lockVersion: 1, registry: { origin }, policy: digest, kernels }),
  );
  if (cache !== join(folder, "cache")) symlinkSync(relative(folder, cache), join(folder, "cache"));
}

async function pinPackage({ about, variant, files }: Package, signer: Signer, cache: Cache): Promise<LockedKernel> {
  const store = async (bytes: Uint8Array): Promise<Pin> => {
    const pin = { digest: digestOf(bytes), size: bytes.byteLength };
    await cache.put(pin, bytes);
    return pin;
  };
  const stored: Variant["files"] = [];
  for (const file of variant.files) stored.push({ ...file, ...(await store(files.get(file.path)!)) });
  const config = Buffer.from(formatVariant({ ...variant, files: stored }));
  const manifest = variantManifest(config);
  const pins = { config: await store(config), manifest: await store(manifest) };
  const key = variant.variant;
  const entry = { variant: key, manifest: { mediaType: mediaTypes.manifest, ...pins.manifest } };
  const index = await store(kernelIndex({ ...about, variants: [entry] }));
  const source = { repository: about.source, revision: about.revision };

  const sign = async (subject: Digest, of: string | null): Promise<LockedStatement> => {
    const scope = of === null ? "index" : "variant";
    const { name, version } = about;
    const payload = Buffer.from(
      JSON.stringify({
        _type: "https://in-toto.io/Statement/v1",
        subject: [{ name, digest: { sha256: subject.slice("sha256:".length) } }],
        predicateType: provenanceType,
        predicate: {
          buildDefinition: {
            buildType,
            externalParameters: { package: name, version, variant: of, scope, source },
            resolvedDependencies: [],
          },
          runDetails: { builder: { id: builder } },
        },
      }),
    );
    const bundle = await store(await createBundle(payload, signer));
    const facts = { predicateType: provenanceType, subject, payload: digestOf(payload), bundle };
    return of === null ? { scope, ...facts } : { scope, variant: of, ...facts };
  };
  return {
    ...{ version: about.version, index, abi: variant.abi, builder, source },
    signers: [fingerprintOf(signer.publicKey)],
    statements: [await sign(index.digest, null), await sign(pins.manifest.digest, key)],
    variants: [{ key, ...pins, files: stored.map(({ path, kind, digest, size }) => ({ path, kind, digest, size })) }],
  };
}
