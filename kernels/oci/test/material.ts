import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { canonicalJson, type Digest, digestOf, formatVariant, mediaTypes, type Variant } from "../../format/index.ts";
import { kernelIndex, variantManifest } from "../index.ts";

/** A version with one variant, whole and sound. */
export function sampleVersion() {
  const payload = Buffer.from("not really a library");
  const card = Buffer.from("# sample\n");
  const variant: Variant = {
    schema: "kernlock.variant/v1",
    package: "kernlock/sample",
    version: "1.0.0",
    variant: "linux-x86_64-cpu-v3",
    abi: 0,
    abi_build: digestOf("abi"),
    platform: { os: "linux", arch: "x86_64", libc: { family: "glibc", minimum: "2.17" } },
    backend: { kind: "cpu", level: "x86-64-v3" },
    files: [
      { path: "README.md", kind: "card", digest: digestOf(card), size: card.length },
      { path: "sample.so", kind: "shared-object", digest: digestOf(payload), size: payload.length },
    ],
    ops: [
      {
        name: "residual",
        path: "cpp",
        covers: ["residual"],
        mode: "f32",
        file: "sample.so",
        dtypes: { activation: ["f32"], stream: ["f32"] },
        limits: {},
        features: [],
        workspace: { scratch: [], state: [] },
      },
    ],
    license: "Apache-2.0",
  };
  const config = Buffer.from(formatVariant(variant));
  const manifest = variantManifest(config);
  const index = kernelIndex({
    name: variant.package,
    version: variant.version,
    source: "https://git.kernlock.example/kernels",
    revision: "a".repeat(40),
    licenses: variant.license,
    description: "A sample",
    variants: [
      {
        variant: variant.variant,
        manifest: { mediaType: mediaTypes.manifest, digest: digestOf(manifest), size: manifest.byteLength },
      },
    ],
  });
  return { payload, card, variant, config, manifest, index };
}

// biome-ignore lint/suspicious/noExplicitAny: edits make the document wrong on purpose
export type Edit = (document: any) => void;

export function edited(bytes: Uint8Array, edit: Edit): Uint8Array {
  const document = JSON.parse(Buffer.from(bytes).toString());
  edit(document);
  return Buffer.from(canonicalJson(document));
}

export interface TestServer {
  readonly origin: string;
  readonly requests: { method: string; url: string; headers: IncomingMessage["headers"] }[];
  close(): Promise<void>;
}

/** A loopback server that answers as the test wants. */
export async function serve(listener: RequestListener): Promise<TestServer> {
  const requests: TestServer["requests"] = [];
  const server: Server = createServer((request, response) => {
    requests.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers });
    listener(request, response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () =>
      new Promise((done) => {
        server.closeAllConnections();
        server.close(() => done());
      }),
  };
}

/** A small but honest registry in memory. */
export function memoryRegistry(): {
  listener: RequestListener;
  blobs: Map<string, Buffer>;
  manifests: Map<string, { bytes: Buffer; type: string }>;
} {
  const blobs = new Map<string, Buffer>();
  const manifests = new Map<string, { bytes: Buffer; type: string }>();
  const body = async (request: IncomingMessage) => Buffer.concat(await request.toArray());
  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? "", "http://registry");
    const [kind, reference = ""] = url.pathname.split("/").slice(-2);
    const send = (status: number, headers: Record<string, string> = {}, data?: Buffer) =>
      response.writeHead(status, headers).end(data);
    if (request.method === "POST")
      return send(202, { location: `/upload/${createHash("sha256").update(url.pathname).digest("hex")}` });
    if (request.method === "PUT" && kind === "upload") {
      const digest = url.searchParams.get("digest") ?? "";
      const bytes = await body(request);
      if (digestOf(bytes) !== digest) return send(400);
      blobs.set(digest, bytes);
      return send(201);
    }
    if (request.method === "PUT") {
      const bytes = await body(request);
      const stored = { bytes, type: request.headers["content-type"] ?? "" };
      manifests.set(reference, stored).set(digestOf(bytes), stored);
      return send(201, { "docker-content-digest": digestOf(bytes) });
    }
    const found =
      kind === "blobs" ? { bytes: blobs.get(reference), type: "application/octet-stream" } : manifests.get(reference);
    if (found?.bytes === undefined) return send(404);
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const headers = { "content-type": found.type, "content-length": String(found.bytes.length - start) };
    const range = { "content-range": `bytes ${start}-${found.bytes.length - 1}/${found.bytes.length}` };
    return send(start > 0 ? 206 : 200, start > 0 ? { ...headers, ...range } : headers, found.bytes.subarray(start));
  };
  return { listener: (request, response) => void handle(request, response), blobs, manifests };
}

export async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return "accepted";
}

export const digests = { other: digestOf("something else") as Digest };
