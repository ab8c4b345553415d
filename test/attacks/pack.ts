/** Makes a package with something wrong in it: all of it hashed and signed as if it were right. */
import { type Digest, digestOf, mediaTypes, type Variant } from "@kernlock/kernels/format";
import { createBundle, fingerprintOf, type Signer } from "@kernlock/policies/trust";
import { harmless, library } from "../../kernels/inspect/test/craft.ts";
import { makePackage, statement } from "../../registry-server/test/material.ts";
import type { Attached, Edit, Keys, Loose, Twist } from "./attack.ts";

export const v3 = "linux-x86_64-cpu-v3";
export const v4 = "linux-x86_64-cpu-v4";
export const cuda = "linux-x86_64-cuda-sm90a";
export const now = new Date("2026-11-24T12:00:00Z");

export interface Pack {
  readonly name: string;
  readonly version: string;
  readonly index: Uint8Array;
  readonly variants: readonly { readonly key: string; readonly manifest: Uint8Array; readonly config: Uint8Array }[];
  /** Files and configs. */
  readonly blobs: readonly Uint8Array[];
  readonly evidence: readonly Attached[];
  /** What an honest lock of it pins, whether or not it should be accepted. */
  readonly lock: Loose;
}

export const sizeAndDigest = (bytes: Uint8Array) => ({ digest: digestOf(bytes), size: bytes.byteLength });

let made: { good: Buffer; other: Buffer } | undefined;
/** The libraries of the two variants; compiled once a process. */
export function libraries(): { readonly good: Buffer; readonly other: Buffer } {
  made ??= { good: library(), other: library(harmless.replaceAll("sqrtf", "fabsf")) };
  return made;
}

/** The document after an edit, as bytes. */
export function applied(edit: Edit | undefined, bytes: Uint8Array, at: string): Uint8Array {
  if (edit === undefined) return bytes;
  const document = JSON.parse(Buffer.from(bytes).toString());
  const result = edit(document, at);
  return result instanceof Uint8Array ? result : Buffer.from(JSON.stringify(document));
}

export async function makePack(keys: Keys, twist: Twist = {}): Promise<Pack> {
  const { good, other } = libraries();
  // The hostile variant, and one beside it.
  const target = twist.image ? cuda : v3;
  const payloads: Record<string, Uint8Array> = { [target]: twist.image ?? twist.payload ?? good, [v4]: other };
  const base = makePackage({
    name: twist.name ?? "acme/norm",
    version: twist.version ?? "1.0.0",
    variants: twist.image ? [v4, cuda] : [v3, v4],
    payload: good,
    change: (variant) => ({
      ...variant,
      platform: { ...variant.platform, libc: { family: "glibc", minimum: "2.40" } },
      ...(variant.variant === cuda ? onGpu(variant) : {}),
      files: variant.files.map((file) =>
        file.kind === "shared-object"
          ? {
              ...file,
              kind: variant.variant === cuda ? "device-image" : "shared-object",
              ...sizeAndDigest(payloads[variant.variant]!),
            }
          : file,
      ),
    }),
  });
  const honest = base.variants.map(({ key, config }) => ({ key, files: JSON.parse(config.toString()).files }));
  const variants = base.variants.map(({ key, config, manifest }) => {
    const changed = applied(only(target)(twist.config), config, key);
    const rehashed = applied((m) => Object.assign(m.config, sizeAndDigest(changed)), manifest, key);
    return { key, config: changed, manifest: applied(only(target)(twist.manifest), rehashed, key) };
  });
  const index = applied(
    (document, at) => {
      for (const [i, { manifest }] of variants.entries()) Object.assign(document.manifests[i], sizeAndDigest(manifest));
      return twist.index?.(document, at);
    },
    base.index,
    "index",
  );
  const pack = {
    name: base.name,
    version: base.version,
    index,
    variants,
    blobs: [...base.blobs.slice(1), ...Object.values(payloads), ...variants.map(({ config }) => config)],
  };
  const signer = twist.signer ?? keys.publisher;
  const own: Attached[] = [];
  for (const claim of [undefined, ...variants]) {
    const at = claim?.key ?? "index";
    const about = statement({ ...base, digest: digestOf(index) }, claim as (typeof base.variants)[number]);
    const signed = await createBundle(applied(atIndex(twist.statement), about, at), signer);
    own.push({ subject: digestOf(claim?.manifest ?? index), bundle: applied(atIndex(twist.bundle), signed, at) });
  }
  const unlocked: Pack = { ...pack, evidence: own, lock: null };
  const evidence = (await twist.evidence?.(unlocked, keys)) ?? own;
  return { ...unlocked, evidence, lock: lockOf(unlocked, evidence, honest, signer, JSON.parse(base.index.toString())) };
}

