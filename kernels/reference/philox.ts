/**
 * Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11).
 * Ten rounds of two 32 x 32 -> 64 bit products; the key grows by the Weyl constants between rounds.
 */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

function multiply(a: number, b: number): [high: number, low: number] {
  const product = BigInt(a) * BigInt(b);
  return [Number(product >> 32n), Number(product & 0xffffffffn)];
}

/** The number in [0, 1) that one sampling step draws: 24 bits of Philox keyed by the seed, at the step's counter. */
export function uniform(seed: bigint, counter: bigint): number {
  const word = (value: bigint, index: bigint) => Number((value >> (32n * index)) & 0xffffffffn);
  const [x0] = philox4x32([word(counter, 0n), word(counter, 1n), 0, 0], [word(seed, 0n), word(seed, 1n)]);
  return (x0 >>> 8) * 2 ** -24;
}
