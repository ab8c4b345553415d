import type { OpName } from "@kernlock/kernels/abi";
import type { Device } from "./device.ts";

export interface LibraryOp {
  /** As in variant.json: `moe/cpp`. */
  readonly name: string;
  readonly op: OpName;
  /** Bytes of the argument struct. */
  readonly argsSize: number;
}

/** A kernel library with an instance open on one device. */
export interface Library {
  readonly device: Device;
  readonly ops: readonly LibraryOp[];
  close(): void;
}

/**
 * Loads the shared object behind an open descriptor and opens an instance of it on a device.
 * The descriptor is duplicated, so the caller may close its own.
 * @throws KL_LOAD_OPEN, KL_LOAD_IDENTITY, KL_LOAD_SYMBOL, KL_LOAD_ABI, KL_LOAD_INSTANCE
 */
export declare function openLibrary(fd: number, device: Device): Library;
