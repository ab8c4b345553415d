import type { OpName, ops } from "../abi/ops.ts";

type FieldOf<N extends OpName> = (typeof ops)[N]["fields"][number];
type Ignored = "dtype" | "stream_dtype" | "kv_dtype" | "scratch" | "scratch_bytes" | "state" | "state_bytes";
type Nullable<F> = F extends { nullable: true } ? null : never;
type Input<F> = F extends { kind: "ptr"; shape: infer S }
  ? (S extends `u64[${string}` ? ArrayLike<bigint> : ArrayLike<number>) | Nullable<F>
  : number;

/** An op's arguments by the names of ops.ts: sizes as numbers, arrays as the values that they hold. */
export type ReferenceArgs<N extends OpName> = {
  readonly [F in FieldOf<N> as F extends { access: "out" } ? never : Exclude<F["name"], Ignored>]: Input<F>;
};

/**
 * What an op writes: fresh arrays in double precision. NaN stands for what an op leaves untouched in an `out` array (rows
 * that are not there); of an `inout` array the untouched values are copied.
 */
export type ReferenceResult<N extends OpName> = {
  readonly [F in FieldOf<N> as F extends { access: "out" | "inout" } ? F["name"] : never]: Float64Array;
};

export type Reference<N extends OpName> = (args: ReferenceArgs<N>) => ReferenceResult<N>;
