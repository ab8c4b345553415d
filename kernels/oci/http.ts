import type { LookupFunction } from "node:net";
import { Readable } from "node:stream";
import type { Agent, Dispatcher } from "undici";
import {
  type ErrorCode,
  type ErrorOptions,
  errorCodes,
  fail,
  KernlockError,
  parseStrictJson,
} from "../format/index.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Dispatcher.ResponseData["body"];
  /** Where the answer came from, after redirects. */
  readonly url: URL;
}

export interface SendOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpClientOptions {
  /** `https://host[:port]` or `http://host[:port]`, nothing after it. */
  readonly origin: string;
  /** Bearer token; sent to this origin only, never shown in an error. */
  readonly token?: string | undefined;
  /** In place of `token`, where the registry says first what it wants. */
  readonly credentials?: Credentials | undefined;
  /** PEM of certificate authorities to trust instead of the system's. */
  readonly ca?: string | undefined;
  /** Longest wait for an answer, and for the next bytes of a body. Default 30 s. */
  readonly timeoutMs?: number;
  /** Hears of every redirect before it is followed; throws to refuse it. */
  readonly onRedirect?: ((to: URL) => void) | undefined;
  /** Finds addresses in place of the system's resolver; an error refuses to connect. */
  readonly lookup?: LookupFunction | undefined;
  /** Further headers, asked for at every request. */
  readonly headers?: (() => Readonly<Record<string, string>>) | undefined;
}

/** How a client answers a registry that wants to know who asks. */
export interface Credentials {
  /** The Authorization header for a request, as far as it is known. */
  authorization(url: URL): string | undefined;
  /** After a 401: whether there is something else to send now. */
  answer(challenge: string, url: URL): Promise<boolean>;
}

const maxRedirects = 5;
const redirects = new Set([301, 302, 303, 307, 308]);
const timeouts = new Set(["UND_ERR_CONNECT_TIMEOUT", "UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT", "ETIMEDOUT"]);
const cuts = new Set([
  "UND_ERR_SOCKET",
  "UND_ERR_BODY_TIMEOUT",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
  "ECONNRESET",
  "EPIPE",
]);

/** Requests to one origin, with a token that goes nowhere else. */
export class HttpClient {
  readonly origin: string;
  readonly #authorization: string | undefined;
  readonly #options: HttpClientOptions;
  /** Made with the first request: most commands make none, and the HTTP client is a fifth of their start. */
  #agent: Promise<Agent> | undefined;
  readonly #timeout: number;

  constructor(options: HttpClientOptions) {
    const url = parseOrigin(options.origin);
    if (options.token !== undefined && !/^[A-Za-z0-9._~+/=-]{1,4096}$/.test(options.token)) {
      fail("KL_OCI_AUTH", "The registry token holds characters that no token has.");
    }
    if (options.token !== undefined && url.protocol === "http:" && !isLoopback(url.hostname)) {
      fail("KL_OCI_ORIGIN", `A token would travel to ${url.origin} in clear text.`, {
        remedy: "Use an https address.",
      });
    }
    this.origin = url.origin;
    this.#authorization = options.token === undefined ? undefined : `Bearer ${options.token}`;
    this.#options = options;
    this.#timeout = options.timeoutMs ?? 30_000;
  }

