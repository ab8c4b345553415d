/** Shapes of the JSON API's bodies: what is parsed with them is also what the OpenAPI document says. */
import { z } from "zod";

export const stateChange = z.strictObject({
  state: z.enum(["ok", "yanked", "quarantined"]),
  reason: z.string().max(1000).optional(),
});

export const reviewDecision = z.discriminatedUnion("decision", [
  z.strictObject({ decision: z.literal("approve"), reason: z.string().min(1).max(1000).optional() }),
  z.strictObject({ decision: z.literal("reject"), reason: z.string().min(1).max(1000) }),
]);
export const review = z.object({
  name: z.string(),
  version: z.string(),
  digest: z.string(),
  state: z.enum(["staged", "approved", "rejected"]),
  asked_at: z.string(),
  asked_by: z.string(),
  decided_at: z.string().nullable(),
  decided_by: z.string().nullable(),
  reason: z.string().nullable(),
  approvable: z.boolean().optional().describe("whether whoever asks could approve it"),
});
export const reviews = z.object({ waiting: z.array(review), decided: z.array(review) });

/** An OSV record (schema 1.x) that names packages of the ecosystem "Kernlock". */
export const advisory = z.looseObject({
  id: z.string(),
  modified: z.string(),
  summary: z.string().optional(),
  withdrawn: z.string().optional(),
  affected: z.array(z.looseObject({})),
});
export const advisories = z.array(advisory);
export const revocationEntry = z.looseObject({ kind: z.string(), reason: z.string() });
export const filedRevocation = z.object({
  id: z.string(),
  entry: revocationEntry,
  filed_at: z.string(),
  filed_by: z.string(),
  withdrawn_at: z.string().nullable(),
});
export const newFeed = z.strictObject({
  id: z.string(),
  kind: z.enum(["advisories", "revocations"]),
  keys: z.array(z.string().max(4096)).min(1).max(16).describe("public keys (PEM) that may sign it"),
});
export const feedKeys = z.strictObject({ keys: newFeed.shape.keys });
export const feedSigners = z.object({ id: z.string(), kind: z.string(), signers: z.array(z.string()) });
export const servedFeed = z.object({
  id: z.string(),
  kind: z.enum(["advisories", "revocations"]),
  sequence: z.number().int().nullable(),
  issued: z.string().nullable(),
  signers: z.array(z.string()),
  created_at: z.string(),
  uploaded_at: z.string().nullable(),
  url: z.string().describe("what a policy names"),
});
export const feeds = z.object({ feeds: z.array(servedFeed) });
export const feedPut = z.object({ id: z.string(), kind: z.string(), sequence: z.number().int(), issued: z.string() });

