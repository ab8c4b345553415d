import { createHash, type Hash } from "node:crypto";
import { z } from "zod";
import {
  checkShape,
  type Digest,
  digestOf,
  fail,
  fields,
  isDigest,
  mediaTypes,
  parseDigest,
  parsePackageName,
  parseStrictJson,
  shown,
} from "../format/index.ts";
import { type Descriptor, maxManifestBytes } from "./documents.ts";
import { type Answer, cutShort, HttpClient, type HttpClientOptions, header, readAll, refuse } from "./http.ts";

export interface RegistryClientOptions extends HttpClientOptions {
  /** The registry's own name for a repository; default the same name, which must be a package's. */
  readonly repository?: (name: string) => string;
  /** Media types of manifests that are taken; default those of OCI. */
  readonly manifestTypes?: readonly string[];
  /** Longest wait for a whole manifest or list; default none beyond `timeoutMs`. */
  readonly documentMs?: number;
}

export interface FetchedManifest {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  readonly mediaType: string;
}

export interface BlobStreamOptions {
  /** Size the blob must have; more or fewer bytes are refused. */
  readonly size?: number;
  /** Start here, to go on with a download that was cut short. */
  readonly offset?: number;
  /** A SHA-256 that has taken the first `offset` bytes. Without it, a stream with an offset is not checked by digest: check the whole file. */
  readonly hash?: Hash;
  readonly signal?: AbortSignal;
}

const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const maxPages = 100;
/** Cut connections in a row, with nothing received between, after which a download gives up. */
const maxCuts = 3;

/** A client of one OCI registry (distribution 1.1). Everything it returns has been checked against its digest. Throws `KL_OCI_*`. */
export class RegistryClient {
  readonly origin: string;
  readonly #http: HttpClient;
  readonly #repository: (name: string) => string;
  readonly #manifestTypes: readonly string[];
  readonly #documentMs: number | undefined;

  constructor(options: RegistryClientOptions) {
    this.#http = new HttpClient(options);
    this.origin = this.#http.origin;
    this.#repository = options.repository ?? ((name) => parsePackageName(name).name);
    this.#manifestTypes = options.manifestTypes ?? [mediaTypes.index, mediaTypes.manifest];
    this.#documentMs = options.documentMs;
  }

