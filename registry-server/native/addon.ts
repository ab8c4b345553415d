import { createRequire } from "node:module";
import { buildAddon } from "@kernlock/kernels/build/addon";

/** Something that moves between a socket and a file. Kept as long as it is moved; not to be used after its end. */
export type Job = { readonly brand: unique symbol };
/** `error`: 0 or an errno; ENODATA: the file ended early. `moved`: bytes. */
export type Done = (error: number, moved: number) => void;

export interface Hash {
  update(bytes: Uint8Array): unknown;
  digest(encoding: "hex"): string;
}

/** addon.cc, function by function. Sockets do not block; files stay open until `done` is called. */
export interface Addon {
  readonly Sha256: new () => Hash;
  send(socket: number, file: number, offset: number, length: number, done: Done): Job;
  /** A body that ends early has moved less; ECONNRESET where it was cut; anything else is of the file. */
  receive(socket: number, file: number, offset: number, length: number, hash: Hash, done: Done): Job;
  /** Bytes that have left, or have arrived, also those that only the system has seen yet. */
  progress(job: Job): number;
  /** Shuts the socket down. What has arrived is still taken. */
  cancel(job: Job): void;
}

let loaded: Addon | undefined;

/** Path of the addon, built on first use. @throws KL_ADDON_* */
export const transfersAddonPath = (): string =>
  buildAddon({
    name: "transfers",
    folder: import.meta.dirname,
    sources: ["addon", "hash", "pool", "receive", "send"].map((name) => `${name}.cc`),
  });

/** @throws KL_ADDON_*, and whatever the system has against loading it */
export function addon(): Addon {
  loaded ??= createRequire(import.meta.url)(transfersAddonPath()) as Addon;
  return loaded;
}
