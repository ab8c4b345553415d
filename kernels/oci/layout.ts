import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { access, lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import {
  canonicalJson,
  checkShape,
  type Digest,
  digestHex,
  digestOf,
  fail,
  fields,
  isDigest,
  annotations as keys,
  mediaTypes,
  parseStrictJson,
  shown,
} from "../format/index.ts";
import { type Descriptor, maxManifestBytes } from "./documents.ts";

const entry = z.object({
  mediaType: z.string().max(255),
  digest: fields.digest,
  size: fields.size,
  artifactType: z.string().max(255).optional(),
  platform: z.object({ os: z.string(), architecture: z.string() }).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});
const indexShape = z.object({ schemaVersion: z.literal(2), manifests: z.array(entry).max(10_000) });
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9._/:@-]{0,254}$/;

/** An OCI image layout in a folder. Writes are atomic (temporary file, fsync, rename); reads are checked. Throws `KL_OCI_*`. */
export class OciLayout {
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Makes the layout, or opens the one that is there. */
  static async create(folder: string): Promise<OciLayout> {
    await mkdir(join(folder, "blobs", "sha256"), { recursive: true });
    const names = await readdir(folder);
    if (!names.includes("oci-layout")) await writeAtomic(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    const layout = new OciLayout(folder);
    if (!names.includes("index.json")) await layout.#writeIndex([]);
    return OciLayout.open(folder);
  }

  static async open(folder: string): Promise<OciLayout> {
    const marker = parseStrictJson(await read(join(folder, "oci-layout"), 1024), { what: "oci-layout" });
    checkShape(z.object({ imageLayoutVersion: z.literal("1.0.0") }), marker, "KL_OCI_LAYOUT", "oci-layout");
    const layout = new OciLayout(folder);
    await layout.entries();
    return layout;
  }

  blobPath(digest: Digest): string {
    if (!isDigest(digest)) fail("KL_FORMAT_DIGEST", "A digest is malformed.");
    return join(this.folder, "blobs", "sha256", digestHex(digest));
  }

  async hasBlob(digest: Digest): Promise<boolean> {
    return access(this.blobPath(digest)).then(
      () => true,
      () => false,
    );
  }

  async putBlob(bytes: Uint8Array): Promise<Digest> {
    const digest = digestOf(bytes);
    // A blob that is there but damaged is written anew.
    const there = await this.getBlob(digest, { maxBytes: bytes.byteLength }).catch(() => undefined);
    if (there === undefined) await writeAtomic(this.blobPath(digest), bytes);
    return digest;
  }

  /** Whole and checked against its digest; at most `maxBytes` (default 1 GiB). */
  async getBlob(digest: Digest, options: { maxBytes?: number } = {}): Promise<Uint8Array> {
    const bytes = await read(this.blobPath(digest), options.maxBytes ?? 1 << 30, digest);
    if (digestOf(bytes) !== digest) {
      fail("KL_OCI_DIGEST_MISMATCH", `The layout's blob ${digest} holds other bytes.`, { details: { digest } });
    }
    return bytes;
  }

  /** Stores a manifest or index and enters it in index.json, under a tag where one is given; a tag moves to its newest owner. */
  async putManifest(bytes: Uint8Array, options: { mediaType: string; tag?: string }): Promise<Descriptor> {
    const { tag, mediaType } = options;
    if (tag !== undefined && !tagPattern.test(tag)) fail("KL_OCI_LAYOUT", `${shown(tag)} is not a tag.`);
    const digest = await this.putBlob(bytes);
    const descriptor: Descriptor = {
      mediaType,
      digest,
      size: bytes.byteLength,
      ...(tag === undefined ? {} : { annotations: { [keys.refName]: tag } }),
    };
    const entries = await this.entries();
    if (tag === undefined && entries.some((e) => e.digest === digest)) return descriptor;
    const others = entries.filter((e) => (tagOf(e) === undefined ? e.digest !== digest : tagOf(e) !== tag));
    await this.#writeIndex([...others, descriptor]);
    return descriptor;
  }

  /** Entries of index.json; a tag is the annotation `org.opencontainers.image.ref.name`. */
  async entries(): Promise<Descriptor[]> {
    const bytes = await read(join(this.folder, "index.json"), maxManifestBytes);
    const json = parseStrictJson(bytes, { what: "index.json" });
    return checkShape(indexShape, json, "KL_OCI_LAYOUT", "index.json").manifests;
  }

  async tags(): Promise<string[]> {
    return (await this.entries()).flatMap((e) => tagOf(e) ?? []).sort();
  }

  async resolve(tag: string): Promise<Descriptor> {
    const found = (await this.entries()).find((e) => tagOf(e) === tag);
    return found ?? fail("KL_OCI_NOT_FOUND", `The layout has no tag ${shown(tag)}.`);
  }

  /** Manifests of index.json whose subject is `digest`. */
  async referrers(digest: Digest, artifactType?: string): Promise<Descriptor[]> {
    const found: Descriptor[] = [];
    for (const e of await this.entries()) {
      if (e.mediaType !== mediaTypes.manifest) continue;
      const manifest = parseStrictJson(await this.getBlob(e.digest, { maxBytes: maxManifestBytes }), {
        what: "A manifest",
      });
      const shape = z.object({
        artifactType: z.string().optional(),
        subject: z.object({ digest: fields.digest }).optional(),
        annotations: z.record(z.string(), z.string()).optional(),
      });
      const facts = checkShape(shape, manifest, "KL_OCI_LAYOUT", "A manifest");
      if (facts.subject?.digest !== digest) continue;
      if (artifactType !== undefined && facts.artifactType !== artifactType) continue;
      found.push({
        mediaType: e.mediaType,
        digest: e.digest,
        size: e.size,
        artifactType: facts.artifactType,
        annotations: facts.annotations,
      });
    }
    return found;
  }

  async #writeIndex(entries: readonly Descriptor[]): Promise<void> {
    const sorted = entries.toSorted((a, b) => order(a).localeCompare(order(b), "en"));
    await writeAtomic(
      join(this.folder, "index.json"),
      canonicalJson({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: sorted }),
    );
  }
}

