/**
 * Weights on their way from files to a GPU. Bytes are read by several threads into a ring of pinned memory, copied from
 * there, and prepared by ops on the device, all three at once; only the ring is ever held besides the result.
 */
import { fail } from "@kernlock/kernels/format";
import { addon, type UploadTimes } from "./addon.ts";
import { type Device, deviceHandle } from "./device.ts";
import type { Memory } from "./memory.ts";
import { nativeStep, type Step, stepError } from "./program.ts";

export type { UploadTimes } from "./addon.ts";

/** Bytes of an open file. A byte of at least `refuse` is refused; 256: none is. */
export interface Source {
  readonly name: string;
  readonly fd: number;
  readonly offset: number;
  readonly bytes: number;
  readonly refuse: number;
}

export interface UploadOptions {
  /** Bytes of one slot of the ring; what is staged at once must fit. */
  readonly slotBytes: number;
  readonly slots: number;
  /** Threads that read, each so many bytes at a time. */
  readonly readers: number;
  readonly partBytes: number;
  /** Pinned memory that is there already, and is freed afterwards; other is taken where it is too small. */
  readonly pinned?: Memory | undefined;
  /** False: one slot after another, for comparison. */
  readonly overlap: boolean;
}

export interface Upload {
  /** Bytes that one `stage` may bring. */
  readonly slotBytes: number;
  /** Brings a source to its place in device memory. */
  keep(source: Source, to: bigint): void;
  /** Brings sources to staging memory on the device and launches what reads them there. */
  stage(sources: readonly Source[], launches: (at: readonly bigint[]) => readonly Step[]): void;
  /** Does it all. `onBytes` hears how many bytes are read. @throws KL_MODEL_TRUNCATED, KL_OP_FAILED, KL_DEVICE_FAULT; ByteRefused */
  run(onBytes: (done: number) => void): Promise<UploadTimes>;
}

/** A byte of a source that `refuse` forbids. */
export class ByteRefused extends Error {
  readonly source: Source;
  readonly index: number;
  readonly byte: number;
  constructor(source: Source, index: number, byte: number) {
    super(`byte ${index} of ${source.name} is ${byte}`);
    this.source = source;
    this.index = index;
    this.byte = byte;
  }
}

interface Piece {
  readonly source: Source;
  readonly to: bigint;
}
interface Job {
  readonly pieces: Piece[];
  readonly launches: Step[];
  used: number;
}

const rounded = (bytes: number): number => Math.ceil(bytes / 256) * 256;

/** @throws KL_MEMORY_ALLOCATE */
export function createUpload(device: Device, options: UploadOptions): Upload {
  const { slotBytes, slots, readers, partBytes, overlap } = options;
  const given = options.pinned;
  const enough = given !== undefined && given.size >= slotBytes * slots;
  if (!enough) given?.free();
  const pinned = enough ? given : device.allocateHost(slotBytes * slots, false);
  const staging = device.allocate(slotBytes * slots);
  const jobs: Job[] = [];
  /** The job that still has room, and where in its slot the next bytes go. */
  const jobFor = (bytes: number): Job => {
    const last = jobs.at(-1);
    if (last !== undefined && last.used + bytes <= slotBytes) return last;
    const job: Job = { pieces: [], launches: [], used: 0 };
    jobs.push(job);
    return job;
  };
  const add = (job: Job, source: Source, to: bigint | null): bigint => {
    const slot = (jobs.length - 1) % slots;
    const place = to ?? staging.address + BigInt(slot * slotBytes + job.used);
    job.pieces.push({ source, to: place });
    job.used += rounded(source.bytes);
    return place;
  };

  return {
    slotBytes,
    keep(source, to) {
      for (let at = 0; at < source.bytes; ) {
        const last = jobs.at(-1);
        const room = slotBytes - (last?.used ?? slotBytes);
        // A large source fills what is left of the slot; a small one is not cut.
        const bytes = Math.min(source.bytes - at, room >= 1 << 20 ? room : slotBytes);
        add(jobFor(rounded(bytes)), { ...source, offset: source.offset + at, bytes }, to + BigInt(at));
        at += bytes;
      }
    },
    stage(sources, launches) {
      const bytes = sources.reduce((sum, source) => sum + rounded(source.bytes), 0);
      if (bytes > slotBytes) throw new Error(`${bytes} bytes are staged at once, and a slot holds ${slotBytes}`);
      const job = jobFor(bytes);
      job.launches.push(...launches(sources.map((source) => add(job, source, null))));
    },
    async run(onBytes) {
      const native = {
        jobs: jobs.map(({ pieces, launches }) => ({
          pieces: pieces.map(({ source: { fd, offset, bytes, refuse }, to }) => ({ fd, offset, bytes, to, refuse })),
          launches: launches.map((launch, i) => nativeStep(device, launch, i)),
        })),
        slots: Array.from({ length: slots }, (_, i) => pinned.address + BigInt(i * slotBytes)),
        ...{ partBytes, readers, overlap },
      };
      const tell = (done: unknown): void => (typeof done === "number" ? onBytes(done) : undefined);
      const ended = await addon().runUpload(deviceHandle(device), native, tell);
      pinned.free();
      staging.free();
      if (!("code" in ended)) return ended;
      const failure = ended;
      const job = jobs[failure.job]!;
      if (failure.code === "KL_OP_FAILED") throw stepError(job.launches, failure.op);
      if (failure.code === "KL_MODEL_SCALE") {
        throw new ByteRefused(job.pieces[failure.piece]!.source, failure.index, failure.byte);
      }
      return fail(failure.code === "KL_MODEL_TRUNCATED" ? "KL_MODEL_TRUNCATED" : "KL_DEVICE_FAULT", failure.text, {
        remedy: "Load the model again; where it happens again, look at the file and at the driver's log.",
      });
    },
  };
}
