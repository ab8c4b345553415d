/** Mirrors for tests: a registry that mirrors, and an upstream that is a real one or lies as the test wants. */
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { type Digest, digestOf, mediaTypes } from "@kernlock/kernels/format";
import { bundleManifest } from "@kernlock/kernels/oci";
import { createBundle, provenanceType, type Signer } from "@kernlock/policies/trust";
import { onTestFinished } from "vitest";
import {
  createRegistry,
  type MirrorOptions,
  type MirrorSettings,
  type Registry,
  type RegistryOptions,
} from "../index.ts";
import { newKey, policyFor, statement, type TestKey, type TestPackage, temporaryFolder } from "./material.ts";

/** As quick as a test wants it; each can be said otherwise. */
export const quick: MirrorOptions = { pauseMs: 1, timeoutMs: 10_000, documentMs: 10_000 };

export interface TestMirror {
  readonly registry: Registry;
  readonly origin: string;
  readonly folder: string;
  readonly key: TestKey;
  readonly clock: { ahead: number };
  readonly write: string;
  readonly admin: string;
  readonly mirror: string;
}

/** A listening registry whose `acme/*` comes from `upstream`; what is signed with `key` passes its policy. */
export async function startMirror(
  upstream: { origin: string; key: TestKey },
  options: {
    policy?: string;
    kind?: "kernels" | "artifacts";
    pattern?: string;
    prefix?: string;
    settings?: Partial<MirrorSettings>;
    mirrors?: MirrorOptions;
    registry?: Partial<RegistryOptions>;
  } = {},
): Promise<TestMirror> {
  const folder = temporaryFolder();
  const clock = { ahead: 0 };
  const registry = await createRegistry({
    dataFolder: folder,
    now: () => new Date(Date.now() + clock.ahead),
    mirrors: { ...quick, ...options.mirrors },
    ...options.registry,
  });
  onTestFinished(() => registry.close(1));
  const kind = options.kind ?? "kernels";
  await registry.createNamespace({
    name: "acme",
    kind,
    ...(kind === "kernels" ? { policy: options.policy ?? policyFor(upstream.key) } : {}),
  });
  const declared = await registry.declareMirror({
    pattern: options.pattern ?? "acme/*",
    origin: upstream.origin,
    ...(options.prefix === undefined ? {} : { prefix: options.prefix }),
    ...(options.settings === undefined ? {} : { settings: options.settings }),
  });
  const { origin } = await registry.listen();
  const token = async (role: "publisher" | "admin") => (await registry.createToken({ namespace: "acme", role })).token;
  return {
    registry,
    origin,
    folder,
    key: upstream.key,
    clock,
    write: await token("publisher"),
    admin: await token("admin"),
    mirror: declared.id,
  };
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
}

/** What a test does with a request in place of the honest answer. True: it was answered. */
export type Lie = (request: IncomingMessage, response: ServerResponse, path: string) => boolean | Promise<boolean>;

export interface Front {
  readonly origin: string;
  readonly asked: Asked[];
  /** How often a path was asked for that holds this text. */
  count(text: string): number;
  lie: Lie | undefined;
  stop(): Promise<void>;
}