  async #connect(): Promise<Agent> {
    const { Agent } = await import("undici");
    const { ca, lookup } = this.#options;
    return new Agent({
      connections: 16,
      connect: {
        timeout: this.#timeout,
        ...(ca === undefined ? {} : { ca }),
        ...(lookup === undefined ? {} : { lookup }),
      },
      headersTimeout: this.#timeout,
      bodyTimeout: this.#timeout,
    });
  }

  /** Follows redirects of reads. Any status comes back as an answer; transport errors throw `KL_OCI_CONNECT` or `KL_OCI_TIMEOUT`. */
  async send(
    method: "GET" | "HEAD" | "POST" | "PUT",
    target: string | URL,
    options: SendOptions = {},
  ): Promise<Answer> {
    let url = new URL(target, this.origin);
    let challenged = false;
    for (let hop = 0; ; hop++) {
      const answer = await this.#once(method, url, options);
      if (answer.status === 401 && !challenged && (await this.#answered(answer))) {
        challenged = true;
        continue;
      }
      const location = header(answer, "location");
      if (!redirects.has(answer.status) || location === undefined) return answer;
      await answer.body.dump();
      if (method !== "GET" && method !== "HEAD") {
        fail("KL_OCI_PROTOCOL", "The registry redirects an upload, which is not followed.");
      }
      if (hop === maxRedirects) fail("KL_OCI_PROTOCOL", `The registry redirects more than ${maxRedirects} times.`);
      if (!URL.canParse(location, url.href)) fail("KL_OCI_PROTOCOL", "The registry redirects to a broken address.");
      const next = new URL(location, url);
      if (!/^https?:$/.test(next.protocol) || (url.protocol === "https:" && next.protocol === "http:")) {
        fail("KL_OCI_PROTOCOL", "The registry redirects from https to an address that is not.");
      }
      this.#options.onRedirect?.(next);
      url = next;
    }
  }

  async #answered(answer: Answer): Promise<boolean> {
    const challenge = header(answer, "www-authenticate");
    if (this.#options.credentials === undefined || challenge === undefined || answer.url.origin !== this.origin) {
      return false;
    }
    await answer.body.dump();
    return this.#options.credentials.answer(challenge, answer.url);
  }

  async #once(method: "GET" | "HEAD" | "POST" | "PUT", url: URL, options: SendOptions): Promise<Answer> {
    // Storage elsewhere (a redirect, an upload address of another host) never sees the token.
    const own = url.origin === this.origin;
    const authorization = own ? (this.#options.credentials?.authorization(url) ?? this.#authorization) : undefined;
    try {
      this.#agent ??= this.#connect();
      const { request } = await import("undici");
      const answer = await request(url, {
        method,
        dispatcher: await this.#agent,
        headers: {
          "user-agent": "kernlock",
          "accept-encoding": "identity",
          ...this.#options.headers?.(),
          ...options.headers,
          ...(authorization === undefined ? {} : { authorization }),
        },
        body: bodyOf(options.body),
        signal: options.signal ?? null,
      });
      const encoding = answer.headers["content-encoding"];
      if (encoding !== undefined && encoding !== "identity") {
        await answer.body.dump();
        fail("KL_OCI_PROTOCOL", "The registry compressed an answer although it was asked not to.");
      }
      return { status: answer.statusCode, headers: answer.headers, body: answer.body, url };
    } catch (error) {
      throw this.explain(error, `${method} ${url.origin}${url.pathname.slice(0, 200)}`, options.signal);
    }
  }

  /** A transport error as a coded one. */
  explain(error: unknown, what: string, signal?: AbortSignal): KernlockError {
    if (error instanceof KernlockError) return error;
    const code = codeOf(error);
    const coded = (
      kind: "KL_OCI_ABORTED" | "KL_OCI_TIMEOUT" | "KL_OCI_CONNECT",
      text: string,
      more: ErrorOptions = {},
    ) => new KernlockError(kind, text, { cause: error, ...more });
    if (signal?.aborted === true && (signal.reason as Error | undefined)?.name === "TimeoutError") {
      return coded("KL_OCI_TIMEOUT", `The registry took too long (${what}).`);
    }
    if (signal?.aborted === true) return coded("KL_OCI_ABORTED", `Stopped before ${what} was done.`);
    if (timeouts.has(code)) {
      return coded("KL_OCI_TIMEOUT", `The registry took longer than ${this.#timeout} ms (${what}).`);
    }
    const remedy = /CERT|SELF_SIGNED|UNABLE_TO|TLS/.test(code)
      ? "Give the PEM file of the registry's certificate authority with --ca."
      : "Check the registry's address and that it runs.";
    return coded("KL_OCI_CONNECT", `The connection to the registry failed (${what}): ${code || "unknown reason"}.`, {
      remedy,
    });
  }

  async close(): Promise<void> {
    await (await this.#agent)?.destroy();
  }
}

