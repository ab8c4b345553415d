/** Ops of device images: a package says as data how its kernels are launched, and this turns that into launches. */
import { type Dim, dims, dtypes, layouts, type OpName, structLayout } from "@kernlock/kernels/abi";
import {
  extentValue,
  fail,
  gridOf,
  type Launch,
  type LaunchParam,
  type VariantOp,
  workspaceBytes,
} from "@kernlock/kernels/format";
import type { Image, ImageLaunch } from "../native/index.ts";

/** An op of device images, ready to be launched. */
export interface ImageOp {
  readonly facts: VariantOp & { readonly launch: Launch };
  /** The op's images by path. */
  readonly images: ReadonlyMap<string, Image>;
  /** Memory that kernels write and nobody reads. */
  readonly sink: bigint;
}

/** The launches of an op for encoded arguments. @throws KL_LAUNCH_SIZE */
export function imageLaunches({ facts, images, sink }: ImageOp, args: Uint8Array): ImageLaunch[] {
  const read = fieldReader(facts.name, args);
  const sizes: Partial<Record<Dim, number>> = {};
  for (const dim of dims) if (read.has(dim)) sizes[dim] = Number(read.number(dim));
  const numbered = { dtype: dtypes, stream_dtype: dtypes, kv_dtype: dtypes, layout: layouts } as const;

  const holds = ({ when }: Launch["steps"][number]): boolean => {
    for (const [field, numbers] of Object.entries(numbered)) {
      const wanted = when?.[field as keyof typeof numbered];
      if (wanted !== undefined && Number(read.number(field)) !== (numbers as Record<string, number>)[wanted])
        return false;
    }
    return Object.entries(when?.sizes ?? {}).every(([dim, range]) => {
      const size = Number(read.number(dim));
      return size >= (range.min ?? 0) && size <= (range.max ?? Number.POSITIVE_INFINITY);
    });
  };

  const encoded = (param: LaunchParam): { bytes: 4 | 8; write: (view: DataView, at: number) => void } => {
    const address = (value: bigint) => ({ bytes: 8 as const, write: put64(value) });
    switch (param.kind) {
      case "argument":
        return read.raw(param.name);
      case "extent":
      case "constant": {
        const value = param.kind === "extent" ? extentValue(param.value, sizes) : param.value;
        if (param.type === "i64") return address(BigInt(value));
        const write = (view: DataView, at: number): void =>
          param.type === "f32" ? view.setFloat32(at, value, true) : view.setInt32(at, value, true);
        return { bytes: 4, write };
      }
      case "scratch":
      case "state": {
        const before = facts.workspace[param.kind].slice(0, param.term);
        return address(read.number(param.kind) + BigInt(workspaceBytes(before, sizes)));
      }
      case "sink":
        return address(sink);
      case "null":
        return address(0n);
    }
  };

  const launches = facts.launch.steps.filter(holds).map((step): ImageLaunch => {
    const image = images.get(step.file) ?? fail("KL_LOAD_OP_TABLE", `The image ${step.file} was not loaded.`);
    const params = new Uint8Array(8 * step.params.length);
    const view = new DataView(params.buffer);
    const offsets: number[] = [];
    let end = 0;
    for (const { bytes, write } of step.params.map(encoded)) {
      const at = Math.ceil(end / bytes) * bytes;
      write(view, at);
      offsets.push(at);
      end = at + bytes;
    }
    return {
      image,
      op: `${facts.name}/${facts.path}`,
      kernel: image.kernel(step.entry, step.shared_bytes),
      grid: gridOf(step, sizes),
      block: step.block,
      sharedBytes: step.shared_bytes,
      params: params.subarray(0, end),
      offsets,
      pdl: facts.features.includes("pdl"),
    };
  });
  if (launches.length === 0) fail("KL_LAUNCH_SIZE", `${facts.name}/${facts.path} has no launch for these sizes.`);
  return launches;
}

const put64 = (value: bigint) => (view: DataView, at: number) => view.setBigUint64(at, BigInt.asUintN(64, value), true);

/** The fields of an encoded argument struct. */
function fieldReader(op: OpName, args: Uint8Array) {
  const slots = new Map(structLayout(op).slots.map((slot) => [slot.name, slot]));
  const view = new DataView(args.buffer, args.byteOffset, args.byteLength);
  const slotOf = (name: string) => slots.get(name) ?? fail("KL_ABI_ARGUMENT", `Op ${op} has no field ${name}.`);
  const isLong = (name: string): boolean => slotOf(name).bytes === 8;
  const number = (name: string): bigint =>
    isLong(name) ? view.getBigUint64(slotOf(name).offset, true) : BigInt(view.getUint32(slotOf(name).offset, true));
  return {
    has: (name: string): boolean => slots.has(name),
    number,
    raw(name: string) {
      const bytes = isLong(name) ? (8 as const) : (4 as const);
      const value = number(name);
      const write = (to: DataView, at: number): void =>
        bytes === 8 ? to.setBigUint64(at, value, true) : to.setUint32(at, Number(value), true);
      return { bytes, write };
    },
  };
}
