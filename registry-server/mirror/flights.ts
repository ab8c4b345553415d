/** What many ask for at once is fetched once. */
import { fail } from "@kernlock/kernels/format";

export interface Flights {
  /** Runs `work`, or joins the one under way under the same key. KL_MIRROR_BUSY when too many are. */
  share<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** Ends when all of those do that are under way under keys which begin so; never fails. */
  settled(prefix: string): Promise<void>;
  count(): number;
}

export function createFlights(most: number): Flights {
  const flights = new Map<string, Promise<unknown>>();
  return {
    share<T>(key: string, work: () => Promise<T>): Promise<T> {
      const found = flights.get(key) as Promise<T> | undefined;
      if (found !== undefined) return found;
      if (flights.size >= most) {
        fail("KL_MIRROR_BUSY", "The mirror is fetching as much as it may already.", {
          remedy: "Try again in a moment.",
          details: { retry_after: 5 },
        });
      }
      const flight = work().finally(() => flights.delete(key));
      flights.set(key, flight);
      // Whoever waits sees the error; it may be that nobody does.
      flight.catch(() => {});
      return flight;
    },
    async settled(prefix) {
      await Promise.allSettled([...flights].filter(([key]) => key.startsWith(prefix)).map(([, flight]) => flight));
    },
    count: () => flights.size,
  };
}

/** At most so many at a time; the others wait in turn. */
export function createSlots(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= most) await new Promise<void>((go) => waiting.push(go));
    else running++;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      // The place goes over to the next one as it is.
      if (next === undefined) running--;
      else next();
    }
  };
}

/** Remembers for a while; a clock that went back makes it forget. */
export function createMemory<T>(now: () => Date, most = 10_000) {
  const entries = new Map<string, { readonly at: number; readonly value: T }>();
  return {
    get(key: string, seconds: number): T | undefined {
      const found = entries.get(key);
      if (found === undefined) return undefined;
      const age = now().getTime() - found.at;
      if (age >= 0 && age < seconds * 1000) return found.value;
      entries.delete(key);
      return undefined;
    },
    set(key: string, value: T): void {
      entries.delete(key);
      if (entries.size >= most) entries.delete(entries.keys().next().value!);
      entries.set(key, { at: now().getTime(), value });
    },
    forget(prefix: string): void {
      for (const key of entries.keys()) if (key.startsWith(prefix)) entries.delete(key);
    },
  };
}

/** What `work` comes to, or undefined when it takes longer. It goes on all the same. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((done) => {
    timer = setTimeout(() => done(undefined), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
