/** Between the values that references speak of and the bytes that ops see. */
import { dtypes, type Field, layouts } from "@kernlock/kernels/abi";
import { fromBf16, toBf16 } from "@kernlock/kernels/reference";

export type Element = "f32" | "bf16" | "i32" | "u8" | "u64";
export type Values = ArrayLike<number> | ArrayLike<bigint>;
export type Pointer = Extract<Field, { kind: "ptr" }>;

/** What outputs are filled with before a launch: an element that still holds it was not written. */
export const poison = 0xa5;
export const bytesOf = { f32: 4, bf16: 2, i32: 4, u8: 1, u64: 8 } as const;

/** Element type of an array for the dtypes and layout in `scalars`. */
export function elementOf({ shape }: Pointer, scalars: Readonly<Record<string, number>>): Element {
  const kind = shape.slice(0, shape.indexOf("["));
  const byDtype = (dtype: number | undefined): Element => (dtype === dtypes.bf16 ? "bf16" : "f32");
  switch (kind) {
    case "act":
      return byDtype(scalars.dtype);
    case "stream":
      return byDtype(scalars.stream_dtype);
    case "kv":
      return byDtype(scalars.kv_dtype);
    case "layout":
      return scalars.layout === layouts["bf16.rows"] ? "bf16" : "u8";
    default:
      return kind as Element;
  }
}

/** Sizes of a shape such as `act[tokens, heads, 64]`; products and sums in it are not followed and give NaN. */
export function dimensions(shape: string, sizes: Readonly<Record<string, unknown>>): number[] {
  const names = shape.slice(shape.indexOf("[") + 1, -1).split(", ");
  return names.map((name) => Number(sizes[name] ?? name));
}

export function encode(values: Values, element: Element): Uint8Array {
  const numbers = values as ArrayLike<number>;
  switch (element) {
    case "f32":
      return bytes(Float32Array.from(numbers));
    case "bf16":
      return bytes(Uint16Array.from(numbers, toBf16));
    case "i32":
      return bytes(Int32Array.from(numbers));
    case "u8":
      return Uint8Array.from(numbers);
    case "u64":
      return bytes(BigUint64Array.from(values as ArrayLike<bigint>));
  }
}
const bytes = (array: { readonly buffer: ArrayBufferLike }): Uint8Array => new Uint8Array(array.buffer as ArrayBuffer);

/** Values of an array; where `poisoned`, elements that are still poison become NaN. */
export function decode(content: Uint8Array, element: Element, poisoned: boolean): Float64Array {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const width = bytesOf[element];
  const out = new Float64Array(content.length / width);
  for (let i = 0; i < out.length; i++) {
    const at = i * width;
    out[i] = poisoned && isPoison(content, at, width) ? Number.NaN : valueAt(view, at, element);
  }
  return out;
}

function isPoison(content: Uint8Array, at: number, width: number): boolean {
  for (let i = at; i < at + width; i++) if (content[i] !== poison) return false;
  return true;
}

function valueAt(view: DataView, at: number, element: Element): number {
  switch (element) {
    case "f32":
      return view.getFloat32(at, true);
    case "bf16":
      return fromBf16(view.getUint16(at, true));
    case "i32":
      return view.getInt32(at, true);
    case "u8":
      return view.getUint8(at);
    case "u64":
      return Number(view.getBigUint64(at, true));
  }
}
