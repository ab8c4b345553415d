import { type OpName, ops, type Scalar } from "./ops.ts";

/** A member of an argument struct. */
export interface Slot {
  readonly name: string;
  readonly kind: Scalar | "ptr" | "padding";
  readonly offset: number;
  readonly bytes: number;
}

export interface StructLayout {
  readonly bytes: number;
  /** Every member, in order and without gaps: `size` first, padding included. */
  readonly slots: readonly Slot[];
}

const bytesOf = { u32: 4, i32: 4, f32: 4, u64: 8, ptr: 8 } as const;

/** The C layout of `kl_<op>_args` on 64-bit machines: natural alignment, every gap an explicit `reserved` member. */
export function structLayout(op: OpName): StructLayout {
  const slots: Slot[] = [{ name: "size", kind: "u32", offset: 0, bytes: 4 }];
  let offset = 4;
  let gaps = 0;
  let alignment = 4;
  const align = (to: number) => {
    if (offset % to === 0) return;
    const bytes = to - (offset % to);
    slots.push({ name: `reserved${gaps++}`, kind: "padding", offset, bytes });
    offset += bytes;
  };
  for (const { name, kind } of ops[op].fields) {
    const bytes = bytesOf[kind];
    align(bytes);
    alignment = Math.max(alignment, bytes);
    slots.push({ name, kind, offset, bytes });
    offset += bytes;
  }
  align(alignment);
  return { bytes: offset, slots };
}
