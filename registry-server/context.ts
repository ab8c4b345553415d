import type { Policy } from "@kernlock/policies/trust";
import type { Principal } from "./access.ts";
import type { BlobStore } from "./store/blobs.ts";
import type { Catalog } from "./store/catalog.ts";

/** What the routes share. */
export interface Context {
  readonly catalog: Catalog;
  readonly blobs: BlobStore;
  /** The operator's policy, above those of the namespaces. */
  readonly policy: Policy | undefined;
  readonly now: () => Date;
  /** Public origin, known at the latest when the server listens. */
  origin(): string;
}

declare module "fastify" {
  interface FastifyRequest {
    principal: Principal;
  }
}
