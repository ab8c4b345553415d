/**
 * Turns at what has a name. Who is `alone` at it has nobody beside; others may be at it together. Whoever asks is
 * served in the order of asking.
 */
export interface Turns {
  alone<T>(key: string, work: () => Promise<T>): Promise<T>;
  together<T>(key: string, work: () => Promise<T>): Promise<T>;
}

export function createTurns(): Turns {
  /** `alone` ends when the last one has ended who is alone, `all` when everybody has who came so far. */
  const ends = new Map<string, { alone: Promise<unknown>; all: Promise<unknown> }>();
  const nobody = { alone: Promise.resolve(), all: Promise.resolve() };
  const take = <T>(key: string, work: () => Promise<T>, shares: boolean): Promise<T> => {
    const before = ends.get(key) ?? nobody;
    const mine = (shares ? before.alone : before.all).then(work);
    const ended = mine.then(
      () => {},
      () => {},
    );
    const after = shares
      ? { alone: before.alone, all: Promise.all([before.all, ended]) }
      : { alone: ended, all: ended };
    ends.set(key, after);
    void after.all.then(() => {
      if (ends.get(key) === after) ends.delete(key);
    });
    return mine;
  };
  return {
    alone: (key, work) => take(key, work, false),
    together: (key, work) => take(key, work, true),
  };
}

/** Lets at most `most` works run at the same moment; the others wait in the order of asking. */
export function createGate(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let free = most;
  return async (work) => {
    if (free > 0) free--;
    else await new Promise<void>((enter) => waiting.push(enter));
    try {
      return await work();
    } finally {
      // A place that becomes free goes to whoever waits first, and is never free in between.
      const next = waiting.shift();
      if (next === undefined) free++;
      else next();
    }
  };
}
