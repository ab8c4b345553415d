/** Times one op of one package on one kind of launch. */
import {
  type ArgsOf,
  costBytes,
  costOf,
  type Dim,
  dims,
  dtypes,
  encodeArgs,
  type Field,
  type Layout,
  layouts,
  type OpName,
  ops,
} from "@kernlock/kernels/abi";
import { type VariantOp, workspaceBytes } from "@kernlock/kernels/format";
import { type Mode, modeTypes } from "@kernlock/policies/compatibility";
import { createProgram, type Device, type Memory, writeMemory } from "../../native/index.ts";
import { type LoadedOp, launch } from "../kernels.ts";
import type { Pointer } from "../selftest/arrays.ts";
import { seeded } from "../selftest/random.ts";
import { arrayBytes, elementFor, exactContent, expertsIn, fillPattern } from "./arrays.ts";
import type { BenchCase } from "./shapes.ts";

export interface OpTime {
  /** Of one launch: the median over the runs, and the fastest. */
  readonly ms: number;
  readonly best: number;
  readonly runs: number;
  /** Launches of one run, one after another, each with weights of its own as far as memory goes. */
  readonly launches: number;
  readonly bytes: number;
  readonly operations: number;
  /** Mean number of different experts; 0 where there are none. */
  readonly experts: number;
}

/** Arrays of which each launch of a run has its own, so that no cache brings them: weights, and the KV cache. */
const isOwn = ({ name, access }: Pointer): boolean =>
  (access === "in" && /(weight|bias|scales|blocks|src)$/.test(name)) || name === "kv";

interface Budget {
  /** Milliseconds of timed runs. */
  readonly ms: number;
  /** Bytes that a run should read in all, and that its arrays may take. */
  readonly touch: number;
  readonly room: number;
}

export const budgetOf = (device: Device, quick: boolean): Budget =>
  device.kind === "cuda"
    ? { ms: quick ? 30 : 150, touch: 512 << 20, room: 4 * 2 ** 30 }
    : { ms: quick ? 60 : 500, touch: quick ? 32 << 20 : 256 << 20, room: 1 << 30 };

/** @throws KL_MEMORY_ALLOCATE, KL_OP_FAILED, KL_DEVICE_FAULT, KL_LAUNCH_SIZE */
export function timeOp(
  device: Device,
  op: LoadedOp,
  facts: VariantOp,
  one: BenchCase,
  { mode, layout, budget, seed }: { mode: Mode; layout: Layout; budget: Budget; seed: number },
): OpTime {
  const types = modeTypes[mode];
  const scalars: Record<string, number> = {
    ...one.sizes,
    dtype: dtypes[types.activation],
    stream_dtype: dtypes[types.stream],
    kv_dtype: dtypes[types.kv],
    layout: layouts[layout],
    workers: device.workers,
  };
  const known: Partial<Record<Dim, number>> = {};
  for (const dim of dims) if (scalars[dim] !== undefined) known[dim] = scalars[dim];
  scalars.scratch_bytes = workspaceBytes(facts.workspace.scratch, known);
  scalars.state_bytes = workspaceBytes(facts.workspace.state, known);

  const fields: readonly Field[] = ops[one.op].fields;
  const pointers = fields.filter((field): field is Pointer => field.kind === "ptr");
  const sizeOf = (field: Pointer): number => arrayBytes(field, elementFor(field, scalars), scalars, layout);
  const own = pointers.filter(isOwn).reduce((sum, field) => sum + sizeOf(field), 0);
  const least = costBytes(
    costOf(one.op, { ...one.cost, expertsUsed: Math.min(one.cost.experts, one.cost.topK * one.cost.tokens) }),
  );
  const launches = Math.min(16, Math.max(1, Math.ceil(budget.touch / Math.max(least, 1))));
  const copies = Math.max(1, Math.min(launches, Math.floor(budget.room / Math.max(own, 1))));

  const taken: Memory[] = [];
  const allocate = (bytes: number): Memory => {
    const memory = device.allocate(Math.max(64, Math.ceil(bytes)));
    taken.push(memory);
    return memory;
  };
  try {
    const random = seeded(seed);
    let drawn = 0;
    const made = new Map<string, bigint[]>();
    for (const field of pointers) {
      const { name, access, nullable } = field;
      const bytes = sizeOf(field);
      const empty =
        bytes === 0 || (nullable && access === "out") || (name.endsWith("_scales") && layout !== "mxfp4.rows");
      if (empty) {
        made.set(name, [0n]);
        continue;
      }
      const decode = one.sizes.seqs === one.tokens;
      const exact = access === "in" ? exactContent(name, one.op, one.sizes, decode, random) : null;
      const count = name === "expert_ids" && exact !== null ? launches : isOwn(field) ? copies : 1;
      made.set(
        name,
        Array.from({ length: count }, (_, i) => {
          const memory = allocate(bytes);
          if (exact !== null) {
            const content = i === 0 ? exact : exactContent(name, one.op, one.sizes, decode, random)!;
            if (name === "expert_ids") drawn += expertsIn(content) / count;
            writeMemory(device, memory, content);
          } else if (access === "in" || access === "inout") {
            fillPattern(device, memory, name, elementFor(field, scalars), scalars.layout!);
          }
          return memory.address;
        }),
      );
    }
    const steps = Array.from({ length: launches }, (_, i) => {
      const args: Record<string, number | bigint> = {};
      for (const field of fields) {
        const places = made.get(field.name);
        if (places !== undefined && field.kind === "ptr") args[field.name] = places[i % places.length]!;
        else args[field.name] = field.kind === "u64" ? BigInt(scalars[field.name] ?? 0) : (scalars[field.name] ?? 0);
      }
      return launch(op, encodeArgs(one.op, args as unknown as ArgsOf<OpName>));
    }).flat();
    const program = createProgram(device, steps);
    const [first = 1] = program.time(1);
    const runs = Math.max(3, Math.min(200, Math.floor(budget.ms / Math.max(first, 1e-3))));
    const times = program.time(runs).sort((a, b) => a - b);
    const cost = costOf(one.op, { ...one.cost, expertsUsed: drawn });
    return {
      ms: times[times.length >> 1]! / launches,
      best: times[0]! / launches,
      ...{ runs, launches, bytes: costBytes(cost), operations: cost.operations, experts: drawn },
    };
  } finally {
    for (const memory of taken) memory.free();
  }
}
