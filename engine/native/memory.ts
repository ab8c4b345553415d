/** A range of device memory: allocated, or a file's bytes mapped read-only. */
export interface Memory {
  /** At least 64-byte aligned when allocated; wherever the bytes lie when mapped. */
  readonly address: bigint;
  readonly size: number;
  /** Bytes [offset, offset + length) as JavaScript sees them, without a copy. Writing to a mapped file's bytes crashes. */
  view(offset?: number, length?: number): Uint8Array;
  /** The whole range; only for sizes that one typed array can hold. */
  readonly bytes: Uint8Array;
  /** Gives the memory back; its views are empty from then on. No program that names it may run any more. */
  free(): void;
}
