/** What the parts of a mirror share. */
import type { FastifyBaseLogger } from "fastify";
import type { Context } from "../context.ts";
import type { Publisher } from "../publish/publish.ts";
import type { Flights } from "./flights.ts";
import type { Mirror } from "./mirrors.ts";
import type { Upstream } from "./upstream.ts";

export interface MirrorOptions {
  /** How long a client waits before it is told to come back; the fetch goes on. Default 50 s. */
  readonly patienceMs?: number;
  /** Longest wait for the upstream's answer and between its bytes. Default 30 s. */
  readonly timeoutMs?: number;
  /** Longest wait for a whole manifest or list. Default 60 s. */
  readonly documentMs?: number;
  /** A blob has to go on by at least 1 KiB/s over each such window. Default 30 s. */
  readonly windowMs?: number;
  /** How long "there is no such thing" is believed. Default 30 s. */
  readonly absentSeconds?: number;
  /** How long a refused version is not asked for again. Default 600 s. */
  readonly refusedSeconds?: number;
  /** First pause after a failure; doubled with each further one, up to a minute. Default 1 s. */
  readonly pauseMs?: number;
  /** Blobs at a time, of all mirrors. Default 8. */
  readonly transfers?: number;
  /** Different things under way at a time. Default 200. */
  readonly flights?: number;
  /** Largest version, all its files together. Default 16 GiB. */
  readonly maxVersionBytes?: number;
  /** Resolves names, in place of the system's resolver. */
  readonly lookup?: typeof import("node:dns").lookup;
}

export interface Kit {
  readonly context: Context;
  readonly publisher: Publisher;
  readonly log: FastifyBaseLogger;
  readonly flights: Flights;
  readonly options: Required<Omit<MirrorOptions, "lookup">>;
  /** Bounds what is fetched at a time. */
  readonly slot: <T>(work: () => Promise<T>) => Promise<T>;
  /** Aborted when the server stops. */
  readonly closing: AbortSignal;
  upstream(mirror: Mirror): Upstream;
}

export const defaultOptions: Kit["options"] = {
  patienceMs: 50_000,
  timeoutMs: 30_000,
  documentMs: 60_000,
  windowMs: 30_000,
  absentSeconds: 30,
  refusedSeconds: 600,
  pauseMs: 1000,
  transfers: 8,
  flights: 200,
  maxVersionBytes: 16 * 2 ** 30,
};