function tagOf(descriptor: Descriptor): string | undefined {
  return descriptor.annotations?.[keys.refName];
}

function order(descriptor: Descriptor): string {
  return `${tagOf(descriptor) ?? "~"} ${descriptor.digest}`;
}

/** A plain file's bytes; a link, a folder or a file larger than `maxBytes` is refused. */
async function read(path: string, maxBytes: number, digest?: Digest): Promise<Uint8Array> {
  const what = digest === undefined ? path.slice(dirname(path).length + 1) : `blob ${digest}`;
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((cause) => {
    if (cause.code === "ENOENT") {
      return fail(digest === undefined ? "KL_OCI_LAYOUT" : "KL_OCI_BLOB_MISSING", `The layout has no ${what}.`, {
        cause,
      });
    }
    return fail("KL_OCI_LAYOUT", `The layout's ${what} cannot be opened as a plain file.`, { cause });
  });
  try {
    const facts = await file.stat();
    if (!facts.isFile()) fail("KL_OCI_LAYOUT", `The layout's ${what} is not a plain file.`);
    if (facts.size > maxBytes) fail("KL_OCI_TOO_LARGE", `The layout's ${what} is larger than ${maxBytes} bytes.`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

async function writeAtomic(path: string, data: Uint8Array | string): Promise<void> {
  const folder = dirname(path);
  if ((await lstat(folder)).isSymbolicLink()) fail("KL_OCI_LAYOUT", "A folder of the layout is a link.");
  const temporary = join(folder, `.tmp-${randomBytes(8).toString("hex")}`);
  try {
    const file = await open(temporary, "wx", 0o644);
    try {
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cause;
  }
  const parent = await open(folder, "r");
  await parent.sync().finally(() => parent.close());
}
