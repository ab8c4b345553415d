/**
 * Where weights end up. On a CPU they are mapped and used where the files hold them; a GPU gets a copy. What an op has
 * to change first is described once, by rows, and done whole or slice by slice.
 */
import { fail } from "@kernlock/kernels/format";
import type { Model } from "../model/index.ts";
import {
  ByteRefused,
  createProgram,
  createUpload,
  type Device,
  type Memory,
  type Source,
  type UploadOptions,
  type UploadTimes,
} from "../native/index.ts";
import { type LoadedOp, launch } from "./kernels.ts";

/** Rows of weights that an op reads from the file and writes elsewhere; any multiple of `unit` rows may be done at a time. */
export interface RowJob {
  readonly op: LoadedOp;
  readonly rows: number;
  readonly unit: number;
  readonly sources: readonly { readonly tensor: string; readonly rowBytes: number }[];
  readonly to: bigint;
  /** Bytes of the result for so many rows. */
  readonly resultBytes: (rows: number) => number;
  readonly args: (rows: number, from: readonly bigint[], to: bigint) => Uint8Array;
}

export interface Placing {
  /** Where a tensor will lie, as it is in the file. */
  keep(tensor: string): bigint;
  /** Device memory for a result. */
  allocate(bytes: number): bigint;
  convert(job: RowJob): void;
  /** Does what was asked for, and says what of it was waiting; null where nothing was copied. @throws KL_MODEL_SCALE, KL_MODEL_TRUNCATED, KL_OP_FAILED, KL_DEVICE_FAULT */
  finish(onProgress: (done: number, total: number) => void): Promise<UploadTimes | null>;
}

export interface PlacingOptions {
  readonly model: Model;
  readonly device: Device;
  /** The smallest byte of a tensor that is refused; 256 where none is. */
  readonly refuse: (tensor: string) => number;
  readonly onRefused: (tensor: string, index: number, byte: number) => never;
}

/** Weights of a CPU: the files, mapped. */
export function placeMapped({ model, device, refuse, onRefused }: PlacingOptions): Placing {
  const files = new Map<number, Memory>();
  const jobs: RowJob[] = [];
  const touched = new Set<string>();
  const keep = (name: string): bigint => {
    const tensor = model.tensors.get(name)!;
    const file = model.files[tensor.file]!;
    const mapped = files.get(tensor.file) ?? device.mapFile(file.fd, 0, file.size);
    files.set(tensor.file, mapped);
    touched.add(name);
    return mapped.address + BigInt(tensor.offset);
  };
  return {
    keep,
    allocate: (bytes) => device.allocate(bytes).address,
    convert(job) {
      for (const { tensor } of job.sources) keep(tensor);
      jobs.push(job);
    },
    async finish(onProgress) {
      for (const tensor of touched) {
        for (let byte = 255; byte >= refuse(tensor); byte--) {
          const index = device.indexOfByte(keep(tensor), model.tensors.get(tensor)!.bytes, byte);
          if (index >= 0) onRefused(tensor, index, byte);
        }
      }
      const total = jobs.reduce((sum, job) => sum + job.resultBytes(job.rows), 0);
      let done = 0;
      for (const { op, rows, sources, to, resultBytes, args } of jobs) {
        const from = sources.map(({ tensor }) => keep(tensor));
        await createProgram(device, launch(op, args(rows, from, to))).run();
        done += resultBytes(rows);
        onProgress(done, total);
      }
      return null;
    },
  };
}

/** Weights of a GPU: copied once, read in parallel and prepared on the way. */
export function placeUploaded(options: PlacingOptions & { readonly ring: UploadOptions }): Placing {
  const { model, device, refuse, onRefused, ring } = options;
  const upload = createUpload(device, ring);
  const kept = new Map<string, bigint>();
  let total = 0;
  const source = (name: string, from: number, bytes: number): Source => {
    const tensor = model.tensors.get(name)!;
    total += bytes;
    return { name, fd: model.files[tensor.file]!.fd, offset: tensor.offset + from, bytes, refuse: refuse(name) };
  };
  return {
    keep(name) {
      const tensor = model.tensors.get(name)!;
      // Two names may stand for one tensor.
      const key = `${tensor.file} ${tensor.offset}`;
      const known = kept.get(key);
      if (known !== undefined) return known;
      const to = device.allocate(tensor.bytes).address;
      upload.keep(source(name, 0, tensor.bytes), to);
      kept.set(key, to);
      return to;
    },
    allocate: (bytes) => device.allocate(bytes).address,
    convert({ op, rows, unit, sources, to, resultBytes, args }) {
      const perRow = sources.reduce((sum, { rowBytes }) => sum + rowBytes, 0);
      const room = upload.slotBytes - 256 * sources.length;
      const slice = Math.min(rows, Math.floor(room / (perRow * unit)) * unit);
      if (slice === 0)
        fail("KL_ENGINE_INTERNAL", `A slice of ${sources[0]?.tensor} is larger than its staging memory.`);
      for (let row = 0; row < rows; row += slice) {
        const count = Math.min(slice, rows - row);
        const pieces = sources.map(({ tensor, rowBytes }) => source(tensor, row * rowBytes, count * rowBytes));
        const result = to + BigInt(resultBytes(row));
        upload.stage(pieces, (from) => launch(op, args(count, from, result)).map((step) => ({ ...step, pdl: false })));
      }
    },
    async finish(onProgress) {
      try {
        return await upload.run((done) => onProgress(done, total));
      } catch (error) {
        if (!(error instanceof ByteRefused)) throw error;
        const start = model.tensors.get(error.source.name)!.offset;
        return onRefused(error.source.name, error.source.offset - start + error.index, error.byte);
      }
    },
  };
}