export function header(answer: Answer, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function bodyOf(body: SendOptions["body"]): Uint8Array | Readable | null {
  return body === undefined || body instanceof Uint8Array ? (body ?? null) : Readable.from(body, { objectMode: false });
}

/** True for errors after which the rest of a body can be asked for again. */
export function cutShort(error: unknown): boolean {
  return cuts.has(codeOf(error));
}

/** A body in memory. Throws `KL_OCI_TOO_LARGE`. */
export async function readAll(answer: Answer, maxBytes: number, what: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let total = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      total += chunk.length;
      if (total > maxBytes)
        fail("KL_OCI_TOO_LARGE", `The registry's answer for ${what} is larger than ${maxBytes} bytes.`);
      chunks.push(chunk);
    }
  } catch (cause) {
    if (cause instanceof KernlockError) throw cause;
    fail("KL_OCI_CONNECT", `The connection broke while the registry served ${what}.`, { cause });
  }
  return Buffer.concat(chunks);
}

/**
 * Turns an answer that is no success into an error, with what the registry says about it. A Kernlock registry sends the
 * code of its own refusal (`errors[0].detail.code`); where that is one we know, it is the code of the error.
 */
export async function refuse(answer: Answer, what: string): Promise<never> {
  const said = await refusalOf(answer);
  const words = said === undefined ? "" : `: ${said.message.slice(0, 300)} (${said.kernlock ?? said.code})`;
  const wait = Number(header(answer, "retry-after"));
  const details = {
    status: answer.status,
    ...(Number.isInteger(wait) && wait > 0 ? { retry_after: wait } : {}),
    ...(said === undefined ? {} : { registry: said }),
  };
  const code = (ours: ErrorCode) =>
    said?.kernlock !== undefined && Object.hasOwn(errorCodes, said.kernlock) ? said.kernlock : ours;
  switch (answer.status) {
    case 401:
      return fail(code("KL_OCI_AUTH"), `The registry wants a valid token for ${what}${words}.`, {
        remedy: "Log in with `kernlock login`, or check that the token has not expired.",
        details,
      });
    case 403:
      return fail(code("KL_OCI_AUTH"), `The registry does not permit ${what}${words}.`, {
        remedy: said?.remedy ?? "Ask for a token with the needed scope.",
        details,
      });
    case 404:
      return fail("KL_OCI_NOT_FOUND", `The registry has no ${what}${words}.`, { details });
    default:
      return fail(code("KL_OCI_REFUSED"), `The registry answered ${answer.status} for ${what}${words}.`, {
        ...(said?.remedy === undefined ? {} : { remedy: said.remedy }),
        details,
      });
  }
}

interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly kernlock?: ErrorCode;
  readonly remedy?: string;
}

/** The registry's own words, as the OCI specification shapes them; hostile, so cut short and made plain. */
async function refusalOf(answer: Answer): Promise<Refusal | undefined> {
  try {
    const json = parseStrictJson(await readAll(answer, 64 << 10, "an error"));
    const first = member(member(json, "errors"), "0");
    const [code, message, detail] = [member(first, "code"), member(first, "message"), member(first, "detail")];
    const [kernlock, remedy] = [member(detail, "code"), member(detail, "remedy")];
    if (typeof code !== "string" || !/^[A-Z0-9_]{1,64}$/.test(code)) return undefined;
    return {
      code,
      message: plain(message),
      ...(typeof kernlock === "string" && /^KL_[A-Z0-9_]{1,60}$/.test(kernlock)
        ? { kernlock: kernlock as ErrorCode }
        : {}),
      ...(typeof remedy === "string" ? { remedy: plain(remedy) } : {}),
    };
  } catch {
    return undefined;
  }
}

function member(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;
}

function plain(text: unknown): string {
  return typeof text === "string" ? text.slice(0, 1000).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " ") : "";
}

function codeOf(error: unknown): string {
  for (let e = error, depth = 0; e instanceof Error && depth < 4; e = e.cause, depth++) {
    const code = (e as { code?: unknown }).code;
    if (typeof code === "string" && /^[A-Z0-9_]{1,64}$/.test(code)) return code;
  }
  return "";
}

function parseOrigin(origin: string): URL {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
    return fail("KL_OCI_ORIGIN", "The registry's address is not of the form https://host[:port].");
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    return fail("KL_OCI_ORIGIN", "The registry's address has something after host and port.");
  }
  return url;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127\.[0-9.]+$/.test(host);
}
