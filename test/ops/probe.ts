import { join } from "node:path";
import type { Launch, Library, Memory } from "@kernlock/engine/native";
import { type ArgsOf, encodeArgs, type OpName } from "@kernlock/kernels/abi";
import { compileFile } from "./compile.ts";

/** A descriptor of the probe library, made with the given macros: `PROBE_FACTOR=3`. */
export const probe = (...macros: string[]): Promise<number> =>
  compileFile(
    join(import.meta.dirname, "probe.cc"),
    macros.map((macro) => `-D${macro}`),
  );

function step<N extends OpName>(library: Library, op: N, args: ArgsOf<N>): Launch {
  return { library, index: library.ops.findIndex((entry) => entry.op === op), args: encodeArgs(op, args) };
}

/** stream[i] += factor * x[i] */
export const scaleStep = (library: Library, x: Memory, stream: Memory): Launch =>
  step(library, "residual", {
    dtype: 0,
    stream_dtype: 0,
    tokens: 1,
    hidden: stream.size / 4,
    row_seq: x.address,
    x: x.address,
    stream: stream.address,
  });

/** Fails with a text. */
export const failingStep = (library: Library, any: Memory): Launch =>
  step(library, "embed", {
    stream_dtype: 0,
    tokens: 1,
    hidden: 1,
    vocab: 1,
    row_seq: any.address,
    token_ids: any.address,
    weight: any.address,
    out: any.address,
  });

/** Takes a while, then adds 1 to the first byte. */
export const slowStep = (library: Library, microseconds: number, counter: Memory): Launch =>
  step(library, "copy_rows", {
    rows: BigInt(microseconds),
    row_bytes: 1n,
    src_stride: 1n,
    dst_stride: 1n,
    src: counter.address,
    dst: counter.address,
  });

/** Counts in u16[workers + 1] which worker took how many of `tasks` tasks; the last one is for impossible workers. */
export const countingStep = (library: Library, tasks: number, workers: number, counts: Memory): Launch =>
  step(library, "transpose_experts", {
    experts: tasks,
    rows: 1,
    columns: workers,
    src: counts.address,
    dst: counts.address,
  });

/** Calls parallel_for inside parallel_for. */
export const nestingStep = (library: Library, any: Memory): Launch =>
  step(library, "mxfp4_dequantize", {
    rows: 1n,
    columns: 32,
    blocks: any.address,
    scales: any.address,
    dst: any.address,
  });