  /** By tag or digest. A registry that serves other bytes under a digest is refused with `KL_OCI_DIGEST_MISMATCH`. */
  async getManifest(repo: string, reference: string): Promise<FetchedManifest> {
    return (await this.#manifest(repo, reference, undefined)) as FetchedManifest;
  }

  /** What the tag names now, or undefined where it is still `known`. */
  newerManifest(repo: string, tag: string, known: string): Promise<FetchedManifest | undefined> {
    return this.#manifest(repo, tag, known);
  }

  async #manifest(repo: string, reference: string, known: string | undefined): Promise<FetchedManifest | undefined> {
    const what = `manifest ${reference} of ${repo}`;
    const signal = this.#deadline();
    const answer = await this.#http.send("GET", this.#manifestPath(repo, reference), {
      headers: {
        accept: this.#manifestTypes.join(", "),
        ...(known === undefined ? {} : { "if-none-match": `"${known}"` }),
      },
      signal,
    });
    if (answer.status === 304 && known !== undefined) {
      await answer.body.dump();
      return undefined;
    }
    if (answer.status !== 200) return refuse(answer, what);
    const mediaType = header(answer, "content-type")?.split(";", 1)[0]?.trim() ?? "";
    const bytes = await readAll(answer, maxManifestBytes, what);
    if (!this.#manifestTypes.includes(mediaType)) {
      fail("KL_OCI_MEDIA_TYPE", `The registry served ${what} as ${shown(mediaType)}.`);
    }
    const digest = digestOf(bytes);
    const promised = [isDigest(reference) ? reference : undefined, header(answer, "docker-content-digest")];
    for (const wanted of promised) if (wanted !== undefined && wanted !== digest) mismatch(what, wanted, digest);
    return digest === known ? undefined : { bytes, digest, mediaType };
  }

  /** The blob's bytes; throws at its end where digest or size is another. Goes on by Range after a cut connection. */
  async *blobStream(repo: string, digest: Digest, options: BlobStreamOptions = {}): AsyncGenerator<Uint8Array, void> {
    const { size, signal } = options;
    const what = `blob ${digest} of ${repo}`;
    const path = this.#blobPath(repo, digest);
    let at = options.offset ?? 0;
    const hash = options.hash ?? (at === 0 ? createHash("sha256") : undefined);
    for (let cuts = 0; size === undefined || at < size || size === 0; ) {
      const answer = await this.#http.send("GET", path, {
        headers: at > 0 ? { range: `bytes=${at}-` } : {},
        signal,
      });
      let skip = await startOf(answer, at, what);
      checkPromisedSize(answer, size, at - skip, what);
      const before = at;
      try {
        for await (const chunk of answer.body) {
          const fresh = skip > 0 ? chunk.subarray(Math.min(skip, chunk.length)) : chunk;
          skip -= chunk.length - fresh.length;
          if (fresh.length === 0) continue;
          at += fresh.length;
          if (size !== undefined && at > size)
            fail("KL_OCI_SIZE", `The registry served more than ${size} bytes for ${what}.`);
          hash?.update(fresh);
          yield fresh;
        }
        break;
      } catch (error) {
        cuts = at > before ? 1 : cuts + 1;
        if (!cutShort(error) || signal?.aborted === true || cuts > maxCuts)
          throw this.#http.explain(error, what, signal);
      }
    }
    if (size !== undefined && at < size) fail("KL_OCI_SIZE", `The registry served ${at} of ${size} bytes for ${what}.`);
    if (hash !== undefined) {
      const is: Digest = `sha256:${hash.copy().digest("hex")}`;
      if (is !== digest) mismatch(what, digest, is);
    }
  }

  /** A whole blob in memory, at most `maxBytes` (default 16 MiB). */
  async getBlob(repo: string, digest: Digest, options: { size?: number; maxBytes?: number } = {}): Promise<Uint8Array> {
    const { size, maxBytes = 16 << 20 } = options;
    const chunks: Uint8Array[] = [];
    let total = 0;
    for await (const chunk of this.blobStream(repo, digest, size === undefined ? {} : { size })) {
      total += chunk.length;
      if (total > maxBytes) fail("KL_OCI_TOO_LARGE", `Blob ${digest} of ${repo} is larger than ${maxBytes} bytes.`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  async hasBlob(repo: string, digest: Digest): Promise<boolean> {
    const answer = await this.#http.send("HEAD", this.#blobPath(repo, digest));
    await answer.body.dump();
    if (answer.status === 200) return true;
    return answer.status === 404 ? false : refuse(answer, `blob ${digest} of ${repo}`);
  }

  /** Uploads unless the registry has it. A stream needs its size. */
  async putBlob(
    repo: string,
    digest: Digest,
    data: Uint8Array | { stream: AsyncIterable<Uint8Array>; size: number },
  ): Promise<void> {
    const what = `the upload of blob ${digest} to ${repo}`;
    if (data instanceof Uint8Array && digestOf(data) !== digest) {
      fail("KL_OCI_DIGEST_MISMATCH", `The bytes given for ${what} have another digest.`);
    }
    if (await this.hasBlob(repo, digest)) return;
    const start = await this.#http.send("POST", `${this.#repositoryPath(repo)}/blobs/uploads/`, {
      headers: { "content-length": "0" },
    });
    const location = header(start, "location");
    if (start.status !== 202 || location === undefined) return refuse(start, what);
    await start.body.dump();
    if (!URL.canParse(location, start.url.href))
      fail("KL_OCI_PROTOCOL", `The registry gave no usable address for ${what}.`);
    const target = new URL(location, start.url);
    target.searchParams.set("digest", digest);
    const size = data instanceof Uint8Array ? data.byteLength : data.size;
    const answer = await this.#http.send("PUT", target, {
      headers: { "content-type": "application/octet-stream", "content-length": String(size) },
      body: data instanceof Uint8Array ? data : data.stream,
    });
    if (answer.status !== 201) return refuse(answer, what);
    await answer.body.dump();
  }

  /** `reference` is a tag or the digest of `bytes`. */
  async putManifest(
    repo: string,
    reference: string,
    bytes: Uint8Array,
    mediaType: string,
    /** Hears the state that a Kernlock registry gives a version which is not published yet: `staged`. */
    onState: (state: string) => void = () => {},
  ): Promise<Digest> {
    const what = `manifest ${reference} of ${repo}`;
    const digest = digestOf(bytes);
    if (isDigest(reference) && reference !== digest) mismatch(what, reference, digest);
    const answer = await this.#http.send("PUT", this.#manifestPath(repo, reference), {
      headers: { "content-type": mediaType, "content-length": String(bytes.byteLength) },
      body: bytes,
    });
    if (answer.status !== 201) return refuse(answer, what);
    await answer.body.dump();
    const stored = header(answer, "docker-content-digest");
    if (stored !== undefined && stored !== digest) mismatch(what, digest, stored);
    const state = header(answer, "kernlock-state");
    if (state !== undefined) onState(state);
    return digest;
  }

  /** Throws `KL_OCI_TOO_LARGE` where there are more than `most`. */
  async tags(repo: string, most = Number.POSITIVE_INFINITY): Promise<string[]> {
    const shape = z.object({ tags: z.array(z.string().regex(tagPattern)).nullable() });
    const pages = this.#pages(`${this.#repositoryPath(repo)}/tags/list`, `the tags of ${repo}`);
    const tags: string[] = [];
    for await (const page of pages) {
      tags.push(...(checkShape(shape, page.json, "KL_OCI_PROTOCOL", "The registry's list of tags").tags ?? []));
      if (tags.length > most) fail("KL_OCI_TOO_LARGE", `${repo} has more than ${most} tags.`);
    }
    return tags;
  }

  /** Descriptors of the manifests whose subject is `digest`. They are the registry's word: check each manifest that is fetched. Throws `KL_OCI_TOO_LARGE` where there are more than `most`. */
  async referrers(
    repo: string,
    digest: Digest,
    artifactType?: string,
    most = Number.POSITIVE_INFINITY,
  ): Promise<Descriptor[]> {
    const entry = z.object({
      mediaType: z.string().max(255),
      digest: fields.digest,
      size: fields.size,
      artifactType: z.string().max(255).optional(),
      annotations: z.record(z.string(), z.string()).optional(),
    });
    const shape = z.object({ mediaType: z.literal(mediaTypes.index), manifests: z.array(entry) });
    const query = artifactType === undefined ? "" : `?artifactType=${encodeURIComponent(artifactType)}`;
    const path = `${this.#repositoryPath(repo)}/referrers/${parseDigest(digest)}${query}`;
    const found: Descriptor[] = [];
    for await (const page of this.#pages(path, `the referrers of ${digest} in ${repo}`)) {
      found.push(...checkShape(shape, page.json, "KL_OCI_PROTOCOL", "The registry's list of referrers").manifests);
      if (found.length > most) fail("KL_OCI_TOO_LARGE", `More than ${most} manifests speak about ${digest}.`);
    }
    // The registry may or may not have filtered.
    return artifactType === undefined ? found : found.filter((d) => d.artifactType === artifactType);
  }

  /** Ends all connections. */
  close(): Promise<void> {
    return this.#http.close();
  }

  #deadline(): AbortSignal | undefined {
    return this.#documentMs === undefined ? undefined : AbortSignal.timeout(this.#documentMs);
  }

  #repositoryPath(repo: string): string {
    return `/v2/${this.#repository(repo)}`;
  }

  #blobPath(repo: string, digest: Digest): string {
    return `${this.#repositoryPath(repo)}/blobs/${parseDigest(digest)}`;
  }

  #manifestPath(repo: string, reference: string): string {
    if (!isDigest(reference) && !tagPattern.test(reference))
      fail("KL_OCI_NOT_FOUND", `${shown(reference)} is neither a tag nor a digest.`);
    return `${this.#repositoryPath(repo)}/manifests/${reference}`;
  }

  /** A JSON list that the registry may serve in pages, linked by `Link: <…>; rel="next"`. */
  async *#pages(path: string, what: string): AsyncGenerator<{ json: unknown }> {
    let next: string | URL | undefined = path;
    for (let page = 0; next !== undefined; page++) {
      if (page === maxPages) fail("KL_OCI_TOO_LARGE", `The registry serves ${what} in more than ${maxPages} pages.`);
      const answer: Answer = await this.#http.send("GET", next, { signal: this.#deadline() });
      if (answer.status !== 200) return refuse(answer, what);
      const bytes = await readAll(answer, maxManifestBytes, what);
      yield { json: parseStrictJson(bytes, { what: "The registry's answer" }) };
      const link: string | undefined = /^\s*<([^<>]{1,2000})>\s*;\s*rel="?next"?/.exec(
        header(answer, "link") ?? "",
      )?.[1];
      if (link !== undefined && !URL.canParse(link, answer.url.href))
        fail("KL_OCI_PROTOCOL", `The registry gave a broken link for ${what}.`);
      next = link === undefined ? undefined : new URL(link, answer.url);
      if (next !== undefined && next.origin !== this.origin)
        fail("KL_OCI_PROTOCOL", `The registry links ${what} to another host.`);
    }
  }
}

/** Bytes at the head of the answer that the caller already has: all of them where the registry does not know ranges. */
async function startOf(answer: Answer, at: number, what: string): Promise<number> {
  if (answer.status === 200) return at;
  if (answer.status !== 206 || at === 0) return refuse(answer, what);
  const range = header(answer, "content-range") ?? "";
  if (!range.startsWith(`bytes ${at}-`))
    fail("KL_OCI_PROTOCOL", `The registry served another range than asked for of ${what}.`);
  return 0;
}

function checkPromisedSize(answer: Answer, size: number | undefined, start: number, what: string): void {
  const length = header(answer, "content-length");
  if (size === undefined || length === undefined) return;
  if (Number(length) + start !== size) {
    fail("KL_OCI_SIZE", `The registry announces ${Number(length) + start} bytes for ${what}, which has ${size}.`);
  }
}

function mismatch(what: string, wanted: string, is: string): never {
  return fail("KL_OCI_DIGEST_MISMATCH", `The registry's bytes for ${what} do not have the promised digest.`, {
    remedy: "Do not use them; tell whoever runs the registry.",
    details: { wanted: wanted.slice(0, 128), is: is.slice(0, 128) },
  });
}
