/** The JSON API as an OpenAPI 3.1 document, from the shapes that the code itself uses. */
import { z } from "zod";
import * as shapes from "./shapes.ts";

const json = (shape: z.ZodType) => ({ "application/json": { schema: z.toJSONSchema(shape, { io: "input" }) } });
const ok = (description: string, shape: z.ZodType) => ({ description, content: json(shape) });
const path = (...names: string[]) =>
  names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } }));
const query = (name: string, description: string) => ({ name, in: "query", description, schema: { type: "string" } });
const refused = { $ref: "#/components/responses/Refused" };

export function openApiDocument(): object {
  return {
    openapi: "3.1.0",
    info: {
      title: "Kernlock registry",
      version: "1",
      description: "Beside this API the registry speaks the OCI distribution specification 1.1 under /v2/.",
    },
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer", description: "a token `klr_…`" } },
      responses: { Refused: { description: "Why not, and what to do.", content: json(shapes.errors) } },
    },
    security: [{}, { token: [] }],
    paths: {
      "/api/v1/search": {
        get: {
          summary: "Kernels that hold all words, or the newest",
          parameters: [query("q", "words, each matched from its beginning")],
          responses: { 200: ok("At most 50.", shapes.search), default: refused },
        },
      },
      "/api/v1/kernels/{namespace}/{name}": {
        get: {
          summary: "A kernel and its versions, highest first",
          parameters: path("namespace", "name"),
          responses: { 200: ok("The kernel.", shapes.kernelWithVersions), default: refused },
        },
      },
      "/api/v1/kernels/{namespace}/{name}/{version}": {
        get: {
          summary: "All about a version, as it was rendered when it was published",
          parameters: path("namespace", "name", "version"),
          responses: { 200: ok("The version.", shapes.version), default: refused },
        },
      },
      "/api/v1/kernels/{namespace}/{name}/{version}/state": {
        put: {
          summary: "Yank (publisher), quarantine (admin), or take either back",
          parameters: path("namespace", "name", "version"),
          requestBody: { required: true, content: json(shapes.stateChange) },
          responses: {
            200: ok("Done.", z.looseObject({ name: z.string(), version: z.string(), state: z.string() })),
            default: refused,
          },
        },
      },
      "/api/v1/kernels/{namespace}/{name}/{version}/review": {
        put: {
          summary: "Approve (somebody else than who published it) or reject what waits for its review",
          parameters: path("namespace", "name", "version"),
          requestBody: { required: true, content: json(shapes.reviewDecision) },
          responses: { 200: ok("Decided.", shapes.review), default: refused },
        },
      },
      "/api/v1/reviews": {
        get: {
          summary: "What waits for its review, and what was decided last; of the packages whose member asks",
          responses: { 200: ok("Those that wait in the order they came.", shapes.reviews), default: refused },
        },
      },
      "/api/v1/revocations": {
        get: {
          summary: "Versions that were yanked or are in quarantine",
          responses: { 200: ok("Newest first.", shapes.revocations), default: refused },
        },
      },
      "/api/v1/revocations/entries": {
        get: {
          summary: "What the next number of a signed feed of revocations is to say: what was filed, and quarantines",
          responses: {
            200: ok("As `kernlock policy feed` takes it.", z.array(shapes.revocationEntry)),
            default: refused,
          },
        },
      },
      "/api/v1/revocations/filed": {
        get: {
          summary: "Revocations that were filed",
          responses: {
            200: ok("Oldest first.", z.object({ revocations: z.array(shapes.filedRevocation) })),
            default: refused,
          },
        },
        post: {
          summary: "File a revocation (admins and auditors of all namespaces)",
          requestBody: { required: true, content: json(shapes.revocationEntry) },
          responses: { 200: ok("Filed.", shapes.filedRevocation), default: refused },
        },
      },
      "/api/v1/revocations/filed/{id}/withdraw": {
        post: {
          summary: "Withdraw a revocation; it stays on record",
          parameters: path("id"),
          responses: { 200: ok("Withdrawn.", shapes.filedRevocation), default: refused },
        },
      },
      "/api/v1/advisories": {
        get: {
          summary: "OSV records, as unsigned feeds of policies and `kernlock policy feed` take them",
          parameters: [query("package", "only those that name this namespace/name")],
          responses: { 200: ok("Oldest first, withdrawn ones among them.", shapes.advisories), default: refused },
        },
      },
      "/api/v1/advisories/{id}": {
        put: {
          summary: "File an advisory or a newer state of one (admins and auditors of all packages that it names)",
          parameters: path("id"),
          requestBody: { required: true, content: json(shapes.advisory) },
          responses: { 200: ok("Filed.", shapes.advisory), default: refused },
        },
      },
      "/api/v1/advisories/{id}/withdraw": {
        post: {
          summary: "Withdraw an advisory; it stays, with the time",
          parameters: path("id"),
          responses: { 200: ok("Withdrawn.", shapes.advisory), default: refused },
        },
      },
      "/api/v1/feeds": {
        get: {
          summary: "Signed feeds that are served here, with their numbers and signers",
          responses: { 200: ok("By name.", shapes.feeds), default: refused },
        },
        post: {
          summary: "Serve a further feed (admins of all namespaces)",
          requestBody: { required: true, content: json(shapes.newFeed) },
          responses: { 201: ok("It is served once its first number is there.", shapes.feedSigners), default: refused },
        },
      },
      "/api/v1/feeds/{id}/keys": {
        put: {
          summary: "Let other keys sign a feed, from its next number on (admins of all namespaces)",
          parameters: path("id"),
          requestBody: { required: true, content: json(shapes.feedKeys) },
          responses: { 200: ok("From now on.", shapes.feedSigners), default: refused },
        },
      },
      "/api/v1/feeds/{id}": {
        get: {
          summary: "The newest number of a feed, as it was signed; for everybody",
          parameters: path("id"),
          responses: { 200: { description: "A Sigstore bundle v0.3." }, default: refused },
        },
        put: {
          summary: "Bring the next number of a feed (admins and auditors of all namespaces)",
          parameters: path("id"),
          requestBody: {
            required: true,
            content: { "application/vnd.dev.sigstore.bundle.v0.3+json": { schema: { type: "object" } } },
          },
          responses: { 200: ok("Served from now on.", shapes.feedPut), default: refused },
        },
      },
      "/api/v1/mirrors": {
        get: {
          summary: "Names that are filled from other registries; for admins of their namespaces",
          responses: {
            200: ok("The mirrors, as this node last met their upstreams.", shapes.mirrors),
            default: refused,
          },
        },
      },
      "/api/v1/mirrors/{id}/refresh": {
        post: {
          summary: "Ask a mirror's upstream now for everything that can change",
          parameters: path("id"),
          requestBody: { required: true, content: json(shapes.mirrorRefresh) },
          responses: { 200: ok("What came, and what was refused.", shapes.mirrorRefreshed), default: refused },
        },
      },
      "/api/v1/health": {
        get: {
          summary: "How the registry is: storage, database, disk, last care, versions (operators only)",
          responses: { 200: ok("At this moment.", shapes.health), default: refused },
        },
      },
      "/api/v1/audit": {
        get: {
          summary: "The audit log, oldest first, and its head (operators only)",
          parameters: [query("after", "sequence number to begin behind"), query("limit", "at most 1000")],
          responses: { 200: ok("Entries.", shapes.audit), default: refused },
        },
      },
      "/token": {
        get: {
          summary: "A bearer token for Basic credentials, as OCI clients ask for it",
          responses: { 200: ok("The token.", shapes.token), default: refused },
        },
        post: {
          summary: "A bearer token for a refresh token, or for an outside identity (RFC 8693)",
          requestBody: {
            required: true,
            content: {
              "application/x-www-form-urlencoded": {
                schema: {
                  type: "object",
                  required: ["grant_type"],
                  properties: {
                    grant_type: { type: "string" },
                    refresh_token: { type: "string" },
                    subject_token: { type: "string" },
                    subject_token_type: { type: "string" },
                    resource: { type: "string", description: "namespace/name that is to be published" },
                  },
                },
              },
            },
          },
          responses: { 200: ok("The token.", shapes.token), default: refused },
        },
      },
      "/healthz": { get: { summary: "The process answers", responses: { 200: { description: "It does." } } } },
      "/readyz": {
        get: {
          summary: "Database and blob store can be written to",
          responses: {
            200: { description: "They can." },
            503: { description: "They cannot, or the server is stopping." },
          },
        },
      },
    },
  };
}
