/** The places that refuse, for real: a registry server, a lock, a fetch, a verification, a load. Runs inside of vitest. */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Digest, digestOf, mediaTypes } from "@kernlock/kernels/format";
import { bundleManifest } from "@kernlock/kernels/oci";
import {
  assertVerified,
  createLock,
  fetchLocked,
  loadKernels,
  type Manifest,
  openCache,
  parseLock,
  verifyLocked,
} from "@kernlock/loader";
import { type Policy, parsePolicy, provenanceType, withDocuments } from "@kernlock/policies/trust";
import { onTestFinished } from "vitest";
import { machine, newFolder, TestRegistry } from "../../loader/test/kit.ts";
import { policyText, rule } from "../../policies/trust/test/material.ts";
import {
  putBlob,
  putManifest,
  type TestRegistry as RegistryServer,
  refusal,
  source,
  startRegistry,
} from "../../registry-server/test/material.ts";
import type { Attached, Keys, Twist } from "./attack.ts";
import { contents, makePack, now, type Pack, sizeAndDigest } from "./pack.ts";

export type Place = "publish" | "lock" | "fetch" | "verify" | "load";
export type Server = RegistryServer;

/** What an attempt came to. */
export interface Outcome {
  readonly code: string;
  /** What it left behind: digests before and after, in whatever may not change. */
  readonly before: readonly string[];
  readonly after: readonly string[];
}

export const honestPolicy = ({ publisher }: Keys): string =>
  policyText({ publisher }, rule({ source: source.repository }));

export async function policyOf(twist: Twist, pack: Pack, keys: Keys): Promise<Policy> {
  const policy = parsePolicy((twist.policy ?? honestPolicy)(keys));
  if (twist.documents === undefined) return policy;
  const { feeds = {}, exceptions = [], seen = {} } = await twist.documents(pack, keys);
  return withDocuments(policy, { feeds: new Map(Object.entries(feeds)), exceptions, seen });
}

/** The code of a refusal; what is no coded error is named as what it is. */
export function codeOfError(error: unknown): string {
  return (error as { code?: string }).code?.startsWith("KL_") ? (error as { code: string }).code : `untyped: ${error}`;
}

async function outcome(act: () => Promise<unknown>, state: () => readonly string[]): Promise<Outcome> {
  const before = state();
  let code = "no refusal";
  try {
    await act();
  } catch (error) {
    code = codeOfError(error);
  }
  return { code, before, after: state() };
}

/** Everything below a folder: files with their digest, links with their target, and what else there is by its kind. */
export function digestsBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      if (entry.isFile()) return `${path} ${digestOf(readFileSync(path))}`;
      if (entry.isSymbolicLink()) return `${path} -> ${readlinkSync(path)}`;
      return `${path} ${entry.isDirectory() ? "folder" : "special"}`;
    })
    .sort();
}

/** Memory files that this process has open or mapped. */
export function memoryFiles(): string[] {
  const open = readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.includes("memfd:") ? [`open ${target}`] : [];
    } catch {
      return [];
    }
  });
  const mapped = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.includes("memfd:"));
  return [...open, ...mapped.map((line) => `mapped ${line}`)].sort();
}

/** A cache that holds all of a package, written without asking anybody. */
export function cacheOf(
  pack: Pack,
  without?: Digest,
  folder = join(newFolder(), "cache"),
): { folder: string; pathOf: (digest: Digest) => string } {
  const pathOf = (digest: Digest) => join(folder, "blobs", "sha256", digest.slice(7));
  mkdirSync(dirname(pathOf(digestOf(""))), { recursive: true });
  mkdirSync(join(folder, "partial"), { recursive: true });
  for (const [digest, bytes] of contents(pack)) if (digest !== without) writeFileSync(pathOf(digest), bytes);
  return { folder, pathOf };
}

export function lockText(twist: Twist, pack: Pack, policy: Policy, origin = "http://127.0.0.1:1"): Uint8Array {
  const lock = { lockVersion: 1, registry: { origin }, policy: policy.digest, kernels: { [pack.name]: pack.lock } };
  const copy = structuredClone(lock);
  const result = twist.lock?.(copy, pack);
  return result instanceof Uint8Array ? result : Buffer.from(JSON.stringify(copy));
}

async function atVerifyOrLoad(place: "verify" | "load", twist: Twist, keys: Keys): Promise<Outcome> {
  const pack = await makePack(keys, twist);
  const { folder, pathOf } = cacheOf(pack);
  twist.spoil?.(pathOf, pack);
  const act = async () => {
    const policy = await policyOf(twist, pack, keys);
    const lock = parseLock(lockText(twist, pack, policy));
    const request = { lock, policy, cache: openCache(folder), now: twist.now ?? now, frozen: twist.frozen ?? false };
    if (place === "verify") return assertVerified(await verifyLocked(request));
    const onSealed = twist.onSealed && (() => twist.onSealed?.(pathOf, pack));
    const loaded = await loadKernels({
      ...request,
      machine: {
        ...machine,
        libc: { family: "glibc", version: "2.41" },
        ...(twist.image ? gpu : {}),
        ...twist.machine,
      },
      names: [pack.name],
      ...(onSealed ? { onSealed } : {}),
    });
    loaded.close();
  };
  return outcome(act, () => [...digestsBelow(folder), ...memoryFiles()]);
}

const gpu = { cuda: { architectures: ["sm_90a"], driver: "13.0" } };

