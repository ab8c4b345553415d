import { fail } from "@kernlock/kernels/format";
import { addon } from "./addon.ts";

/** A range of device memory: allocated, or a file's bytes mapped read-only. */
export interface Memory {
  /** At least 64-byte aligned when allocated; wherever the bytes lie when mapped. */
  readonly address: bigint;
  readonly size: number;
  /** Bytes [offset, offset + length) as JavaScript sees them, without a copy. Writing to a mapped file's bytes crashes. */
  view(offset?: number, length?: number): Uint8Array;
  /** The whole range; as one array. */
  readonly bytes: Uint8Array;
  /** Gives the memory back; its views are empty from then on. No program that names it may run any more. */
  free(): void;
}

/** The range as one ArrayBuffer, made on first use and only once: V8 must not be handed the same address twice. */
export function memory(address: bigint, size: number, release: () => void): Memory {
  let buffer: ArrayBuffer | undefined;
  let freed = false;
  const view = (offset = 0, length = size - offset): Uint8Array => {
    if (freed) fail("KL_DEVICE_CLOSED", "The memory has been freed.");
    if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
      fail("KL_MEMORY_RANGE", `Bytes ${offset} to ${offset + length} lie outside memory of ${size} bytes.`);
    }
    buffer ??= addon().arrayBuffer(address, size);
    return new Uint8Array(buffer, offset, length);
  };
  return {
    address,
    size,
    view,
    get bytes() {
      return view();
    },
    free() {
      if (freed) return;
      freed = true;
      if (buffer !== undefined) addon().detach(buffer);
      release();
    },
  };
}

/** Memory of a GPU: it has an address, and JavaScript cannot see its bytes. */
export function deviceMemory(address: bigint, size: number, release: () => void): Memory {
  let freed = false;
  const hidden = (): never =>
    fail("KL_MEMORY_RANGE", "The memory lies on the device; copy from it to memory of this process first.");
  return {
    address,
    size,
    view: hidden,
    get bytes() {
      return hidden();
    },
    free() {
      if (!freed) release();
      freed = true;
    },
  };
}
