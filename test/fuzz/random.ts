/** A small generator with a seed: the same numbers every time, so that what was found can be found again. */
export interface Random {
  /** A whole number below n. */
  below(n: number): number;
  pick<T>(items: readonly T[]): T;
  readonly seed: number;
}

/** SplitMix32. */
export function random(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  const below = (n: number): number => Math.floor((next() / 2 ** 32) * n);
  return { below, pick: (items) => items[below(items.length)]!, seed };
}
