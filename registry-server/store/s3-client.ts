/**
 * The handful of S3 calls that a blob store needs, signed with AWS Signature Version 4 (header and query form, as its
 * documentation "Authenticating Requests" describes them). Any S3-compatible server with path-style addresses will do.
 */
import { createHash, createHmac } from "node:crypto";
import type { Readable } from "node:stream";
import { Agent, type Dispatcher, request } from "undici";

export interface S3Options {
  /** e.g. `https://s3.example.org:9000` */
  readonly endpoint: string;
  /** What clients are sent to, where they reach the store by another address. */
  readonly publicEndpoint?: string;
  readonly region: string;
  readonly bucket: string;
  /** Put before every key, e.g. `kernlock/`. */
  readonly prefix?: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

export interface S3Call {
  readonly method: "GET" | "HEAD" | "PUT" | "DELETE";
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | Readable;
  /** sha256 of the body in hex; the server refuses other bytes. */
  readonly sha256?: string;
}

const emptyHash = createHash("sha256").digest("hex");

export function createS3Client(options: S3Options) {
  const agent = new Agent({ connections: 64, headersTimeout: 60_000, bodyTimeout: 120_000 });
  const pathOf = (key: string | undefined) =>
    `/${encode(options.bucket)}${key === undefined ? "" : `/${(options.prefix ?? "") + key}`.split("/").map(encode).join("/")}`;

  return {
    call(call: S3Call): Promise<Dispatcher.ResponseData> {
      const url = new URL(options.endpoint);
      const stamp = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "");
      const path = pathOf(call.key);
      const query = canonicalQuery(call.query ?? {});
      const hash = call.sha256 ?? emptyHash;
      const headers: Record<string, string> = {
        host: url.host,
        "x-amz-content-sha256": hash,
        "x-amz-date": stamp,
        ...call.headers,
      };
      const names = Object.keys(headers).sort();
      const canonical = [
        call.method,
        path,
        query,
        ...names.map((name) => `${name}:${headers[name]!.trim()}`),
        "",
        names.join(";"),
        hash,
      ].join("\n");
      const { signature, scope } = sign(options, stamp, canonical);
      const authorization = `AWS4-HMAC-SHA256 Credential=${options.accessKey}/${scope}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
      return request(`${url.origin}${path}${query === "" ? "" : `?${query}`}`, {
        method: call.method,
        headers: { ...headers, authorization },
        ...(call.body === undefined ? {} : { body: call.body }),
        dispatcher: agent,
      });
    },
    /** An address that anybody may GET for `seconds`. */
    presign(key: string, seconds: number): string {
      const url = new URL(options.publicEndpoint ?? options.endpoint);
      const stamp = new Date().toISOString().replaceAll(/[-:]|\.\d+/g, "");
      const path = pathOf(key);
      const query = canonicalQuery({
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": `${options.accessKey}/${scopeOf(options, stamp)}`,
        "X-Amz-Date": stamp,
        "X-Amz-Expires": String(seconds),
        "X-Amz-SignedHeaders": "host",
      });
      const canonical = ["GET", path, query, `host:${url.host}`, "", "host", "UNSIGNED-PAYLOAD"].join("\n");
      const { signature } = sign(options, stamp, canonical);
      return `${url.origin}${path}?${query}&X-Amz-Signature=${signature}`;
    },
    close: () => agent.close(),
  };
}

function scopeOf(options: S3Options, stamp: string): string {
  return `${stamp.slice(0, 8)}/${options.region}/s3/aws4_request`;
}

function sign(options: S3Options, stamp: string, canonical: string): { signature: string; scope: string } {
  const scope = scopeOf(options, stamp);
  const text = ["AWS4-HMAC-SHA256", stamp, scope, createHash("sha256").update(canonical).digest("hex")].join("\n");
  const hmac = (key: string | Buffer, data: string) => createHmac("sha256", key).update(data).digest();
  const key = scope.split("/").reduce<string | Buffer>((k, part) => hmac(k, part), `AWS4${options.secretKey}`);
  return { signature: hmac(key, text).toString("hex"), scope };
}

function canonicalQuery(query: Readonly<Record<string, string>>): string {
  return Object.entries(query)
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join("&");
}

/** RFC 3986: everything but letters, digits and `-._~`. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
