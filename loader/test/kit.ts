import { spawnSync } from "node:child_process";
import { createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { abiBuild, opNames, ops } from "@kernlock/kernels/abi";
import { type Digest, digestOf, formatVariant, mediaTypes, type Variant } from "@kernlock/kernels/format";
import { bundleManifest, kernelIndex, RegistryClient, variantManifest } from "@kernlock/kernels/oci";
import { createBundle, type Policy, parsePolicy, type Signer } from "@kernlock/policies/trust";
import { afterAll } from "vitest";
import { createLock, fetchLocked, type LoadMachine, type Manifest, openCache } from "../index.ts";

export const now = new Date("2026-11-24T12:00:00Z");
export const builder = "https://builder.example/one";
export const source = {
  repository: "https://git.example/kernels",
  revision: "0123456789abcdef0123456789abcdef01234567",
};
export const machine: LoadMachine = {
  os: "linux",
  arch: "x86_64",
  libc: { family: "glibc", version: "2.36" },
  cpu: { level: "x86-64-v3" },
};

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-loader-"));
  folders.push(folder);
  return folder;
}

/** A real shared object without constructors; `mark` makes its bytes differ. */
export function library(mark: string, extra: readonly string[] = []): Uint8Array {
  const folder = newFolder();
  const output = join(folder, "x.so");
  const text = `extern "C" __attribute__((visibility("default"))) const char* kl_get_api(unsigned) { return "${mark}"; }\n
#ifdef CONSTRUCTOR
__attribute__((constructor)) static void run() { asm volatile("nop"); }
#endif\n`;
  writeFileSync(join(folder, "x.cc"), text);
  const flags = "-O2 -fPIC -shared -fvisibility=hidden -nostdlib -Wl,--build-id=none,-z,noexecstack,-z,relro,-z,now -s";
  const run = spawnSync(process.env.CXX ?? "g++", [...flags.split(" "), ...extra, "-o", output, "x.cc"], {
    cwd: folder,
  });
  if (run.status !== 0) throw new Error(String(run.stderr));
  return readFileSync(output);
}

export interface Key extends Signer {
  readonly pem: string;
}

export function newKey(): Key {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const publicKey = createPublicKey(privateKey);
  const pem = publicKey.export({ type: "spki", format: "pem" }) as string;
  return { publicKey, pem, sign: async (data) => sign("sha256", data, privateKey) };
}

export function policyOf(keys: Record<string, Key & { validUntil?: string }>, more = ""): Policy {
  const entries = Object.entries(keys).map(([id, { pem, validUntil }]) => {
    const window = validUntil === undefined ? "" : `    validUntil: "${validUntil}"\n`;
    return `  ${id}:\n    pem: |\n${pem.trimEnd().replaceAll(/^/gm, "      ")}\n${window}`;
  });
  const ids = Object.keys(keys).join(", ");
  return parsePolicy(
    `version: 1\nkeys:\n${entries.join("")}rules:\n  - match: "acme/*"\n    publishers: [${ids}]\n    builders:\n` +
      `      - id: ${builder}\n        keys: [${ids}]\n    sources:\n      - repository: ${source.repository}\n` +
      `numerics:\n  allowDequantization: false\n${more}`,
  );
}

export interface KernelParts {
  readonly name: string;
  readonly version: string;
  /** By CPU level: the payload and, where a test wants it, other things in variant.json. */
  readonly variants: Readonly<Record<string, { readonly library: Uint8Array; readonly change?: Partial<Variant> }>>;
  readonly builder?: string;
  readonly revision?: string;
}

/** A registry on a loopback port, with the reads of OCI distribution 1.1 and a knob for serving badly. */
export class TestRegistry {
  readonly blobs = new Map<string, Uint8Array>();
  readonly manifests = new Map<string, { bytes: Uint8Array; mediaType: string }>();
  readonly tagged = new Map<string, Map<string, Digest>>();
  readonly attached = new Map<string, { digest: Digest; size: number }[]>();
  readonly requests: string[] = [];
  /** Looks at a blob request first; true when it has answered. */
  intercept: (request: IncomingMessage, response: ServerResponse, digest: string) => boolean = () => false;
  readonly #server = createServer((request, response) => this.#answer(request, response));

