/**
 * Manifests are most of what a registry is asked for, and the web framework was half of what an answer cost. So plain
 * requests for them are taken as node:http hands them over, and pass through the same functions as behind the framework's
 * route. What is in any way unusual goes there: another method, a body, a query or an escape in the address, a client
 * behind a trusted proxy, a mirrored name, a registry that stops.
 */
import type { IncomingMessage, OutgoingHttpHeader, RequestListener, ServerResponse } from "node:http";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import type { Context } from "./context.ts";
import { type Asked, type Gate, standingHeaders } from "./gate.ts";
import type { Mirrors } from "./mirror/service.ts";
import { type ManifestParams, type Manifests, manifestRoute } from "./oci/manifests.ts";
import { refusalAnswer } from "./refusals.ts";

export interface Direct {
  readonly context: Context;
  readonly gate: Gate;
  readonly mirrors: Mirrors;
  readonly manifests: Manifests;
  /** Whether addresses are to be read from X-Forwarded-For. */
  readonly proxied: boolean;
  /** For one request. */
  readonly log: () => FastifyBaseLogger;
  readonly stopping: () => boolean;
}

/** Nothing in it that a router would have to decode; a client's names are longer than this only to be refused. */
const plain = /^\/v2\/([a-z0-9._-]{1,128})\/([a-z0-9._-]{1,128})\/manifests\/([A-Za-z0-9._:-]{1,200})$/;
/** Header and body of a smaller answer are one string, and that is one write. */
const mostInOneWrite = 12 << 10;
const mostTexts = 2 << 20;

/** Bytes as a string of one character each. Those of the last few hundred manifests are kept, as long as the bytes are. */
function rememberTexts(): (bytes: Buffer) => string {
  let texts = new WeakMap<Buffer, string>();
  let size = 0;
  return (bytes) => {
    const known = texts.get(bytes);
    if (known !== undefined) return known;
    if (size + bytes.byteLength > mostTexts) {
      texts = new WeakMap();
      size = 0;
    }
    const text = bytes.toString("latin1");
    texts.set(bytes, text);
    size += bytes.byteLength;
    return text;
  };
}

/** `app` must have all its routes. */
export function answerDirectly(app: FastifyInstance, direct: Direct): void {
  const { server } = app;
  const [framework] = server.listeners("request") as RequestListener[];
  const text = rememberTexts();
  if (framework === undefined) throw new Error("the framework listens to nothing");
  server.removeListener("request", framework);
  server.on("request", (request, response) => {
    const params = paramsOf(request, direct);
    if (params === undefined) return framework(request, response);
    const repository = `${params.namespace}/${params.name}`;
    direct.mirrors.of(repository).then(
      (mirror) => {
        if (mirror === undefined) void answer(direct, text, params, request, response);
        else framework(request, response);
      },
      // Its answer says what is wrong.
      () => framework(request, response),
    );
  });
}

function paramsOf(request: IncomingMessage, { proxied, stopping }: Direct): ManifestParams | undefined {
  const { method, url = "", headers } = request;
  if ((method !== "GET" && method !== "HEAD") || stopping() || (proxied && "x-forwarded-for" in headers)) return;
  if (headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0") return;
  const found = plain.exec(url);
  if (found === null) return;
  const [, namespace = "", name = "", reference = ""] = found;
  return { namespace, name, reference };
}

async function answer(
  { context, gate, manifests, log: newLog }: Direct,
  text: (bytes: Buffer) => string,
  params: ManifestParams,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const started = performance.now();
  const { method = "", url = "", headers } = request;
  const asked: Asked = { method, url, headers, ip: request.socket.remoteAddress ?? "" };
  const log = newLog();
  log.info({ req: asked }, "incoming request");
  response.on("finish", () => {
    const took = performance.now() - started;
    const status = response.statusCode;
    context.metrics.request({ method, route: manifestRoute, status, seconds: took / 1000 });
    log.info({ res: { statusCode: status }, responseTime: took }, "request completed");
  });
  // Names and values in turn: node:http looks at each only once.
  const sent: (string | number)[] = [];
  add(sent, standingHeaders);
  try {
    const principal = await gate.recognise(asked);
    sent.push("ratelimit", gate.take(asked, principal));
    const { status, headers: about, bytes } = await manifests.answer(params, { principal, headers });
    add(sent, about);
    if (bytes !== undefined) sent.push("content-length", bytes.byteLength);
    response.writeHead(status, sent as OutgoingHttpHeader[]);
    if (bytes === undefined || method === "HEAD") response.end();
    else if (bytes.byteLength > mostInOneWrite) response.end(bytes);
    else response.end(text(bytes), "latin1");
  } catch (error) {
    if (response.headersSent) return void response.destroy(error as Error);
    const { status, headers: more, body } = refusalAnswer(error, asked, log, context);
    add(sent, more).push("content-length", body.byteLength);
    response.writeHead(status, sent as OutgoingHttpHeader[]).end(body);
  }
}

function add(sent: (string | number)[], headers: Readonly<Record<string, string | number>>) {
  for (const name in headers) sent.push(name, headers[name]!);
  return sent;
}
