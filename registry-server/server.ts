import type { AddressInfo } from "node:net";
import { KernlockError } from "@kernlock/kernels/format";
import { parsePolicy } from "@kernlock/policies/trust";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { anonymous } from "./access.ts";
import { type Admin, createAdmin } from "./admin.ts";
import { noticeRoutes } from "./advisories/routes.ts";
import { apiRoutes } from "./api/routes.ts";
import { neverBack } from "./clock.ts";
import type { Context } from "./context.ts";
import { answerDirectly } from "./direct.ts";
import { type Asked, createGate, refuseCrossSite, standingHeaders } from "./gate.ts";
import { envelope, toHttpError } from "./http-errors.ts";
import { createLimiter, defaultLimits, type RateLimits } from "./limits.ts";
import type { MirrorOptions } from "./mirror/kit.ts";
import { mirrorRoutes } from "./mirror/routes.ts";
import { createMirrors } from "./mirror/service.ts";
import { blobRoutes } from "./oci/blobs.ts";
import { listingRoutes } from "./oci/listings.ts";
import { createManifests, manifestRoutes } from "./oci/manifests.ts";
import { tokenRoutes } from "./oci/token.ts";
import { uploadRoutes } from "./oci/upload-routes.ts";
import { createUploads } from "./oci/uploads.ts";
import type { SignInIssuer } from "./oidc/code-flow.ts";
import { createExchanger } from "./oidc/exchange.ts";
import { createIssuers } from "./oidc/issuers.ts";
import { startChores } from "./operations/chores.ts";
import { healthRoutes } from "./operations/health.ts";
import { type Collected, collectGarbage } from "./operations/maintenance.ts";
import { createMetrics } from "./operations/metrics.ts";
import { statusRoutes } from "./operations/status-routes.ts";
import { adminRoutes } from "./pages/admin/routes.ts";
import { advisoryRoutes } from "./pages/advisories.ts";
import { namespaceRoutes } from "./pages/namespace-routes.ts";
import { pageRoutes } from "./pages/routes.ts";
import { sendPage } from "./pages/send.ts";
import { refusalPage } from "./pages/signin.ts";
import type { OperatorPolicy } from "./publish/policies.ts";
import { createPublisher } from "./publish/publish.ts";
import { noteRefusal, refusalAnswer } from "./refusals.ts";
import { reviewRoutes } from "./review/routes.ts";
import { sessionRoutes } from "./sessions/routes.ts";
import { recognise } from "./sessions/sessions.ts";
import { type BodyFloor, defaultBodyFloor, watchBodies } from "./slow-bodies.ts";
import { type DataOptions, openBlobs, openRecords } from "./store/open.ts";
import { openTransfers, type TransfersChoice } from "./transfers.ts";

export interface RegistryOptions extends DataOptions {
  /** Public origin, e.g. `https://kernels.example.org`; needed behind a proxy or on a wildcard address. Else the address it listens on. */
  readonly origin?: string;
  /** The operator's trust policy; every publish must pass it as well as the namespace's. */
  readonly policy?: string;
  /** Where the files of its feeds lie, and its `exceptions/`. */
  readonly policyFolder?: string;
  /** Look for new numbers of the feeds that policies name this often (default 300; 0: never). */
  readonly feedsEverySeconds?: number;
  /** Largest blob in bytes (default 4 GiB). */
  readonly maxBlobBytes?: number;
  /** pino level, or false for silence (default false). Tokens are never logged. */
  readonly log?: "debug" | "info" | "warn" | "error" | false;
  readonly now?: () => Date;
  readonly limits?: Partial<RateLimits>;
  /** Slowest body of a request that is waited for (default: 500 bytes a second, measured over 20 s). */
  readonly bodyFloor?: Partial<BodyFloor>;
  /** Addresses of proxies whose X-Forwarded-For is believed (default: none). */
  readonly trustedProxies?: readonly string[];
  /** `aud` of identity tokens that are exchanged (default: the origin). */
  readonly audience?: string;
  /** Where people sign in to the pages, beside the registry's own accounts (default: nowhere else). */
  readonly signIn?: SignInIssuer;
  /** Send clients to the object store for blobs of at least this size (default: never). */
  readonly redirectFromBytes?: number;
  /** Collect garbage this often (default: only when told to). */
  readonly gcEverySeconds?: number;
  readonly gcGraceSeconds?: number;
  /** How bytes move between clients and files (default: auto, native where it can be had). */
  readonly transfers?: TransfersChoice;
  /** How patient mirrors are, and how much they take. */
  readonly mirrors?: MirrorOptions;
}

export interface Listening {
  /** e.g. `http://127.0.0.1:41234` */
  readonly origin: string;
  readonly port: number;
}

export interface Registry extends Omit<Admin, "close"> {
  readonly app: FastifyInstance;
  /** Default 127.0.0.1 and a free port. */
  listen(options?: { host?: string; port?: number }): Promise<Listening>;
  collectGarbage(options?: { graceSeconds?: number; dryRun?: boolean }): Promise<Collected>;
  /** Takes no new requests, waits at most `drainSeconds` (default 30) for running ones, then closes server and store. */
  close(drainSeconds?: number): Promise<void>;
}

