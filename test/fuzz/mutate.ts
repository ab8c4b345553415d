import type { Random } from "./random.ts";

const tokens = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "\\",
  "\\u0000",
  "\\ud800",
  "null",
  "true",
  "1e999",
  "-1",
  "-0",
  "9007199254740993",
  '"__proto__":',
  '"constructor":',
  '"schema":',
  "../",
  "\u0000",
  "\ufeff",
  "\u202e",
  "\n",
  "- ",
  "&a ",
  "*a",
  "!!js ",
  "---\n",
  "sha256:",
  "=",
  "==",
  "//",
  "\u2028",
].map((text) => Buffer.from(text));
const numbers = [0, 1, 0x7f, 0x80, 0xff, 0xfffe, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** One byte-level change, or a few of them on top of each other. */
export function mutateBytes(input: Uint8Array, r: Random, others: readonly Uint8Array[] = []): Buffer {
  let bytes: Buffer = Buffer.from(input);
  for (let n = 1 + (r.below(4) === 0 ? r.below(6) : 0); n > 0; n--) bytes = once(bytes, r, others);
  return bytes;
}

function once(bytes: Buffer, r: Random, others: readonly Uint8Array[]): Buffer {
  if (bytes.length === 0) return Buffer.from([r.below(256)]);
  const at = r.below(bytes.length);
  const span = Math.min(bytes.length - at, 1 + r.below(r.below(8) === 0 ? 256 : 8));
  const copy = Buffer.from(bytes);
  switch (r.below(10)) {
    case 0:
      copy[at]! ^= 1 << r.below(8);
      return copy;
    case 1:
      copy[at] = r.below(256);
      return copy;
    case 2:
      copy[at] = (copy[at]! + r.pick([1, 255, 16, 240])) & 255;
      return copy;
    case 3: {
      const width = r.pick([2, 4, 8]);
      if (at + width > copy.length) return copy;
      const value = r.pick(numbers);
      if (width === 2) copy.writeUInt16LE(value & 0xffff, at);
      else if (width === 4) copy.writeUInt32LE(value, at);
      else copy.writeBigUInt64LE(r.below(2) ? BigInt(value) << 32n : BigInt(value), at);
      return copy;
    }
    case 4:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + span)]);
    case 5:
      return Buffer.concat([bytes.subarray(0, at + span), bytes.subarray(at)]);
    case 6:
      return Buffer.concat([bytes.subarray(0, at), r.pick(tokens), bytes.subarray(at + r.below(2) * span)]);
    case 7:
      return bytes.subarray(0, at);
    case 8: {
      const other = others.length > 0 ? r.pick(others) : bytes;
      const from = r.below(other.length + 1);
      return Buffer.concat([bytes.subarray(0, at), other.subarray(from, from + 1 + r.below(512)), bytes.subarray(at)]);
    }
    default: {
      const target = r.below(bytes.length - span + 1);
      copy.copyWithin(target, at, at + span);
      return copy;
    }
  }
}

// biome-ignore lint/suspicious/noExplicitAny: what is changed here has every shape
type Loose = any;

/** Changes exactly one field of a JSON document, wherever it is: its value, its name, or whether it is there. */
export function mutateField(document: Loose, r: Random): Loose {
  const root = structuredClone({ document });
  const places: [Loose, string | number][] = [];
  const walk = (value: Loose): void => {
    if (typeof value !== "object" || value === null) return;
    for (const key of Object.keys(value)) {
      places.push([value, Array.isArray(value) ? Number(key) : key]);
      walk(value[key]);
    }
  };
  walk(root);
  const [parent, key] = r.pick(places);
  switch (r.below(6)) {
    case 0:
      if (parent === root) parent[key] = null;
      else if (Array.isArray(parent)) parent.splice(key as number, 1);
      else delete parent[key];
      break;
    case 1: {
      const [from, name] = r.pick(places);
      parent[key] = structuredClone(from[name]);
      break;
    }
    case 2:
      if (Array.isArray(parent)) parent.push(structuredClone(parent[key as number]));
      else parent[`${key}x`] = parent[key];
      break;
    default:
      parent[key] = otherValue(parent[key], r);
  }
  return root.document;
}

function otherValue(value: Loose, r: Random): Loose {
  const any = [
    null,
    true,
    false,
    0,
    -1,
    1.5,
    2 ** 53,
    1e300,
    "",
    "x",
    "../x",
    "\u0000",
    "__proto__",
    [],
    {},
    [null],
    "a".repeat(5000),
  ];
  if (typeof value === "number" && r.below(2))
    return r.pick([value + 1, value - 1, -value, value * 2 ** 32, value + 0.5]);
  if (typeof value === "string" && value.length > 0 && r.below(2)) {
    const at = r.below(value.length);
    const letter = r.pick([..."0aZ/.:- \u0000\u00e9\u0430"]);
    return value.slice(0, at) + letter + value.slice(at + r.below(2));
  }
  return r.pick(any);
}
