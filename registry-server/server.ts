import type { AddressInfo } from "node:net";
import { KernlockError } from "@kernlock/kernels/format";
import { parsePolicy } from "@kernlock/policies/trust";
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { anonymous, principalOf, tokenFromHeader } from "./access.ts";
import { type Admin, createAdmin } from "./admin.ts";
import { apiRoutes } from "./api/routes.ts";
import type { Context } from "./context.ts";
import { envelope, toHttpError } from "./http-errors.ts";
import { blobRoutes } from "./oci/blobs.ts";
import { manifestRoutes } from "./oci/manifests.ts";
import { tokenRoutes } from "./oci/token.ts";
import { createUploads } from "./oci/uploads.ts";
import { pageRoutes } from "./pages/routes.ts";
import { createPublisher } from "./publish/publish.ts";
import { folderStore } from "./store/blobs.ts";
import { openCatalog } from "./store/catalog.ts";

export interface RegistryOptions {
  /** Holds `registry.sqlite`, `blobs/sha256/<hex>` and `uploads/` (unfinished; emptied at start). One server a folder. */
  readonly dataFolder: string;
  /** Public origin, e.g. `https://kernels.example.org`; needed behind a proxy or on a wildcard address. Else the address it listens on. */
  readonly origin?: string;
  /** The operator's trust policy; every publish must pass it as well as the namespace's. */
  readonly policy?: string;
  /** Largest blob in bytes (default 4 GiB). */
  readonly maxBlobBytes?: number;
  /** pino level, or false for silence (default false). Tokens are never logged. */
  readonly log?: "debug" | "info" | "warn" | "error" | false;
  readonly now?: () => Date;
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
  /** Finishes running requests, then closes server and store. */
  close(): Promise<void>;
}

export function createRegistry(options: RegistryOptions): Registry {
  const now = options.now ?? (() => new Date());
  const policy = options.policy === undefined ? undefined : parsePolicy(options.policy);
  const catalog = openCatalog(options.dataFolder);
  const blobs = folderStore(options.dataFolder, { maxBlobBytes: options.maxBlobBytes ?? 4 * 2 ** 30 });
  const uploads = createUploads(blobs);
  let origin = options.origin?.replace(/\/+$/, "") ?? "http://127.0.0.1";
  const context: Context = { catalog, blobs, policy, now, origin: () => origin };

  const app = fastify({
    logger: options.log ? { level: options.log, serializers: { req: loggedRequest } } : false,
    exposeHeadRoutes: false,
    forceCloseConnections: "idle",
    http: { headersTimeout: 10_000 },
    // A connection on which nothing moves; a long upload that moves may take its time.
    connectionTimeout: 120_000,
    routerOptions: { maxParamLength: 256 },
    // Addresses that the router cannot even take apart never reach the error handler.
    frameworkErrors: (error, request, reply) => void refuse(error, request, reply, origin),
    clientErrorHandler(error, socket) {
      // The HTTP parser gave up: a body shorter or longer than announced, or no HTTP at all.
      if (!socket.writable) return;
      const body = envelope(toHttpError(brokenRequest(error)));
      socket.end(
        `HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
      );
    },
  });
  // Bodies are streams; each route reads its own, under its own limit.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", (_request, _payload, done) => done(null));
  app.decorateRequest("principal", null as never);
  app.addHook("onRequest", async (request, reply) => {
    reply.headers({ "x-content-type-options": "nosniff", "docker-distribution-api-version": "registry/2.0" });
    request.principal = anonymous;
    refuseCrossSite(request);
    // The token route judges credentials by itself, the health check needs none.
    if (request.url.startsWith("/token") || request.url === "/healthz") return;
    request.principal = principalOf(tokenFromHeader(request.headers.authorization), catalog, now());
  });
  app.setErrorHandler((error, request, reply) => refuse(error, request, reply, origin));
  app.setNotFoundHandler((request, reply) => {
    const nothing = new KernlockError("KL_REGISTRY_NOT_FOUND", "There is nothing at this address.", {
      remedy: "Repositories are `namespace/name`; docs/registry-api.md lists the routes.",
    });
    return refuse(nothing, request, reply, origin);
  });

  app.get("/healthz", async () => ({ status: catalog.ping() ? "ok" : "failing" }));
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
  tokenRoutes(app, context);
  blobRoutes(app, context, uploads);
  manifestRoutes(app, context, createPublisher(context));
  apiRoutes(app, context);
  pageRoutes(app, context);
  app.addHook("onClose", async () => {
    await uploads.close();
    catalog.close();
  });

  const { close: _, ...admin } = createAdmin(catalog, now);
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
    async close() {
      await app.close();
    },
  };
}

/** Runs a registry until SIGINT or SIGTERM. Resolves when it listens. */
export async function serve(
  options: RegistryOptions & { host?: string; port?: number },
): Promise<Registry & Listening> {
  const { host, port, ...rest } = options;
  const registry = createRegistry(rest);
  const listening = await registry.listen({
    ...(host === undefined ? {} : { host }),
    ...(port === undefined ? {} : { port }),
  });
  const stop = () => void registry.close();
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  return { ...registry, ...listening };
}

function refuse(thrown: unknown, request: FastifyRequest, reply: FastifyReply, origin: string): FastifyReply {
  const found = toHttpError(thrown);
  if (found.status >= 500) request.log.error({ err: found.error.cause ?? found.error }, found.error.message);
  else request.log.info({ code: found.error.code }, found.error.message);
  if (found.status === 401) reply.header("www-authenticate", challenge(request, origin));
  // Whatever of a refused body is still coming, nobody will read it.
  if (found.status === 413) reply.header("connection", "close");
  return reply
    .code(found.status)
    .removeHeader("content-length")
    .header("content-type", "application/json")
    .send(Buffer.from(envelope(found)));
}

function challenge(request: FastifyRequest, origin: string): string {
  const repository = /^\/v2\/([a-z0-9._-]+\/[a-z0-9._-]+)\//.exec(request.url)?.[1];
  const actions = request.method === "GET" || request.method === "HEAD" ? "pull" : "pull,push";
  const scope = repository === undefined ? "" : `,scope="repository:${repository}:${actions}"`;
  return `Bearer realm="${origin}/token",service="kernlock"${scope}`;
}

/** A browser sends a reader's credentials along; another site must not write with them. */
function refuseCrossSite(request: FastifyRequest): void {
  const site = request.headers["sec-fetch-site"];
  if (request.method === "GET" || request.method === "HEAD" || site === undefined) return;
  if (site !== "same-origin" && site !== "none") {
    throw new KernlockError("KL_REGISTRY_CROSS_SITE", "A page of another site asked to write.", {
      remedy: "Push with a client, not from a web page.",
    });
  }
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
function loggedRequest(request: FastifyRequest): Record<string, unknown> {
  return { method: request.method, path: request.url.split("?", 1)[0], remote: request.ip };
}
