import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { digestOf, mediaTypes } from "@kernlock/kernels/format";
import { bearer, makePackage, putBlob, putManifest } from "../../../registry-server/test/material.ts";
import type { Attack, Keys } from "../attack.ts";
import { makePack, type Pack } from "../pack.ts";
import type { Server } from "../places.ts";

type Blow = () => Promise<Response | string>;
type Row = [
  number: Attack["number"],
  name: string,
  code: `KL_${string}`,
  strike: (server: Server, keys: Keys) => Promise<Blow>,
];

const bytes = Buffer.from("0123456789");
const repository = "acme/norm";
/** A blow that needs nothing before it. */
const at = (blow: (server: Server) => Promise<Response | string>) => async (server: Server) => () => blow(server);
const upload = (server: Server, digest: string, body = bytes, token = server.write, name = repository) =>
  fetch(`${server.origin}/v2/${name}/blobs/uploads/?digest=${encodeURIComponent(digest)}`, {
    method: "POST",
    headers: bearer(token),
    body: new Uint8Array(body),
  });

/** A request as raw text, whose sender then ends or breaks the connection. */
async function raw(server: Server, length: number, digest = digestOf(bytes)): Promise<string> {
  const socket = connect(Number(new URL(server.origin).port), "127.0.0.1");
  await once(socket, "connect");
  let answer = "";
  socket.on("data", (chunk) => (answer += chunk));
  socket.on("error", () => {});
  socket.write(
    `POST /v2/${repository}/blobs/uploads/?digest=${digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.write}\r\nContent-Length: ${length}\r\n\r\n`,
  );
  socket.write(bytes);
  // Only once the server keeps bytes of it is the upload one that can be cut.
  while (readdirSync(join(server.folder, "uploads")).length === 0) await setTimeout(5);
  socket.end();
  await once(socket, "close");
  return answer;
}

/** Pushes all parts of an honest package; `tag` publishes it. */
async function pushed(server: Server, pack: Pack, publish = false): Promise<() => Promise<Response>> {
  const { pushes } = await import("../places.ts");
  const steps = pushes(server, pack);
  const tag = steps.pop()!;
  for (const send of steps) await send();
  if (publish) await tag();
  return tag;
}

async function token(server: Server, namespace: string, role: "reader" | "publisher"): Promise<string> {
  return (await server.registry.createToken({ namespace, role })).token;
}

async function elsewhere(server: Server): Promise<string> {
  const { policy } = (await server.registry.getNamespace("acme"))!;
  await server.registry.createNamespace({ name: "other", policy });
  return token(server, "other", "publisher");
}

const rows: Row[] = [
  [84, "an upload that is cut short", "KL_REGISTRY_UPLOAD_CUT", at((server) => raw(server, 1000))],
  [
    84,
    "an upload that is longer than it says",
    "KL_REGISTRY_DIGEST_MISMATCH",
    at((server) => upload(server, digestOf(bytes), Buffer.concat([bytes, bytes]))),
  ],
  [84, "a chunk whose range disagrees with its body", "KL_REGISTRY_LENGTH_MISMATCH", chunk("0-99")],
  [84, "a chunk that begins elsewhere", "KL_REGISTRY_UPLOAD_RANGE", chunk("5-14")],
  [
    85,
    "bytes under the digest of others",
    "KL_REGISTRY_DIGEST_MISMATCH",
    at((server) => upload(server, digestOf("others"))),
  ],
  [
    85,
    "a digest of another algorithm",
    "KL_REGISTRY_DIGEST_INVALID",
    at((server) => upload(server, `md5:${"0".repeat(32)}`)),
  ],
  [
    91,
    "a digest that climbs",
    "KL_REGISTRY_DIGEST_INVALID",
    at((server) => upload(server, "sha256:../../../etc/passwd")),
  ],
  [
    85,
    "a manifest under the digest of another",
    "KL_REGISTRY_DIGEST_MISMATCH",
    at((server) => putManifest(server, server.write, repository, digestOf("others"), bytes, mediaTypes.index)),
  ],
  [
    79,
    "a reader's token that writes",
    "KL_REGISTRY_TOKEN_SCOPE",
    at((server) => upload(server, digestOf(bytes), bytes, server.read)),
  ],
  [
    79,
    "a token of another namespace",
    "KL_REGISTRY_TOKEN_NAMESPACE",
    async (server) => {
      const other = await elsewhere(server);
      return () => upload(server, digestOf(bytes), bytes, other);
    },
  ],
  [79, "a token that was revoked", "KL_REGISTRY_TOKEN_UNKNOWN", revoked],
  [79, "a token that expired", "KL_REGISTRY_TOKEN_UNKNOWN", expired],
  [
    79,
    "a token with one character changed",
    "KL_REGISTRY_TOKEN_MALFORMED",
    at((server) =>
      upload(server, digestOf(bytes), bytes, `${server.write.slice(0, -1)}${server.write.endsWith("a") ? "b" : "a"}`),
    ),
  ],
  [
    79,
    "no token",
    "KL_REGISTRY_UNAUTHORIZED",
    at((server) =>
      fetch(`${server.origin}/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`, {
        method: "POST",
        body: new Uint8Array(bytes),
      }),
    ),
  ],
  [
    80,
    "a token in the address",
    "KL_REGISTRY_UNAUTHORIZED",
    at((server) =>
      fetch(`${server.origin}/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}&token=${server.write}`, {
        method: "POST",
        body: new Uint8Array(bytes),
      }),
    ),
  ],
  [81, "a version overwritten with other bytes", "KL_REGISTRY_VERSION_EXISTS", overwrite],
  [81, "a version deleted, to publish it anew", "KL_REGISTRY_IMMUTABLE", deleted],
  [83, "a tag before the variants' manifests are there", "KL_REGISTRY_MANIFEST_INCOMPLETE", early],
  [
    83,
    "a manifest before its blobs are there",
    "KL_REGISTRY_MANIFEST_INCOMPLETE",
    at((server) => {
      const [variant] = makePackage().variants;
      return putManifest(
        server,
        server.write,
        repository,
        digestOf(variant!.manifest),
        variant!.manifest,
        mediaTypes.manifest,
      );
    }),
  ],
  [
    78,
    "a repository in capitals",
    "KL_REGISTRY_NAME_INVALID",
    at((server) => upload(server, digestOf(bytes), bytes, server.write, "acme/Norm")),
  ],
  [
    78,
    "a repository with a Cyrillic letter",
    "KL_REGISTRY_NAME_INVALID",
    at((server) => upload(server, digestOf(bytes), bytes, server.write, `acme/n${encodeURIComponent("\u043e")}rm`)),
  ],
  [
    91,
    "a repository that climbs",
    "KL_REGISTRY_NAME_INVALID",
    at((server) => upload(server, digestOf(bytes), bytes, server.write, "acme/..%2f..%2fetc")),
  ],
  ["own", "a version that is only a tag", "KL_REGISTRY_VERSION_INVALID", tagged("latest")],
  ["own", "a version with build metadata", "KL_REGISTRY_VERSION_INVALID", tagged("1.0.0_1")],
  ["own", "an index under another media type than its own", "KL_REGISTRY_MANIFEST_INVALID", mislabelled],
  [
    "own",
    "another site's page that pushes with a browser's credentials",
    "KL_REGISTRY_CROSS_SITE",
    at((server) =>
      fetch(`${server.origin}/v2/${repository}/blobs/uploads/`, {
        method: "POST",
        headers: { ...bearer(server.write), "sec-fetch-site": "cross-site" },
      }),
    ),
  ],
  [
    "own",
    "a manifest of five megabytes",
    "KL_REGISTRY_MANIFEST_TOO_LARGE",
    at((server) =>
      putManifest(
        server,
        server.write,
        repository,
        digestOf(Buffer.alloc(5 << 20)),
        Buffer.alloc(5 << 20),
        mediaTypes.index,
      ),
    ),
  ],
  ["own", "a bundle about nothing that fits, attached with a config of its own", "KL_OCI_MEDIA_TYPE", strangeReferrer],
];

