import type { Principal } from "./access.ts";
import type { Metrics } from "./operations/metrics.ts";
import type { OperatorPolicy } from "./publish/policies.ts";
import type { BlobStore } from "./store/blobs.ts";
import type { Records } from "./store/records.ts";
import type { Transfers } from "./transfers.ts";

/** What the routes share. */
export interface Context {
  readonly records: Records;
  readonly blobs: BlobStore;
  /** Above the policies of the namespaces. */
  readonly operator: OperatorPolicy | undefined;
  readonly transfers: Transfers;
  readonly metrics: Metrics;
  /** Blobs of at least this size are fetched from the blob store itself; undefined: never. */
  readonly redirectFromBytes: number | undefined;
  readonly now: () => Date;
  /** Public origin, known at the latest when the server listens. */
  origin(): string;
}

declare module "fastify" {
  interface FastifyRequest {
    principal: Principal;
    /** What form tokens are made from: the secret of this browser's session, or of its sign-in; null for neither. */
    formSecret: string | null;
  }
}
