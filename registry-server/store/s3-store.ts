import { createReadStream } from "node:fs";
import { PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fail } from "@kernlock/kernels/format";
import type { Dispatcher } from "undici";
import type { BlobStore, StoreLimits } from "./blobs.ts";
import { type ContentDigest, isContentDigest } from "./digests.ts";
import { createS3Client, type S3Call, type S3Options } from "./s3-client.ts";
import { openSpool } from "./spool.ts";

/**
 * Blobs as objects `blobs/<algorithm>/<hex>` of an S3-compatible server. Uploads are spooled and hashed on the node's
 * disk, then put in one request whose sha256 the server checks.
 */
export function s3Store(options: S3Options, spoolFolder: string, limits: StoreLimits): BlobStore {
  const client = createS3Client(options);
  const spool = openSpool(spoolFolder, limits);
  const keyOf = (digest: ContentDigest, root = "blobs") => {
    if (!isContentDigest(digest)) fail("KL_REGISTRY_DIGEST_INVALID", "A blob's name is not a digest.");
    return `${root}/${digest.replace(":", "/")}`;
  };
  /** The answer, whose status is one of `allowed`. */
  const call = async (what: S3Call, ...allowed: number[]): Promise<Dispatcher.ResponseData> => {
    const answer = await client.call(what);
    if (allowed.includes(answer.statusCode)) return answer;
    const text = (await answer.body.text()).slice(0, 500);
    const full = /QuotaExceeded|InsufficientStorage|no space/i.test(text) || answer.statusCode === 507;
    return fail(
      full ? "KL_REGISTRY_STORAGE_FULL" : "KL_REGISTRY_INTERNAL",
      `The object store answered ${what.method} with status ${answer.statusCode}.`,
      {
        remedy: "Ask the registry's operator to look at the object store.",
        cause: new Error(text),
      },
    );
  };
  const done = async (what: S3Call, ...allowed: number[]) => {
    const answer = await call(what, ...allowed);
    await answer.body.dump();
    return answer;
  };

  return {
    kind: "s3",
    begin: () =>
      spool.begin(async ({ path, size, digest, sha256 }) => {
        await done(
          {
            method: "PUT",
            key: keyOf(digest),
            headers: { "content-length": String(size), "content-type": "application/octet-stream" },
            body: size === 0 ? Buffer.alloc(0) : createReadStream(path, { highWaterMark: 1 << 20 }),
            sha256,
          },
          200,
        );
      }),
    async size(digest) {
      const answer = await done({ method: "HEAD", key: keyOf(digest) }, 200, 404);
      return answer.statusCode === 404 ? undefined : Number(answer.headers["content-length"]);
    },
    read(digest, range) {
      const out = new PassThrough({ highWaterMark: 1 << 19 });
      const headers = range === undefined ? {} : { range: `bytes=${range.start}-${range.end}` };
      call({ method: "GET", key: keyOf(digest), headers }, 200, 206)
        .then((answer) => pipeline(answer.body as Readable, out))
        .catch((error: Error) => out.destroy(error));
      return out;
    },
    async readAll(digest) {
      const answer = await call({ method: "GET", key: keyOf(digest) }, 200);
      return Buffer.from(await answer.body.arrayBuffer());
    },
    async remove(digest) {
      await done({ method: "DELETE", key: keyOf(digest) }, 200, 204, 404);
    },
    async setAside(digest) {
      const source = `/${options.bucket}/${options.prefix ?? ""}${keyOf(digest)}`;
      await done({ method: "PUT", key: keyOf(digest, "damaged"), headers: { "x-amz-copy-source": source } }, 200);
      await done({ method: "DELETE", key: keyOf(digest) }, 200, 204);
    },
    async *list() {
      for (let after: string | undefined; ; ) {
        const answer = await call(
          {
            method: "GET",
            query: {
              "list-type": "2",
              prefix: `${options.prefix ?? ""}blobs/`,
              ...(after === undefined ? {} : { "continuation-token": after }),
            },
          },
          200,
        );
        const page = await answer.body.text();
        for (const [, entry = ""] of page.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
          const digest = element(entry, "Key")?.split("/").slice(-2).join(":");
          if (isContentDigest(digest)) yield { digest, size: Number(element(entry, "Size")) };
        }
        after = element(page, "NextContinuationToken");
        if (after === undefined) return;
      }
    },
    presign: async (digest, seconds) => client.presign(keyOf(digest), seconds),
    async check() {
      await spool.check();
      const query = { "list-type": "2", "max-keys": "1", prefix: `${options.prefix ?? ""}blobs/` };
      await done({ method: "GET", query }, 200);
    },
    close: () => client.close(),
  };
}

/** Text of an element that holds no others. */
function element(xml: string, name: string): string | undefined {
  const text = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return text?.replaceAll("&amp;", "&").replaceAll("&#34;", '"').replaceAll("&quot;", '"');
}