function chunk(range: string) {
  return async (server: Server): Promise<Blow> => {
    const begun = await fetch(`${server.origin}/v2/${repository}/blobs/uploads/`, {
      method: "POST",
      headers: bearer(server.write),
    });
    const url = `${server.origin}${begun.headers.get("location")}`;
    return () =>
      fetch(url, {
        method: "PATCH",
        headers: { ...bearer(server.write), "content-range": range },
        body: new Uint8Array(bytes),
      });
  };
}

async function revoked(server: Server): Promise<Blow> {
  const made = await server.registry.createToken({ namespace: "acme", role: "publisher" });
  await server.registry.revokeToken(made.id);
  return () => upload(server, digestOf(bytes), bytes, made.token);
}

async function expired(server: Server): Promise<Blow> {
  const made = await server.registry.createToken({
    namespace: "acme",
    role: "publisher",
    expiresAt: new Date("2026-11-24T00:00:00Z"),
  });
  return () => upload(server, digestOf(bytes), bytes, made.token);
}

async function overwrite(server: Server, keys: Keys): Promise<Blow> {
  await pushed(server, await makePack(keys), true);
  return pushed(
    server,
    await makePack(keys, { index: (i) => (i.annotations["org.opencontainers.image.description"] = "Other.") }),
  );
}

async function deleted(server: Server, keys: Keys): Promise<Blow> {
  await pushed(server, await makePack(keys), true);
  return () =>
    fetch(`${server.origin}/v2/${repository}/manifests/1.0.0`, { method: "DELETE", headers: bearer(server.write) });
}

async function early(server: Server, keys: Keys): Promise<Blow> {
  const pack = await makePack(keys);
  await putManifest(server, server.write, repository, digestOf(pack.index), pack.index, mediaTypes.index);
  return () => putManifest(server, server.write, repository, pack.version, pack.index, mediaTypes.index);
}

function tagged(tag: string) {
  return async (server: Server, keys: Keys): Promise<Blow> => {
    const pack = await makePack(keys);
    await pushed(server, pack);
    return () => putManifest(server, server.write, repository, tag, pack.index, mediaTypes.index);
  };
}

async function mislabelled(server: Server, keys: Keys): Promise<Blow> {
  const pack = await makePack(keys);
  await pushed(server, pack);
  return () => putManifest(server, server.write, repository, pack.version, pack.index, mediaTypes.manifest);
}

async function strangeReferrer(server: Server): Promise<Blow> {
  const body = Buffer.from("{}\n");
  for (const blob of [body, bytes]) await putBlob(server, server.write, repository, blob);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      artifactType: mediaTypes.bundle,
      config: { mediaType: "application/json", digest: digestOf(body), size: body.length },
      layers: [{ mediaType: mediaTypes.bundle, digest: digestOf(bytes), size: bytes.length }],
      subject: { mediaType: mediaTypes.index, digest: digestOf("x"), size: 1 },
    }),
  );
  return () => putManifest(server, server.write, repository, digestOf(manifest), manifest, mediaTypes.manifest);
}

export const uploadAttacks: readonly Attack[] = rows.map(([number, name, code, strike]) => ({
  number,
  name,
  area: "upload",
  refused: { publish: code },
  how: () => ({ strike }),
}));