export const state = {
  state: z
    .enum(["yanked", "quarantined", "staged", "rejected"])
    .optional()
    .describe("absent: it is offered; the last two are shown to members alone"),
  state_reason: z.string().nullable().optional(),
  state_at: z.string().nullable().optional(),
};
export const kernel = z.object({
  name: z.string(),
  latest: z.string(),
  description: z.string(),
  license: z.string(),
  published_at: z.string(),
});
const unpublished = z.object({ name: z.string(), latest: z.null() });
export const listedVersion = z.object({ version: z.string(), digest: z.string(), published_at: z.string(), ...state });
export const search = z.object({ query: z.string(), kernels: z.array(kernel) });
export const kernelWithVersions = z.union([
  z.object({ ...kernel.shape, versions: z.array(listedVersion) }),
  z.object({ ...unpublished.shape, versions: z.array(listedVersion) }).describe("to its members: nothing is published"),
]);
export const version = z.looseObject({
  schema: z.literal("kernlock.registry.version/v1"),
  name: z.string(),
  version: z.string(),
  digest: z.string(),
  media_type: z.string(),
  size: z.number().int(),
  description: z.string(),
  license: z.string(),
  source: z.object({ repository: z.string(), revision: z.string() }),
  published_at: z.string(),
  signers: z.array(z.string()),
  builders: z.array(z.string()),
  statements: z.array(z.looseObject({})),
  variants: z.array(
    z.looseObject({ variant: z.string(), manifest: z.object({ digest: z.string(), size: z.number().int() }) }),
  ),
  verdict: z.looseObject({}),
  mode: z.literal("break-glass").optional().describe("where a signed order let it in"),
  waivers: z.array(z.looseObject({})).optional().describe("exceptions without which it would have been refused"),
  trust_changes: z
    .object({
      since: z.string(),
      changes: z.array(
        z.object({
          what: z.enum(["signer", "builder", "source"]),
          before: z.array(z.string()),
          after: z.array(z.string()),
        }),
      ),
    })
    .optional()
    .describe("against the next lower version at the time, where there are any"),
  ...state,
});
export const revocations = z.object({ revocations: z.array(z.object({ name: z.string(), ...listedVersion.shape })) });
export const mirrorRefresh = z.strictObject({
  name: z.string().max(128).optional().describe("only this package"),
  version: z.string().max(100).optional().describe("only this version of it"),
});
export const mirrors = z.object({
  mirrors: z.array(
    z.object({
      id: z.string(),
      pattern: z.string(),
      origin: z.string(),
      prefix: z.string(),
      credentials: z.boolean(),
      hosts: z.array(z.string()),
      private_addresses: z.boolean(),
      cool_down_days: z.number().int(),
      fresh_seconds: z.number().int(),
      created_at: z.string(),
      packages: z.array(z.string()),
      asked_at: z.string().nullable().describe("the last question of this node to the upstream"),
      ok: z.boolean().nullable(),
      code: z.string().nullable().describe("why it failed"),
      paused_until: z.string().nullable(),
    }),
  ),
});
export const mirrorRefreshed = z.object({
  mirror: z.string(),
  packages: z.array(
    z.object({
      name: z.string(),
      admitted: z.array(z.string()),
      refused: z.array(z.object({ version: z.string(), code: z.string(), message: z.string() })),
      changed: z.array(z.string()).describe("versions of which the upstream has other bytes now; ours stay"),
      statements: z.number().int(),
    }),
  ),
  states: z.number().int().describe("versions whose yank or quarantine upstream was taken over"),
  problem: z.object({ code: z.string(), message: z.string() }).nullable(),
});
const chore = z
  .object({ at: z.string(), outcome: z.looseObject({}) })
  .nullable()
  .describe("null: never");
export const health = z.object({
  at: z.string(),
  problems: z.object({ database: z.string().nullable(), storage: z.string().nullable() }),
  database: z.object({ kind: z.enum(["sqlite", "postgres"]), bytes: z.number(), schema: z.number().int() }),
  storage: z.object({
    kind: z.enum(["folder", "s3"]),
    blobs: z.number().int(),
    bytes: z.number(),
    damaged: z.number().int(),
    disk: z.object({ free: z.number(), total: z.number() }).nullable(),
  }),
  counts: z.object({ namespaces: z.number().int(), kernels: z.number().int(), versions: z.number().int() }),
  waiting: z.number().int().describe("versions that wait for a review"),
  last: z.object({ gc: chore, scrub: chore, fsck: chore, backup: chore }),
  audit: z.object({ seq: z.number().int(), hash: z.string() }),
  versions: z.object({ kernlock: z.string(), node: z.string() }),
});
export const audit = z.object({
  head: z.object({ seq: z.number().int(), hash: z.string() }),
  entries: z.array(
    z.object({
      seq: z.number().int(),
      at: z.string(),
      actor: z.string(),
      action: z.string(),
      subject: z.string(),
      details: z.looseObject({}),
      previous: z.string(),
      hash: z.string(),
    }),
  ),
});
export const token = z.looseObject({ token: z.string(), access_token: z.string(), expires_in: z.number().int() });
export const errors = z.object({
  errors: z.array(z.object({ code: z.string(), message: z.string(), detail: z.looseObject({ code: z.string() }) })),
});
