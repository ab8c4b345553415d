/**
 * How near single ops come to what the same cores can read: bytes that an op must move, its time, and the share of a plain
 * multi-threaded read loop over as many bytes, measured in the same run right after it. Widths are those of gpt-oss-20b.
 */
import {
  createProgram,
  type Device,
  type Library,
  type Memory,
  openDevice,
  openLibrary,
} from "@kernlock/engine/native";
import { type ArgsOf, encodeArgs, layouts, type OpName } from "@kernlock/kernels/abi";
import { type VariantOp, workspaceBytes } from "@kernlock/kernels/format";
import { packageSource } from "../ops/compile.ts";
import { seeded } from "../ops/random.ts";

export interface OpTiming {
  readonly op: string;
  readonly shape: string;
  /** Bytes of weights or cache that one launch must read. */
  readonly bytes: number;
  /** Seconds of the fastest and of the median launch. */
  readonly best: number;
  readonly median: number;
  /** Bytes per second of the median launch and of the read loop. */
  readonly rate: number;
  readonly readRate: number;
  readonly share: number;
}

const [hidden, intermediate, heads, kvHeads, headDim, experts, topK, vocab] = [2880, 2880, 64, 8, 64, 32, 4, 201088];

/** Runs the table on a CPU device of `workers` threads; `only` picks rows by op name. */
export async function benchOps({ workers, only }: { workers?: number; only?: OpName } = {}): Promise<OpTiming[]> {
  const device = openDevice(workers === undefined ? { kind: "cpu" } : { kind: "cpu", workers });
  try {
    const cases = [linear, attention, mxfp4Moe, lmHead].filter((one) => only === undefined || one.op === only);
    const timings: OpTiming[] = [];
    for (const one of cases) timings.push(await one.run(device));
    return timings;
  } finally {
    device.close();
  }
}

/** A row of `| op | shape | MB | ms | GB/s | read loop GB/s | share |` for each timing. */
export function formatTimings(timings: readonly OpTiming[]): string {
  const head = ["| op | shape | MB moved | ms | GB/s | read loop GB/s | share |", "|---|---|---:|---:|---:|---:|---:|"];
  const rows = timings.map(({ op, shape, bytes, median, rate, readRate, share }) =>
    [
      "",
      ...[op, shape, (bytes / 1e6).toFixed(1), (median * 1e3).toFixed(2)],
      ...[(rate / 1e9).toFixed(1), (readRate / 1e9).toFixed(1), `${(share * 100).toFixed(0)} %`, ""],
    ]
      .join(" | ")
      .trim(),
  );
  return [...head, ...rows].join("\n");
}

interface Case {
  readonly op: OpName;
  run(device: Device): Promise<OpTiming>;
}

const linear: Case = {
  op: "o_proj",
  async run(device) {
    const bench = await Bench.open(device, "transformer-core", "o_proj");
    const inFeatures = heads * headDim;
    const weight = bench.bf16(hidden * inFeatures);
    return bench.time(`1 x ${inFeatures} -> ${hidden}, bf16`, weight, weight.size, {
      ...{ dtype: 0, stream_dtype: 0, tokens: 1, in_features: inFeatures, out_features: hidden },
      row_seq: bench.i32([0]),
      x: bench.f32(inFeatures),
      weight: weight.address,
      bias: 0n,
      out: bench.f32(hidden),
    });
  },
};

const attention: Case = {
  op: "attn_decode",
  async run(device) {
    const bench = await Bench.open(device, "fa3-sinks", "attn_decode");
    const depth = 4096;
    const pages = depth / 64;
    const kv = device.allocate(pages * 2 * kvHeads * 64 * headDim * 4);
    bench.fill(kv, new Uint8Array(seeded(2).normal(1 << 18).buffer as ArrayBuffer));
    return bench.time(`1 sequence at depth ${depth}, f32 cache`, kv, kv.size, {
      ...{ dtype: 0, kv_dtype: 0, tokens: 1, seqs: 1, max_context: depth, heads, kv_heads: kvHeads, head_dim: headDim },
      ...{ window: 0, scale: 1 / 8, block_table_stride: pages },
      context: bench.i32([depth]),
      block_table: bench.i32(seeded(1).shuffled(pages)),
      q: bench.f32(heads * headDim),
      kv: kv.address,
      sinks: bench.bf16(heads).address,
      out: bench.f32(heads * headDim),
      ...bench.workspace({ tokens: 1, seqs: 1, max_context: depth, heads, kv_heads: kvHeads, head_dim: headDim }),
    });
  },
};