/** Stands in front of a registry, counts what it is asked, and lies when told to. */
export async function startFront(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  tls?: { key: string; cert: string },
): Promise<Front> {
  const asked: Asked[] = [];
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    const path = (request.url ?? "").split("?")[0]!;
    asked.push({ method: request.method ?? "", path, headers: request.headers });
    response.on("error", () => {});
    void (async () => {
      if (front.lie !== undefined && (await front.lie(request, response, path))) return;
      answer(request, response);
    })();
  };
  const server = tls === undefined ? createServer(listener) : createSecureServer(tls, listener);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const front: Front = {
    origin: `${tls === undefined ? "http" : "https"}://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    count: (text) => asked.filter(({ path }) => path.includes(text)).length,
    lie: undefined,
    stop: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
  onTestFinished(() => front.stop());
  return front;
}

/** Passes requests on to a real registry. */
export function frontOf(origin: string): Promise<Front> {
  return startFront((request, response) => {
    const onward = httpRequest(
      new URL(request.url ?? "/", origin),
      { method: request.method, headers: request.headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
}

export interface Shelf {
  readonly manifests: Map<string, { bytes: Uint8Array; type: string }>;
  readonly blobs: Map<string, Uint8Array>;
  readonly referrers: Map<string, object[]>;
  readonly tags: string[];
}

/** A small honest registry of one repository, in memory, which knows nothing of Kernlock. */
export async function startShelf(tls?: {
  key: string;
  cert: string;
}): Promise<Front & { readonly shelf: Shelf; readonly key: TestKey }> {
  const shelf: Shelf = { manifests: new Map(), blobs: new Map(), referrers: new Map(), tags: [] };
  const front = await startFront((request, response) => {
    const path = (request.url ?? "").split("?")[0]!;
    const [kind = "", reference = ""] = path.split("/").slice(-2);
    const send = (status: number, headers: Record<string, string>, body?: Uint8Array | string) =>
      response.writeHead(status, headers).end(request.method === "HEAD" ? undefined : body);
    const json = (type: string, value: unknown) => send(200, { "content-type": type }, JSON.stringify(value));
    if (kind === "tags") return json("application/json", { name: "x", tags: shelf.tags });
    if (kind === "referrers") {
      const manifests = shelf.referrers.get(reference) ?? [];
      return json(mediaTypes.index, { schemaVersion: 2, mediaType: mediaTypes.index, manifests });
    }
    const manifest = kind === "manifests" ? shelf.manifests.get(reference) : undefined;
    if (manifest !== undefined) {
      const digest = digestOf(manifest.bytes);
      if (request.headers["if-none-match"] === `"${digest}"`) return send(304, { etag: `"${digest}"` });
      return send(200, { "content-type": manifest.type, "docker-content-digest": digest }, manifest.bytes);
    }
    const blob = kind === "blobs" ? shelf.blobs.get(reference) : undefined;
    if (blob === undefined) return send(404, { "content-type": "application/json" }, '{"errors":[{"code":"NO"}]}');
    return send(200, { "content-length": String(blob.byteLength) }, blob);
  }, tls);
  return Object.assign(front, { shelf, key: newKey() });
}

export async function put(shelf: Shelf, pack: TestPackage, signer: Signer | null): Promise<void> {
  const add = (bytes: Uint8Array, type: string, ...names: string[]) => {
    for (const name of [digestOf(bytes), ...names]) shelf.manifests.set(name, { bytes, type });
  };
  for (const blob of pack.blobs) shelf.blobs.set(digestOf(blob), blob);
  shelf.blobs.set(digestOf("{}"), Buffer.from("{}"));
  for (const { manifest } of pack.variants) add(manifest, mediaTypes.manifest);
  add(pack.index, mediaTypes.index, pack.version);
  shelf.tags.push(pack.version);
  if (signer === null) return;
  await refer(shelf, pack.index, mediaTypes.index, await createBundle(statement(pack), signer));
  for (const variant of pack.variants) {
    await refer(shelf, variant.manifest, mediaTypes.manifest, await createBundle(statement(pack, variant), signer));
  }
}

/** Attaches a bundle to a manifest of the shelf. */
export async function refer(shelf: Shelf, to: Uint8Array, type: string, bundle: Uint8Array): Promise<Digest> {
  const subject = { mediaType: type, digest: digestOf(to), size: to.byteLength };
  const bytes = bundleManifest({ bundle, subject, predicateType: provenanceType });
  const digest = digestOf(bytes);
  shelf.blobs.set(digestOf(bundle), bundle);
  shelf.manifests.set(digest, { bytes, type: mediaTypes.manifest });
  const listed = {
    mediaType: mediaTypes.manifest,
    digest,
    size: bytes.byteLength,
    artifactType: mediaTypes.bundle,
  };
  shelf.referrers.set(subject.digest, [...(shelf.referrers.get(subject.digest) ?? []), listed]);
  return digest;
}

export const manifestOf = (at: { origin: string }, reference: string, name = "acme/norm") =>
  fetch(`${at.origin}/v2/${name}/manifests/${reference}`);
export const blobOf = (at: { origin: string }, digest: string, name = "acme/norm") =>
  fetch(`${at.origin}/v2/${name}/blobs/${digest}`);