/** A registry that serves whatever it has. */
async function liar(
  pack: Pack,
  twist: Twist,
): Promise<{ registry: TestRegistry; client: Awaited<ReturnType<TestRegistry["start"]>> }> {
  const registry = new TestRegistry();
  const client = await registry.start();
  onTestFinished(() => registry.stop());
  for (const [digest, bytes] of contents(pack)) registry.blobs.set(digest, bytes);
  registry.manifests.set(digestOf(pack.index), { bytes: pack.index, mediaType: mediaTypes.index });
  for (const { manifest } of pack.variants) {
    registry.manifests.set(digestOf(manifest), { bytes: manifest, mediaType: mediaTypes.manifest });
  }
  registry.tagged.set(pack.name, new Map([[pack.version, digestOf(pack.index)]]));
  for (const { subject, bundle } of pack.evidence) {
    const of = subjectOf(pack, subject);
    if (of !== undefined) await registry.attach(bundle, of);
  }
  if (twist.serve) registry.intercept = (...request) => twist.serve?.(pack, ...request) ?? false;
  return { registry, client };
}

function subjectOf(pack: Pack, subject: Digest) {
  if (subject === digestOf(pack.index)) return { mediaType: mediaTypes.index, ...sizeAndDigest(pack.index) };
  const variant = pack.variants.find(({ manifest }) => digestOf(manifest) === subject);
  return variant && { mediaType: mediaTypes.manifest, ...sizeAndDigest(variant.manifest) };
}

async function atLock(twist: Twist, keys: Keys): Promise<Outcome> {
  const pack = await makePack(keys, twist);
  const { client } = await liar(pack, twist);
  const folder = join(newFolder(), "cache");
  mkdirSync(folder);
  const manifest: Manifest = {
    version: 1,
    registry: client.origin,
    variants: pack.variants.map(({ key }) => key),
    kernels: { [pack.name]: "*" },
  };
  const act = async () => {
    const policy = await policyOf(twist, pack, keys);
    await createLock({ manifest, policy, registry: client, cache: openCache(folder), now: twist.now ?? now });
  };
  return outcome(act, () => [...digestsBelow(folder), ...memoryFiles()]);
}

/** Everything is in the cache but the payload of cpu-v3, which the registry serves as it likes. */
async function atFetch(twist: Twist, keys: Keys): Promise<Outcome> {
  const pack = await makePack(keys, twist);
  const wanted = pack.lock.variants[0].files.at(-1).digest as Digest;
  const { client } = await liar(pack, twist);
  const { folder, pathOf } = cacheOf(pack, wanted);
  twist.spoil?.(pathOf, pack);
  const policy = await policyOf(twist, pack, keys);
  const act = async () =>
    fetchLocked({
      lock: parseLock(lockText(twist, pack, policy, client.origin)),
      cache: openCache(folder),
      registry: client,
    });
  return outcome(act, () => [...digestsBelow(folder), ...memoryFiles()]);
}

/** What a registry server holds: its files, and every row of its database. */
export function registryState(folder: string): string[] {
  const files = digestsBelow(folder).filter((line) => !/registry\.sqlite/.test(line));
  const database = new DatabaseSync(join(folder, "registry.sqlite"), { readOnly: true });
  try {
    const tables = database.prepare("select name from sqlite_master where type = 'table' order by name").all();
    const rows = tables.map(({ name }) => {
      const hash = database.prepare(`select * from "${name}"`).all();
      return `${name}: ${hash.length} rows, ${digestOf(JSON.stringify(hash, (_, v) => (v instanceof Uint8Array ? Buffer.from(v).toString("hex") : v)))}`;
    });
    return [...files, ...rows];
  } finally {
    database.close();
  }
}

/** A server with the namespace acme under a policy. */
export async function serverFor(policy: string, twist: Pick<Twist, "now"> = {}): Promise<Server> {
  const server = await startRegistry({ now: () => twist.now ?? now });
  await server.registry.setPolicy({ namespace: "acme", policy });
  return server;
}

/** Pushes part by part as any client would, until one is refused; that one may not have left anything. */
async function atPublish(twist: Twist, keys: Keys): Promise<Outcome> {
  const pack = await makePack(keys, twist);
  const server = await serverFor((twist.policy ?? honestPolicy)(keys), twist);
  for (const send of pushes(server, pack)) {
    const before = registryState(server.folder);
    const answer = await send();
    if (answer.ok) continue;
    const [, , code] = await refusal(answer);
    return { code, before, after: registryState(server.folder) };
  }
  return { code: "no refusal", before: [], after: [] };
}

export function pushes(server: Server, pack: Pack, token = server.write): (() => Promise<Response>)[] {
  const manifest = (reference: string, bytes: Uint8Array, type: string) => () =>
    putManifest(server, token, pack.name, reference, bytes, type);
  const blobs = [...pack.blobs, Buffer.from("{}"), ...pack.evidence.map(({ bundle }) => bundle)];
  return [
    ...blobs.map((bytes) => () => putBlob(server, token, pack.name, bytes)),
    ...pack.variants.map(({ manifest: bytes }) => manifest(digestOf(bytes), bytes, mediaTypes.manifest)),
    manifest(digestOf(pack.index), pack.index, mediaTypes.index),
    ...pack.evidence.flatMap((item) => {
      const bytes = referrer(pack, item);
      return bytes === undefined ? [] : [manifest(digestOf(bytes), bytes, mediaTypes.manifest)];
    }),
    manifest(pack.version, pack.index, mediaTypes.index),
  ];
}

function referrer(pack: Pack, { subject, bundle }: Attached): Uint8Array | undefined {
  const of = subjectOf(pack, subject);
  return of && bundleManifest({ bundle, predicateType: provenanceType, subject: of });
}

export function attempt(place: Place, twist: Twist, keys: Keys): Promise<Outcome> {
  switch (place) {
    case "publish":
      return atPublish(twist, keys);
    case "lock":
      return atLock(twist, keys);
    case "fetch":
      return atFetch(twist, keys);
    case "verify":
    case "load":
      return atVerifyOrLoad(place, twist, keys);
  }
}