  async start(): Promise<RegistryClient> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return new RegistryClient({ origin: `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}` });
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #blob(bytes: Uint8Array): Digest {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return digest;
  }

  #manifest(bytes: Uint8Array, mediaType: string): { mediaType: string; digest: Digest; size: number } {
    const digest = digestOf(bytes);
    this.manifests.set(digest, { bytes, mediaType });
    return { mediaType, digest, size: bytes.byteLength };
  }

  /** Builds and publishes a version, signed by `signer`. */
  async publish(parts: KernelParts, signer: Signer): Promise<void> {
    const { name, version } = parts;
    const card = Buffer.from(`# ${name}\n`);
    const variants = Object.entries(parts.variants).map(([level, { library: payload, change }]) => {
      const key = `linux-x86_64-cpu-${level}`;
      const config = Buffer.from(formatVariant({ ...variantFacts(name, version, level, payload, card), ...change }));
      for (const blob of [payload, card, config]) this.#blob(blob);
      return { variant: key, manifest: this.#manifest(variantManifest(config), mediaTypes.manifest) };
    });
    const revision = parts.revision ?? source.revision;
    const about = {
      name,
      version,
      source: source.repository,
      revision,
      licenses: "Apache-2.0",
      description: "A test.",
    };
    const index = this.#manifest(kernelIndex({ ...about, variants }), mediaTypes.index);
    const tags = this.tagged.get(name) ?? new Map<string, Digest>();
    this.tagged.set(name, tags.set(version, index.digest));
    for (const [variant, subject] of [[null, index], ...variants.map((v) => [v.variant, v.manifest])] as const) {
      await this.attach(
        await createBundle(provenance(parts, variant as string | null, subject as typeof index), signer),
        subject as typeof index,
      );
    }
  }

  async attach(bundle: Uint8Array, subject: { mediaType: string; digest: Digest; size: number }): Promise<void> {
    this.#blob(bundle);
    const bytes = bundleManifest({ bundle, subject, predicateType: "https://slsa.dev/provenance/v1" });
    const { digest, size } = this.#manifest(bytes, mediaTypes.manifest);
    this.attached.set(subject.digest, [...(this.attached.get(subject.digest) ?? []), { digest, size }]);
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const url = request.url ?? "";
    this.requests.push(`${request.method} ${url}`);
    const [, name = "", kind, reference = ""] =
      /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/([^?]+)/.exec(url) ?? [];
    const json = (mediaType: string, value: unknown) => {
      response.writeHead(200, { "content-type": mediaType }).end(JSON.stringify(value));
    };
    if (kind === "tags") return json("application/json", { name, tags: [...(this.tagged.get(name)?.keys() ?? [])] });
    if (kind === "referrers") {
      const manifests = (this.attached.get(reference) ?? []).map((entry) => ({
        ...entry,
        mediaType: mediaTypes.manifest,
        artifactType: mediaTypes.bundle,
      }));
      return json(mediaTypes.index, { schemaVersion: 2, mediaType: mediaTypes.index, manifests });
    }
    if (kind === "manifests") {
      const digest = this.tagged.get(name)?.get(reference) ?? reference;
      const found = this.manifests.get(digest);
      if (found === undefined) return response.writeHead(404).end();
      const headers = { "content-type": found.mediaType, "docker-content-digest": digest };
      return response.writeHead(200, headers).end(found.bytes);
    }
    const blob = this.blobs.get(reference);
    if (blob === undefined) return response.writeHead(404).end();
    if (this.intercept(request, response, reference)) return undefined;
    const offset = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const rest = blob.subarray(offset);
    const range = `bytes ${offset}-${blob.byteLength - 1}/${blob.byteLength}`;
    const headers = { "content-length": rest.byteLength, "docker-content-digest": reference };
    return response
      .writeHead(offset > 0 ? 206 : 200, offset > 0 ? { ...headers, "content-range": range } : headers)
      .end(rest);
  }
}

function variantFacts(name: string, version: string, level: string, payload: Uint8Array, card: Uint8Array): Variant {
  const op = opNames[0]!;
  const fields = new Set<string>(ops[op].fields.map((field) => field.name));
  return {
    schema: "kernlock.variant/v1",
    package: name,
    version,
    variant: `linux-x86_64-cpu-${level}`,
    abi: 0,
    abi_build: abiBuild,
    platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
    backend: { kind: "cpu", level: `x86-64-${level}` as "x86-64-v3" },
    files: [
      { path: "README.md", kind: "card", digest: digestOf(card), size: card.byteLength },
      { path: "kernel.so", kind: "shared-object", digest: digestOf(payload), size: payload.byteLength },
    ],
    ops: [
      {
        name: op,
        path: "cpp",
        covers: [...ops[op].covers],
        mode: "f32",
        file: "kernel.so",
        dtypes: {
          ...(fields.has("dtype") ? { activation: ["f32"] } : {}),
          ...(fields.has("stream_dtype") ? { stream: ["f32"] } : {}),
          ...(fields.has("kv_dtype") ? { kv: ["f32"] } : {}),
        },
        ...(fields.has("layout") ? { layouts: ["bf16.rows"] } : {}),
        limits: {},
        features: [],
        workspace: { scratch: [], state: [] },
      } as Variant["ops"][number],
    ],
    license: "Apache-2.0",
  };
}

export function provenance(parts: KernelParts, variant: string | null, subject: { digest: Digest }): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name: parts.name, digest: { sha256: subject.digest.slice(7) } }],
      predicateType: "https://slsa.dev/provenance/v1",
      predicate: {
        buildDefinition: {
          buildType: "https://kernlock.dev/build/package/v1",
          externalParameters: {
            package: parts.name,
            version: parts.version,
            variant,
            scope: variant === null ? "index" : "variant",
            source: { ...source, revision: parts.revision ?? source.revision },
          },
        },
        runDetails: { builder: { id: parts.builder ?? builder } },
      },
    }),
  );
}

/** Two kernels in a registry, a policy, a lock of both, and a filled cache. */
export async function scene() {
  const registry = new TestRegistry();
  const client = await registry.start();
  afterAll(() => registry.stop());
  const key = newKey();
  const policy = policyOf({ publisher: key });
  const norm: KernelParts = {
    name: "acme/norm",
    version: "1.0.0",
    variants: { v3: { library: library("norm v3") }, v4: { library: library("norm v4") } },
  };
  const moe: KernelParts = { name: "acme/moe", version: "2.1.0", variants: { v3: { library: library("moe v3") } } };
  await registry.publish(norm, key);
  await registry.publish(moe, key);
  const manifest: Manifest = {
    version: 1,
    registry: client.origin,
    variants: ["linux-x86_64-cpu-v3", "linux-x86_64-cpu-v4"],
    kernels: { "acme/norm": "^1.0.0", "acme/moe": "^2.0.0" },
  };
  const cache = openCache(join(newFolder(), "cache"));
  const locked = await createLock({ manifest, policy, registry: client, cache, now });
  await fetchLocked({ lock: locked.lock, cache, registry: client });
  return { registry, client, key, policy, norm, moe, manifest, cache, ...locked };
}

/** The code that a call refuses with. */
export async function codeOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    return (error as { code?: string }).code ?? `untyped: ${String(error)}`;
  }
  return "no refusal";
}
