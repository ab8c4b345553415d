/**
 * Just enough DER (X.690) to read names and purposes of a certificate: definite lengths in their shortest form, one-byte
 * tags, no trailing bytes. Throws a RangeError on anything else; callers sit inside `bounded`.
 */
export interface Der {
  readonly tag: number;
  readonly body: Buffer;
}

/** A sequence of values that fills `bytes` exactly. */
export function readAll(bytes: Buffer): Der[] {
  const found: Der[] = [];
  let at = 0;
  while (at < bytes.length) {
    const tag = byteAt(bytes, at++);
    if ((tag & 0x1f) === 0x1f) throw new RangeError("long tags are not read");
    let length = byteAt(bytes, at++);
    if (length >= 0x80) {
      const size = length & 0x7f;
      if (size === 0 || size > 4) throw new RangeError("length is indefinite or too long");
      length = 0;
      for (let i = 0; i < size; i++) length = length * 256 + byteAt(bytes, at++);
      if (length < 0x80 || length < 256 ** (size - 1)) throw new RangeError("length is not in its shortest form");
    }
    if (length > bytes.length - at) throw new RangeError("value goes past the end");
    found.push({ tag, body: bytes.subarray(at, at + length) });
    at += length;
  }
  return found;
}

/** Exactly one value, which must have this tag. */
export function readOne(bytes: Buffer, tag: number): Buffer {
  const [value, ...rest] = readAll(bytes);
  if (value?.tag !== tag || rest.length > 0) throw new RangeError(`not exactly one value with tag ${tag}`);
  return value.body;
}

/** An object identifier in dotted form. */
export function readOid(body: Buffer): string {
  const arcs: bigint[] = [];
  let value = 0n;
  for (const [i, byte] of body.entries()) {
    if (value === 0n && byte === 0x80) throw new RangeError("object identifier is not in its shortest form");
    value = value * 128n + BigInt(byte & 0x7f);
    if (byte < 0x80) {
      arcs.push(value);
      value = 0n;
    } else if (i === body.length - 1) throw new RangeError("object identifier is cut short");
  }
  const [first] = arcs;
  if (first === undefined) throw new RangeError("object identifier is empty");
  const top = first < 80n ? first / 40n : 2n;
  return [top, first - top * 40n, ...arcs.slice(1)].join(".");
}

function byteAt(bytes: Buffer, at: number): number {
  const byte = bytes[at];
  if (byte === undefined) throw new RangeError("value is cut short");
  return byte;
}