const mxfp4Moe: Case = {
  op: "moe",
  async run(device) {
    const bench = await Bench.open(device, "mxfp4", "moe");
    const [up, down] = [2 * intermediate * hidden, hidden * intermediate];
    const [upWeight, upScales] = bench.mxfp4(experts * up);
    const [downWeight, downScales] = bench.mxfp4(experts * down);
    const moved = (topK * (up + down) * 17) / 32;
    return bench.time(`1 token, ${topK} of ${experts} experts, ${hidden} x ${intermediate}`, upWeight, moved, {
      ...{ dtype: 0, stream_dtype: 0, tokens: 1, hidden, intermediate, experts, top_k: topK },
      ...{ expert_begin: 0, expert_end: experts, partial: 0, layout: layouts["mxfp4.rows"], alpha: 1.702, limit: 7 },
      row_seq: bench.i32([0]),
      x: bench.f32(hidden),
      expert_ids: bench.i32([3, 17, 8, 29]),
      expert_weights: bench.f32(topK),
      up_weight: upWeight.address,
      up_scales: upScales.address,
      up_bias: bench.bf16(experts * 2 * intermediate).address,
      down_weight: downWeight.address,
      down_scales: downScales.address,
      down_bias: bench.bf16(experts * hidden).address,
      out: bench.f32(hidden),
      ...bench.workspace({ tokens: 1, hidden, intermediate, experts, top_k: topK }),
    });
  },
};

const lmHead: Case = {
  op: "lm_head",
  async run(device) {
    const bench = await Bench.open(device, "transformer-core", "lm_head");
    const weight = bench.bf16(vocab * hidden);
    return bench.time(`1 row, ${vocab} x ${hidden}, bf16`, weight, weight.size, {
      ...{ dtype: 0, rows: 1, hidden, vocab },
      sample_rows: bench.i32([0]),
      x: bench.f32(hidden),
      weight: weight.address,
      logits: bench.f32(vocab),
    });
  },
};

/** One op of one package with its memory. */
class Bench<N extends OpName> {
  readonly #device: Device;
  readonly #op: N;
  readonly #library: Library;
  readonly #facts: VariantOp;
  readonly #owned: Memory[] = [];

  private constructor(device: Device, op: N, library: Library, facts: VariantOp) {
    this.#device = device;
    this.#op = op;
    this.#library = library;
    this.#facts = facts;
  }

  static async open<N extends OpName>(device: Device, packageName: string, op: N): Promise<Bench<N>> {
    const source = packageSource(packageName);
    const library = openLibrary(await source.open(), device);
    return new Bench(device, op, library, source.ops.find(({ name }) => name === op)!);
  }

  /** Launches until two seconds or 200 launches have passed, reads as many bytes plainly, and frees everything. */
  time(shape: string, read: Memory, bytes: number, args: ArgsOf<N>): OpTiming {
    const index = this.#library.ops.findIndex(({ op }) => op === this.#op);
    const step = { library: this.#library, index, args: encodeArgs(this.#op, args) };
    const program = createProgram(this.#device, [step]);
    program.runSync();
    const seconds: number[] = [];
    const end = performance.now() + 2000;
    while (seconds.length < 200 && (performance.now() < end || seconds.length < 5)) {
      const start = performance.now();
      program.runSync();
      seconds.push((performance.now() - start) / 1e3);
    }
    seconds.sort((a, b) => a - b);
    const [best, median] = [seconds[0]!, seconds[seconds.length >> 1]!];
    const readRate = bytes / this.#device.timeReadLoop(read.address, Math.min(bytes, read.size), 10);
    for (const memory of new Set([read, ...this.#owned])) memory.free();
    this.#library.close();
    const rate = bytes / median;
    return { op: this.#library.ops[index]!.name, shape, bytes, best, median, rate, readRate, share: rate / readRate };
  }

  #own(bytes: number): Memory {
    const memory = this.#device.allocate(bytes);
    this.#owned.push(memory);
    return memory;
  }

  /** Repeats a pattern over a whole memory. */
  fill(memory: Memory, pattern: Uint8Array): void {
    for (let at = 0; at < memory.size; at += pattern.length) {
      memory.view(at, Math.min(pattern.length, memory.size - at)).set(pattern.subarray(0, memory.size - at));
    }
  }

  f32(count: number): bigint {
    const memory = this.#own(count * 4);
    this.fill(memory, new Uint8Array(seeded(count).normal(Math.min(count, 1 << 16)).buffer as ArrayBuffer));
    return memory.address;
  }

  i32(values: readonly number[]): bigint {
    const memory = this.#own(values.length * 4);
    memory.bytes.set(new Uint8Array(Int32Array.from(values).buffer));
    return memory.address;
  }

  bf16(count: number): Memory {
    const memory = this.#own(count * 2);
    const values = new Uint32Array(seeded(count).normal(1 << 18, 0.1).buffer);
    this.fill(memory, new Uint8Array(Uint16Array.from(values, (bits) => bits >>> 16).buffer));
    return memory;
  }

  mxfp4(count: number): [blocks: Memory, scales: Memory] {
    const [blocks, scales] = [this.#own(count / 2), this.#own(count / 32)];
    this.fill(blocks, seeded(count).bytes(1 << 18));
    this.fill(scales, seeded(count).bytes(1 << 16, 118, 122));
    return [blocks, scales];
  }

  workspace(sizes: Readonly<Record<string, number>>) {
    const dims = { ...sizes, workers: this.#device.workers };
    const [scratch, state] = (["scratch", "state"] as const).map((kind) =>
      workspaceBytes(this.#facts.workspace[kind], dims),
    );
    return {
      scratch: scratch ? this.#own(scratch).address : 0n,
      scratch_bytes: BigInt(scratch!),
      state: state ? this.#own(state).address : 0n,
      state_bytes: BigInt(state!),
    };
  }
}

if (import.meta.main) console.log(formatTimings(await benchOps()));
