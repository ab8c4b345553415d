import type { FastifyInstance } from "fastify";
import type { Admin } from "./admin.ts";

export interface RegistryOptions {
  /** Holds `registry.sqlite`, `blobs/sha256/<hex>` and `uploads/` (unfinished; emptied at start). One server a folder. */
  readonly dataFolder: string;
  /** Public origin, e.g. `https://kernels.example.org`; needed behind a proxy. Else the address it listens on. */
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

export declare function createRegistry(options: RegistryOptions): Promise<Registry>;

/** Runs a registry until SIGINT or SIGTERM. Resolves when it listens. */
export declare function serve(options: RegistryOptions & { host?: string; port?: number }): Promise<Registry & Listening>;
