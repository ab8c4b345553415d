/** What the registry's tests share: a real server on a free port, real keys, a small real package. */
import { execFileSync } from "node:child_process";
import { createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { abiBuild } from "@kernlock/kernels/abi";
import { type Digest, digestOf, formatVariant, mediaTypes, type Variant } from "@kernlock/kernels/format";
import { bundleManifest, kernelIndex, variantManifest } from "@kernlock/kernels/oci";
import { createBundle, provenanceType, type Signer } from "@kernlock/policies/trust";
import { expect, onTestFinished } from "vitest";
import { createRegistry, type Registry, type RegistryOptions, type Role } from "../index.ts";

export const builderId = "https://builder.example/one";
export const source = { repository: "https://git.example/norm", revision: "0123456789abcdef0123456789abcdef01234567" };

export interface TestKey extends Signer {
  readonly pem: string;
}

export function newKey(): TestKey {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const publicKey = createPublicKey(privateKey);
  return {
    publicKey,
    pem: publicKey.export({ type: "spki", format: "pem" }) as string,
    sign: async (data) => sign("sha256", data, privateKey),
  };
}

/** Trusts one key, as publisher and as builder, for everything. */
export function policyFor(key: TestKey, from = source.repository): string {
  return `version: 1
keys:
  team:
    pem: |
${key.pem.trimEnd().replaceAll(/^/gm, "      ")}
rules:
  - match: "*/*"
    publishers: [team]
    builders:
      - id: ${builderId}
        keys: [team]
    sources:
      - repository: ${from}
numerics:
  allowDequantization: false
`;
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-registry-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export interface TestRegistry {
  readonly registry: Registry;
  readonly origin: string;
  readonly folder: string;
  readonly key: TestKey;
  /** Writes to `acme`, which is public and trusts `key`. */
  readonly write: string;
  readonly read: string;
}

/** A listening registry with the namespace `acme`; closed and removed when the test ends. */
export async function startRegistry(options: Partial<RegistryOptions> = {}): Promise<TestRegistry> {
  const folder = options.dataFolder ?? temporaryFolder();
  const registry = await createRegistry({ dataFolder: folder, ...options });
  onTestFinished(() => registry.close());
  const key = newKey();
  await registry.createNamespace({ name: "acme", policy: policyFor(key) });
  const { origin } = await registry.listen();
  const token = async (role: Role) => (await registry.createToken({ namespace: "acme", role })).token;
  return { registry, origin, folder, key, write: await token("publisher"), read: await token("reader") };
}

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

let compiled: Buffer | undefined;

/** A shared object that exports `kl_get_api` and does nothing else; compiled once. */
export function sharedObject(): Buffer {
  compiled ??= compile(
    'extern "C" __attribute__((visibility("default"))) const void *kl_get_api(unsigned) { return 0; }',
  );
  return compiled;
}

export function compile(code: string, flags: readonly string[] = []): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-so-"));
  try {
    writeFileSync(join(folder, "x.cc"), code);
    const standard = "-O1 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -shared -nostartfiles -nostdlib".split(
      " ",
    );
    const link = "-Wl,--build-id=none,-z,relro,-z,now,-z,noexecstack,-Bsymbolic -s".split(" ");
    execFileSync("g++", [...standard, ...link, ...flags, "-o", "x.so", "x.cc"], { cwd: folder });
    return readFileSync(join(folder, "x.so"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export interface TestPackage {
  readonly name: string;
  readonly version: string;
  readonly index: Uint8Array;
  readonly digest: Digest;
  readonly variants: readonly { key: string; manifest: Uint8Array; config: Uint8Array }[];
  /** Every blob: configs and files. */
  readonly blobs: readonly Uint8Array[];
  readonly payload: Buffer;
}

export interface PackageOptions {
  readonly name?: string;
  readonly version?: string;
  readonly card?: string;
  readonly description?: string;
  readonly payload?: Buffer;
  readonly variants?: readonly string[];
  readonly change?: (variant: Variant) => Variant;
  /** More files of every variant; `change` may leave some out. */
  readonly extra?: readonly { path: string; kind: "sbom" | "license"; bytes: Buffer }[];
}

export function makePackage(options: PackageOptions = {}): TestPackage {
  const name = options.name ?? "acme/norm";
  const version = options.version ?? "1.0.0";
  const payload = options.payload ?? sharedObject();
  const extra = options.extra ?? [];
  const card = Buffer.from(options.card ?? "# Norm\n\nA root mean square norm.\n");
  const variants = (options.variants ?? ["linux-x86_64-cpu-v3"]).map((key) => {
    const plain: Variant = {
      schema: "kernlock.variant/v1",
      package: name,
      version,
      variant: key,
      abi: 0,
      abi_build: abiBuild,
      platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
      backend: { kind: "cpu", level: key.endsWith("v4") ? "x86-64-v4" : "x86-64-v3" },
      files: [
        { path: "README.md", kind: "card" as const, digest: digestOf(card), size: card.byteLength },
        { path: "norm.so", kind: "shared-object" as const, digest: digestOf(payload), size: payload.byteLength },
        ...extra.map(({ path, kind, bytes }) => ({ path, kind, digest: digestOf(bytes), size: bytes.byteLength })),
      ].sort((a, b) => (a.path < b.path ? -1 : 1)),
      ops: [
        {
          name: "copy_rows",
          path: "cpp",
          covers: [],
          mode: "f32",
          file: "norm.so",
          dtypes: {},
          limits: {},
          features: [],
          workspace: { scratch: [], state: [] },
        },
      ],
      license: "Apache-2.0",
    };
    const config = Buffer.from(formatVariant(options.change?.(plain) ?? plain));
    return { key, config, manifest: variantManifest(config) };
  });
  const index = kernelIndex({
    name,
    version,
    source: source.repository,
    revision: source.revision,
    licenses: "Apache-2.0",
    description: options.description ?? "A root mean square norm for tests",
    variants: variants.map(({ key, manifest }) => ({
      variant: key,
      manifest: { mediaType: mediaTypes.manifest, digest: digestOf(manifest), size: manifest.byteLength },
    })),
  });
  const blobs = [payload, card, ...extra.map(({ bytes }) => bytes), ...variants.map((v) => v.config)];
  return { name, version, index, digest: digestOf(index), variants, blobs, payload };
}

/** A provenance statement about the package's index, or about one of its variants. */
export function statement(pack: TestPackage, variant?: TestPackage["variants"][number]): Uint8Array {
  const digest = variant === undefined ? pack.digest : digestOf(variant.manifest);
  return Buffer.from(
    JSON.stringify({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: pack.name, digest: { sha256: digest.slice("sha256:".length) } }],
      predicateType: provenanceType,
      predicate: {
        buildDefinition: {
          buildType: "https://kernlock.dev/build/package/v1",
          externalParameters: {
            package: pack.name,
            version: pack.version,
            variant: variant?.key ?? null,
            scope: variant === undefined ? "index" : "variant",
            source,
          },
          resolvedDependencies: [],
        },
        runDetails: { builder: { id: builderId } },
      },
    }),
  );
}

export function putBlob(
  at: { origin: string },
  token: string,
  name: string,
  bytes: Uint8Array,
  signal: AbortSignal | null = null,
): Promise<Response> {
  return fetch(`${at.origin}/v2/${name}/blobs/uploads/?digest=${digestOf(bytes)}`, {
    method: "POST",
    headers: { ...bearer(token), "content-type": "application/octet-stream" },
    body: bytes as Uint8Array<ArrayBuffer>,
    signal,
  });
}

export function putManifest(
  at: { origin: string },
  token: string,
  name: string,
  reference: string,
  bytes: Uint8Array,
  mediaType: string,
  signal: AbortSignal | null = null,
): Promise<Response> {
  return fetch(`${at.origin}/v2/${name}/manifests/${reference}`, {
    method: "PUT",
    headers: { ...bearer(token), "content-type": mediaType },
    body: bytes as Uint8Array<ArrayBuffer>,
    signal,
  });
}

/** Everything but the version's tag. `signer: null` leaves the evidence out. */
export async function pushAll(
  at: { origin: string; key: TestKey; write: string },
  pack: TestPackage,
  options: { signer?: Signer | null; token?: string } = {},
): Promise<void> {
  const token = options.token ?? at.write;
  const created = (response: Response) => expect(response.status).toBe(201);
  for (const blob of pack.blobs) created(await putBlob(at, token, pack.name, blob));
  for (const { manifest } of pack.variants) {
    created(await putManifest(at, token, pack.name, digestOf(manifest), manifest, mediaTypes.manifest));
  }
  created(await putManifest(at, token, pack.name, pack.digest, pack.index, mediaTypes.index));
  const signer = options.signer === undefined ? at.key : options.signer;
  if (signer === null) return;
  await attach(at, token, pack, statement(pack), undefined, signer);
  for (const variant of pack.variants) await attach(at, token, pack, statement(pack, variant), variant, signer);
}

/** Signs a statement and pushes it as a referrer of the index or of a variant. Returns the referrer's digest. */
export async function attach(
  at: { origin: string },
  token: string,
  pack: TestPackage,
  bytes: Uint8Array,
  variant: TestPackage["variants"][number] | undefined,
  signer: Signer,
): Promise<Digest> {
  const bundle = await createBundle(bytes, signer);
  const subject = variant?.manifest ?? pack.index;
  const manifest = bundleManifest({
    bundle,
    predicateType: provenanceType,
    subject: {
      mediaType: variant === undefined ? mediaTypes.index : mediaTypes.manifest,
      digest: digestOf(subject),
      size: subject.byteLength,
    },
  });
  await putBlob(at, token, pack.name, bundle);
  await putBlob(at, token, pack.name, Buffer.from("{}"));
  const response = await putManifest(at, token, pack.name, digestOf(manifest), manifest, mediaTypes.manifest);
  expect(response.status).toBe(201);
  return digestOf(manifest);
}

export function putTag(
  at: { origin: string; write: string },
  pack: TestPackage,
  token = at.write,
  signal: AbortSignal | null = null,
): Promise<Response> {
  return putManifest(at, token, pack.name, pack.version, pack.index, mediaTypes.index, signal);
}

/** Pushes and tags; the version is public afterwards. */
export async function publish(at: TestRegistry, pack: TestPackage): Promise<void> {
  await pushAll(at, pack);
  const response = await putTag(at, pack);
  expect(response.status, await response.text()).toBe(201);
}

/** Status, OCI code and Kernlock code of a refusal. */
export async function refusal(response: Response | Promise<Response>): Promise<[number, string, string]> {
  const answer = await response;
  const body = (await answer.json()) as { errors: { code: string; message: string; detail: { code: string } }[] };
  return [answer.status, body.errors[0]!.code, body.errors[0]!.detail.code];
}

/** Files of unfinished uploads. */
export const unfinished = (at: { folder: string }) => readdirSync(join(at.folder, "uploads"));
export const stored = (at: { folder: string }) => readdirSync(join(at.folder, "blobs", "sha256"));