/** Edits of documents of a variant concern cpu-v3 alone; those of evidence the index's; unless they ask for `at`. */
const only = (wanted: string) => (edit: Edit | undefined) =>
  edit === undefined || edit.length > 1
    ? edit
    : (document: Loose, at: string) => (at === wanted ? edit(document, at) : undefined);
const atIndex = only("index");

/** One op of a device image, whose launch is what the crafted cubin takes. */
function onGpu(variant: Variant): Pick<Variant, "backend" | "ops"> {
  const step = {
    file: "norm.so",
    entry: "add",
    grid: [[], [], []] as [[], [], []],
    block: [128, 1, 1] as [number, number, number],
    shared_bytes: 0,
    params: [{ kind: "null" as const }, { kind: "constant" as const, type: "i32" as const, value: 1 }],
  };
  return {
    backend: { kind: "cuda", architectures: ["sm_90a"], ptx: [], driver: "13.0" },
    ops: variant.ops.map((op) => ({ ...op, path: "cuda", launch: { absent_rows: "untouched", steps: [step] } })),
  };
}

function lockOf(
  pack: Pack,
  evidence: readonly Attached[],
  honest: readonly { key: string; files: Loose }[],
  signer: Signer,
  index: Loose,
): Loose {
  const subjects = new Map<Digest, string | null>([[digestOf(pack.index), null]]);
  for (const { key, manifest } of pack.variants) subjects.set(digestOf(manifest), key);
  const statements = evidence.map(({ subject, bundle }) => {
    const variant = subjects.get(subject) ?? null;
    const { payload, type } = payloadOf(bundle);
    return {
      scope: variant === null ? "index" : "variant",
      ...(variant === null ? {} : { variant }),
      predicateType: type,
      subject,
      payload: digestOf(payload),
      bundle: sizeAndDigest(bundle),
    };
  });
  const order = (s: (typeof statements)[number]) => `${s.variant ?? ""} ${s.payload} ${s.bundle.digest}`;
  return {
    version: pack.version,
    index: sizeAndDigest(pack.index),
    abi: 0,
    signers: [fingerprintOf(signer.publicKey)],
    builder: "https://builder.example/one",
    source: {
      repository: index.annotations["org.opencontainers.image.source"],
      revision: index.annotations["org.opencontainers.image.revision"],
    },
    statements: statements.sort((a, b) => (order(a) < order(b) ? -1 : 1)),
    variants: pack.variants.map(({ key, manifest, config }) => ({
      key,
      manifest: sizeAndDigest(manifest),
      config: sizeAndDigest(config),
      files: honest.find((h) => h.key === key)!.files,
    })),
  };
}

/** What a bundle signs, as far as it can be told at all. */
function payloadOf(bundle: Uint8Array): { payload: Uint8Array; type: string } {
  try {
    const payload = Buffer.from(JSON.parse(Buffer.from(bundle).toString()).dsseEnvelope.payload, "base64");
    const type = JSON.parse(payload.toString()).predicateType;
    return { payload, type: typeof type === "string" ? type : "unknown" };
  } catch {
    return { payload: Buffer.alloc(0), type: "unknown" };
  }
}

/** Everything of a package that a cache or registry holds, by digest. */
export function contents(pack: Pack): Map<Digest, Uint8Array> {
  const all = [pack.index, ...pack.variants.map(({ manifest }) => manifest), ...pack.blobs];
  return new Map([...all, ...pack.evidence.map(({ bundle }) => bundle)].map((bytes) => [digestOf(bytes), bytes]));
}

export const mediaTypeOf = (pack: Pack, digest: Digest) =>
  digest === digestOf(pack.index) ? mediaTypes.index : mediaTypes.manifest;