export async function createRegistry(options: RegistryOptions): Promise<Registry> {
  const now = options.now ?? neverBack();
  const operator: OperatorPolicy | undefined =
    options.policy === undefined ? undefined : { policy: parsePolicy(options.policy), folder: options.policyFolder };
  const transfers = openTransfers(options.transfers);
  const records = await openRecords(options);
  const blobs = openBlobs(options, {
    maxBlobBytes: options.maxBlobBytes ?? 4 * 2 ** 30,
    createHash: transfers.createHash,
  });
  const uploads = createUploads(blobs);
  const metrics = createMetrics();
  const issuers = createIssuers(now);
  const limiter = createLimiter({ ...defaultLimits, ...options.limits });
  const gate = createGate(records, limiter, now);
  let stopping = false;
  let origin = options.origin?.replace(/\/+$/, "") ?? "http://127.0.0.1";
  const context: Context = {
    records,
    blobs,
    operator,
    transfers,
    metrics,
    redirectFromBytes: options.redirectFromBytes,
    now,
    origin: () => origin,
  };

  let requests = 0;
  const nextId = () => `req-${(++requests).toString(36)}`;
  const logged = options.log !== undefined && options.log !== false;
  const app = fastify({
    genReqId: nextId,
    logger: logged ? { level: options.log, serializers: { req: loggedRequest } } : false,
    exposeHeadRoutes: false,
    forceCloseConnections: "idle",
    trustProxy: options.trustedProxies === undefined ? false : [...options.trustedProxies],
    // A request without a body has no stream to be looked after.
    http: { headersTimeout: 10_000, optimizeEmptyRequests: true },
    // A connection on which nothing moves; a long upload that moves may take its time.
    connectionTimeout: 120_000,
    routerOptions: { maxParamLength: 256 },
    // Addresses that the router cannot even take apart never reach the error handler.
    frameworkErrors: (error, request, reply) => void refuse(error, request, reply, context),
    clientErrorHandler(error, socket) {
      // The HTTP parser gave up: a body shorter or longer than announced, or no HTTP at all.
      if (!socket.writable) return;
      const body = envelope(toHttpError(brokenRequest(error)));
      socket.end(
        `HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      );
    },
  });
  app.log.info({ transfers: transfers.kind, reason: transfers.reason }, "bytes move between clients and files");
  // Bodies are streams; each route reads its own, under its own limit.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, _payload, done) => done(null));
  app.decorateRequest("principal", null as never);
  app.decorateRequest("formSecret", null);
  const bodies = watchBodies({ ...defaultBodyFloor, ...options.bodyFloor }, (request, reply) => {
    const error = new KernlockError("KL_REGISTRY_TOO_SLOW", "The request's body came too slowly, and was cut.", {
      remedy: "Send it again from a faster connection; an upload goes on where it stopped.",
    });
    // Node ends a request with its socket only as long as it has no answer; whoever reads the body shall see the end.
    request.raw.socket.once("close", () => request.raw.destroy());
    if (reply.sent) request.raw.destroy();
    else refuse(error, request, reply.header("connection", "close"), context);
  });
  app.addHook("onRequest", async (request, reply) => {
    bodies.watch(request, reply);
    reply.headers(standingHeaders);
    request.principal = anonymous;
    if (stopping) reply.header("connection", "close");
    refuseCrossSite(request);
    // Whoever watches over the process is never turned away.
    if (request.url === "/healthz" || request.url === "/readyz") return;
    // The token route judges credentials by itself.
    if (request.url.startsWith("/token")) return void limiter.take("login", request.ip);
    request.principal = await gate.recognise(request);
    reply.header("ratelimit", gate.take(request, request.principal));
  });
  app.addHook("onResponse", async (request, reply) => {
    metrics.request({
      method: request.method,
      route: request.routeOptions.url ?? "none",
      status: reply.statusCode,
      seconds: reply.elapsedTime / 1000,
    });
  });
  app.setErrorHandler((error, request, reply) => refuse(error, request, reply, context));
  app.setNotFoundHandler((request, reply) => {
    const nothing = new KernlockError("KL_REGISTRY_NOT_FOUND", "There is nothing at this address.", {
      remedy: "Repositories are `namespace/name`; docs/registry-api.md lists the routes.",
    });
    return refuse(nothing, request, reply, context);
  });

  statusRoutes(app, context, { uploads, stopping: () => stopping });
  app.get("/v2/", async (request, reply) => {
    // Stock clients learn here where to log in; without this challenge they would never send what they have.
    if (request.principal.kind === "anonymous") {
      throw new KernlockError(
        "KL_REGISTRY_UNAUTHORIZED",
        "Ask the token route for a token; without credentials it grants what is public.",
        {
          remedy: "Public kernels can be pulled without any token.",
        },
      );
    }
    return reply.send({});
  });
  tokenRoutes(app, context, createExchanger({ records, issuers, audience: () => options.audience ?? origin, now }));
  const publisher = createPublisher(context);
  const mirrors = createMirrors(context, publisher, app.log, options.mirrors);
  // Before the routes whose answers it brings.
  mirrorRoutes(app, context, mirrors);
  blobRoutes(app, context);
  uploadRoutes(app, context, uploads);
  const manifests = createManifests(context);
  manifestRoutes(app, context, publisher, manifests);
  listingRoutes(app, context);
  apiRoutes(app, context);
  reviewRoutes(app, context, publisher);
  noticeRoutes(app, context);
  healthRoutes(app, context);
  // The only routes that know of sessions.
  app.register(async (pages) => {
    pages.addHook("onRequest", (request) => recognise(request, context, options.signIn?.issuer));
    pages.setErrorHandler((error, request, reply) => refusePage(error, request, reply, context));
    pageRoutes(pages, context);
    namespaceRoutes(pages, context, options.signIn);
    adminRoutes(pages, context, publisher);
    advisoryRoutes(pages, context);
    sessionRoutes(pages, context, issuers, options.signIn);
  });
  answerDirectly(app, {
    ...{ context, gate, mirrors, manifests },
    proxied: options.trustedProxies !== undefined,
    log: () => (logged ? app.log.child({ reqId: nextId() }) : app.log),
    stopping: () => stopping,
  });
  const chores = startChores({ records, blobs, now, operator }, metrics, app.log, {
    feedsEverySeconds: options.feedsEverySeconds ?? 300,
    ...(options.gcEverySeconds === undefined ? {} : { gcEverySeconds: options.gcEverySeconds }),
    ...(options.gcGraceSeconds === undefined ? {} : { gcGraceSeconds: options.gcGraceSeconds }),
  });
  app.addHook("onClose", async () => {
    bodies.stop();
    await mirrors.close();
    await chores.stop();
    await uploads.close();
    await issuers.close();
    await blobs.close?.();
    transfers.close();
    metrics.close();
    await records.close();
  });

  const { close: _, ...admin } = createAdmin(records, now);
  return {
    ...admin,
    app,
    async listen({ host = "127.0.0.1", port = 0 } = {}) {
      await app.listen({ host, port });
      const address = app.server.address() as AddressInfo;
      const shownHost = address.family === "IPv6" ? `[${address.address}]` : address.address;
      if (options.origin === undefined) origin = `http://${shownHost}:${address.port}`;
      return { origin, port: address.port };
    },
    collectGarbage: (wanted) => collectGarbage({ records, blobs, now }, wanted),
    async close(drainSeconds = 30) {
      stopping = true;
      const cut = setTimeout(() => app.server.closeAllConnections(), drainSeconds * 1000).unref();
      // Connections that finish what they were at would otherwise wait for another request.
      const idle = setInterval(() => app.server.closeIdleConnections(), 100).unref();
      await app.close();
      clearTimeout(cut);
      clearInterval(idle);
    },
  };
}

/** Runs a registry until SIGINT or SIGTERM. Resolves when it listens. */
export async function serve(
  options: RegistryOptions & { host?: string; port?: number },
): Promise<Registry & Listening> {
  const { host, port, ...rest } = options;
  const registry = await createRegistry(rest);
  const listening = await registry.listen({
    ...(host === undefined ? {} : { host }),
    ...(port === undefined ? {} : { port }),
  });
  const stop = () => void registry.close();
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  return { ...registry, ...listening };
}

function refuse(thrown: unknown, request: FastifyRequest, reply: FastifyReply, context: Context): FastifyReply {
  const { status, headers, body } = refusalAnswer(thrown, request, request.log, context);
  return reply.code(status).removeHeader("content-length").headers(headers).send(body);
}

/** The same for people. */
function refusePage(thrown: unknown, request: FastifyRequest, reply: FastifyReply, context: Context): FastifyReply {
  const { status, headers, error } = noteRefusal(thrown, request.log, context);
  reply.code(status).removeHeader("content-length").headers(headers);
  const head = { title: "Refused · Kernlock", description: error.message, secret: true };
  return sendPage(context, request, reply, status, head, refusalPage(error));
}

function brokenRequest(cause: Error): KernlockError {
  const code = (cause as NodeJS.ErrnoException).code ?? "";
  if (code === "HPE_INVALID_EOF_STATE" || code === "ECONNRESET") {
    return new KernlockError("KL_REGISTRY_UPLOAD_CUT", "The connection ended before the announced end of the body.", {
      remedy: "Send it again.",
      cause,
    });
  }
  return new KernlockError("KL_REGISTRY_BAD_REQUEST", "The request is malformed.", {
    remedy: "Check that Content-Length is the length of the body.",
    cause,
  });
}

/** Method and path; never headers, and never a query's values, which may be credentials. */
function loggedRequest(request: Asked): Record<string, unknown> {
  return { method: request.method, path: request.url.split("?", 1)[0], remote: request.ip };
}
