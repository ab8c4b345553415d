/** How often somebody may ask: buckets that refill evenly, one a caller and class. Kept in memory, by each node for itself. */
import { fail } from "@kernlock/kernels/format";

/** Requests a minute; half a minute's worth may come at once. */
export interface RateLimits {
  /** GET and HEAD. */
  readonly read: number;
  readonly write: number;
  /** Token route, and requests whose credentials were refused; by address. */
  readonly login: number;
}

export const defaultLimits: RateLimits = { read: 12_000, write: 6_000, login: 60 };

export interface Limited {
  readonly limit: number;
  readonly remaining: number;
  /** Seconds until the bucket is full. */
  readonly reset: number;
}

export interface Limiter {
  /** Takes one. KL_REGISTRY_RATE_LIMIT with `details.retry_after` in seconds. */
  take(kind: keyof RateLimits, caller: string): Limited;
  /** KL_REGISTRY_RATE_LIMIT when nothing is left; takes nothing. */
  check(kind: keyof RateLimits, caller: string): void;
}

const maxCallers = 50_000;

/** `clock` gives milliseconds and never goes back. */
export function createLimiter(limits: RateLimits, clock: () => number = () => performance.now()): Limiter {
  const buckets = new Map<string, { left: number; at: number }>();
  const look = (kind: keyof RateLimits, caller: string) => {
    const size = Math.max(1, limits[kind] / 2);
    const perMs = limits[kind] / 60_000;
    const key = `${kind} ${caller}`;
    const now = clock();
    const found = buckets.get(key);
    const left = found === undefined ? size : Math.min(size, found.left + (now - found.at) * perMs);
    if (left < 1) {
      const seconds = Math.max(1, Math.ceil((1 - left) / perMs / 1000));
      fail("KL_REGISTRY_RATE_LIMIT", `Too many requests; at most ${limits[kind]} a minute are answered.`, {
        remedy: `Wait ${seconds} s.`,
        details: { retry_after: seconds, limit: limits[kind] },
      });
    }
    return { key, left, now, size, perMs };
  };
  return {
    take(kind, caller) {
      const { key, left, now, size, perMs } = look(kind, caller);
      // Full buckets say nothing; the oldest entries are the fullest.
      buckets.delete(key);
      if (buckets.size >= maxCallers) buckets.delete(buckets.keys().next().value!);
      buckets.set(key, { left: left - 1, at: now });
      return {
        limit: limits[kind],
        remaining: Math.floor(left - 1),
        reset: Math.ceil((size - left + 1) / perMs / 1000),
      };
    },
    check: (kind, caller) => void look(kind, caller),
  };
}
