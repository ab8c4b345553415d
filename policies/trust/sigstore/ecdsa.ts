import type { KeyObject } from "node:crypto";
import { type Der, readAll, readOne } from "../verify/der.ts";

/**
 * ECDSA over a digest that is known while the message is not (FIPS 186-5, 6.4.2), which node:crypto cannot do. Only
 * public values go in, so time and branches may depend on them.
 */
interface Curve {
  readonly p: bigint;
  readonly n: bigint;
  readonly b: bigint;
  readonly g: Point;
}

/** Jacobian coordinates: (X/Z^2, Y/Z^3); Z = 0 is the point at infinity. */
type Point = readonly [bigint, bigint, bigint];

/** SP 800-186, 3.2.1.3; a = -3. */
const p256: Curve = {
  p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
  n: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  b: 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn,
  g: [
    0x6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296n,
    0x4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5n,
    1n,
  ],
};

/** Whether a DER signature by a P-256 key holds for a SHA-256 digest. False for any other key. */
export function verifyDigest(digest: Uint8Array, key: KeyObject, signature: Buffer): boolean {
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1" || digest.length !== 32) return false;
  const { p, n, b, g } = p256;
  const [r, s] = readSignature(signature) ?? [];
  if (r === undefined || s === undefined || r < 1n || r >= n || s < 1n || s >= n) return false;
  const jwk = key.export({ format: "jwk" });
  const q: Point = [fromBytes(Buffer.from(jwk.x!, "base64url")), fromBytes(Buffer.from(jwk.y!, "base64url")), 1n];
  if (mod(q[1] * q[1] - (q[0] ** 3n - 3n * q[0] + b), p) !== 0n) return false;
  const w = inverse(s, n);
  const sum = add(multiply(g, mod(fromBytes(digest) * w, n), p), multiply(q, mod(r * w, n), p), p);
  if (sum[2] === 0n) return false;
  const z = inverse(sum[2], p);
  return mod(mod(sum[0] * z * z, p), n) === r;
}

function readSignature(der: Buffer): bigint[] | undefined {
  try {
    const numbers = readAll(readOne(der, 0x30));
    return numbers.length === 2 ? numbers.map(readInteger) : undefined;
  } catch {
    return undefined;
  }
}

/** Positive and in the shortest form. */
function readInteger({ tag, body }: Der): bigint {
  const [first = 0x80, second = 0] = body;
  if (tag !== 2 || first >= 0x80 || (first === 0 && body.length > 1 && second < 0x80)) throw new RangeError("integer");
  return fromBytes(body);
}

function fromBytes(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
}

function mod(value: bigint, m: bigint): bigint {
  const rest = value % m;
  return rest < 0n ? rest + m : rest;
}

/** By Fermat: m is prime. */
function inverse(value: bigint, m: bigint): bigint {
  let result = 1n;
  let base = mod(value, m);
  for (let e = m - 2n; e > 0n; e >>= 1n) {
    if (e & 1n) result = (result * base) % m;
    base = (base * base) % m;
  }
  return result;
}

function double([x, y, z]: Point, p: bigint): Point {
  if (y === 0n || z === 0n) return [0n, 1n, 0n];
  const yy = mod(y * y, p);
  const s = mod(4n * x * yy, p);
  const zz = mod(z * z, p);
  const m = mod(3n * (x - zz) * (x + zz), p);
  const x3 = mod(m * m - 2n * s, p);
  return [x3, mod(m * (s - x3) - 8n * yy * yy, p), mod(2n * y * z, p)];
}

function add(a: Point, b: Point, p: bigint): Point {
  if (a[2] === 0n) return b;
  if (b[2] === 0n) return a;
  const az = mod(a[2] * a[2], p);
  const bz = mod(b[2] * b[2], p);
  const u = mod(a[0] * bz, p);
  const s = mod(a[1] * bz * b[2], p);
  const h = mod(b[0] * az - u, p);
  const r = mod(b[1] * az * a[2] - s, p);
  if (h === 0n) return r === 0n ? double(a, p) : [0n, 1n, 0n];
  const hh = mod(h * h, p);
  const v = mod(u * hh, p);
  const x = mod(r * r - h * hh - 2n * v, p);
  return [x, mod(r * (v - x) - s * h * hh, p), mod(a[2] * b[2] * h, p)];
}

function multiply(point: Point, scalar: bigint, p: bigint): Point {
  let result: Point = [0n, 1n, 0n];
  let base = point;
  for (let k = scalar; k > 0n; k >>= 1n) {
    if (k & 1n) result = add(result, base, p);
    base = double(base, p);
  }
  return result;
}
