/**
 * Bytes between clients and files: past this process where the system can (`native/`), through it everywhere else. What
 * a client sees is the same, but for `Connection: close` after a body that went past the HTTP parser.
 */
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Addon, addon, type Hash } from "./native/addon.ts";
import { nativeTransfers } from "./native/transfers.ts";
import { pump } from "./oci/pump.ts";

/** Where a body goes. */
export interface Target {
  readonly file: FileHandle;
  /** Of the same `Transfers`. */
  readonly hash: Hash;
  /** Where its next byte goes. */
  position(): number;
  /** Writes and hashes what this process holds of the body already. */
  keep(held: readonly Uint8Array[]): Promise<void>;
  /** So many more bytes are in both file and hash. */
  moved(bytes: number): void;
}

/** The body of a request, taken piece by piece or all at once. */
export interface Body extends AsyncIterable<Uint8Array> {
  /** Only where bodies can go past this process. */
  readonly direct?: {
    /** Bytes of the whole body. */
    readonly length: number;
    /**
     * False where the system refuses: what is left has to be taken piece by piece. Rejects with an error of the file,
     * or with ECONNRESET when the body ends early or `signal` says so; what has arrived by then is kept.
     */
    into(target: Target, signal: AbortSignal): Promise<boolean>;
  };
}

export interface Transfers {
  readonly kind: "native" | "javascript";
  /** SHA-256. */
  createHash(): Hash;
  /**
   * Sends bytes `start` to `end` (inclusive) after a head that has been written, and ends the response. A file that
   * ends early, as well as a client that went away, destroys it. Resolves to the number of bytes sent.
   */
  send(file: FileHandle, range: { start: number; end: number }, to: ServerResponse): Promise<number>;
  body(request: IncomingMessage, response: ServerResponse): Body;
  close(): void;
}

export const javascriptTransfers: Transfers = {
  kind: "javascript",
  createHash: () => createHash("sha256"),
  send: pump,
  body: piecesOf,
  close() {},
};

export type TransfersChoice = "auto" | Transfers["kind"];

/**
 * "auto": native where it can be had, and `reason` says why it cannot. "native" fails there, with what `load` throws;
 * "javascript" does not try.
 */
export function openTransfers(
  choice: TransfersChoice = "auto",
  load: () => Addon = addon,
): Transfers & { readonly reason?: string } {
  if (choice === "javascript") return javascriptTransfers;
  let native: Addon;
  try {
    native = load();
  } catch (error) {
    if (choice === "native") throw error;
    return { ...javascriptTransfers, reason: (error as Error).message };
  }
  return nativeTransfers(native);
}

/** Without `destroyOnReturn` a refusal in the middle would cut the connection, and its reason with it. */
export function piecesOf(request: IncomingMessage): AsyncIterable<Uint8Array> {
  return request.iterator({ destroyOnReturn: false });
}
