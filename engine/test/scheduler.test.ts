import { arenaPages, type ModelFacts, pageTokens } from "@kernlock/policies/compatibility";
import { describe, expect, test } from "vitest";
import { createScheduler, following, isDone, nextStep, type Part, retire, type Sequence } from "../host/scheduler.ts";

const model = { layers: ["sliding", "full"], slidingWindow: 100 } as unknown as ModelFacts;
const limitsOf = (over: Partial<Limits> = {}): Limits => ({
  ...{ maxContext: 1000, maxSequences: 4, maxBatchTokens: 64, maxRows: 64, workers: 1 },
  ...over,
});
type Limits = Parameters<typeof createScheduler>[1];

const scheduler = (limits = limitsOf(), of = model) => createScheduler<Sequence>(of, limits, arenaPages(of, limits));

function sequence(promptLength: number, maxNewTokens: number, wantLogits = false): Sequence {
  return {
    tokens: Array.from({ length: promptLength }, (_, i) => i),
    promptLength,
    maxNewTokens,
    wantLogits,
    computed: 0,
    finish: maxNewTokens === 0 ? "length" : null,
    tables: null,
  };
}

/** What the engine does after a step, with a token out of nowhere. */
function advance(parts: readonly Part[]): void {
  for (const { sequence: one, count } of parts) {
    one.computed += count;
    if (one.finish !== null || one.computed < one.tokens.length) continue;
    one.tokens.push(7);
    if (one.tokens.length - one.promptLength === one.maxNewTokens) one.finish = "length";
  }
}

describe("order", () => {
  test("a prompt runs in chunks; only its last chunk samples", () => {
    const it = scheduler();
    it.waiting.push(sequence(150, 2));
    const seen: number[][] = [];
    for (let parts = nextStep(it); parts.length > 0; parts = nextStep(it)) {
      seen.push([parts[0]!.start, parts[0]!.count, parts[0]!.rows]);
      advance(parts);
      retire(it, isDone);
    }
    // The second new token ends the sequence, so it never runs through the model.
    expect(seen).toEqual([
      [0, 64, 0],
      [64, 64, 0],
      [128, 22, 1],
      [150, 1, 1],
    ]);
  });

  test("what decodes goes first, prompts fill the rest of the step", () => {
    const it = scheduler();
    it.waiting.push(sequence(5, 10));
    advance(nextStep(it));
    it.waiting.push(sequence(100, 1), sequence(3, 1));
    expect(nextStep(it).map(({ start, count }) => [start, count])).toEqual([
      [5, 1],
      [0, 63],
    ]);
  });

  test("first come, first served: nobody overtakes one that waits for pages", () => {
    const it = scheduler(limitsOf({ maxSequences: 2 }));
    const [a, b, c] = [sequence(900, 100), sequence(1000, 0, true), sequence(1, 1)];
    it.arenas.full.reserved = it.arenas.full.pages - 17;
    it.waiting.push(a!, b!, c!);
    nextStep(it);
    expect(it.running).toEqual([a]);
    expect(it.waiting).toEqual([b, c]);
  });

  test("with logits, every token gets a row and the last new token runs too", () => {
    const it = scheduler(limitsOf({ maxRows: 16 }));
    it.waiting.push(sequence(20, 1, true));
    const seen: number[][] = [];
    for (let parts = nextStep(it); parts.length > 0; parts = nextStep(it)) {
      seen.push([parts[0]!.count, parts[0]!.rows]);
      advance(parts);
      retire(it, isDone);
    }
    expect(seen).toEqual([
      [16, 16],
      [4, 4],
      [1, 1],
    ]);
  });

  test("rows run out: a prompt that would sample waits, sequences that decode do not", () => {
    const it = scheduler(limitsOf({ maxRows: 4 }));
    it.waiting.push(sequence(50, 0, true), sequence(3, 1));
    expect(nextStep(it).map(({ count, rows }) => [count, rows])).toEqual([[4, 4]]);
  });

  test("nothing to run: no step", () => {
    const it = scheduler();
    expect(nextStep(it)).toEqual([]);
    it.waiting.push(sequence(4, 0));
    expect(retire(it, isDone)).toHaveLength(1);
    expect(nextStep(it)).toEqual([]);
  });
});

describe("pages", () => {
  test("under random load, no page has two holders, every key a query sees is there, and all come back", () => {
    let state = 12345;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const it = scheduler(limitsOf({ maxContext: 700, maxSequences: 5, maxBatchTokens: 48 }));
    let toCome = 60;
    let steps = 0;
    while (toCome > 0 || it.waiting.length + it.running.length > 0) {
      while (toCome > 0 && random(3) === 0) {
        const prompt = 1 + random(500);
        it.waiting.push(sequence(prompt, random(Math.min(200, 700 - prompt)), random(4) === 0));
        toCome--;
      }
      retire(it, isDone);
      if (random(40) === 0) retire(it, (one) => one === it.running[0]);
      const parts = nextStep(it);
      expect(parts.reduce((sum, { count }) => sum + count, 0)).toBeLessThanOrEqual(48);
      for (const kind of ["full", "sliding"] as const) {
        const held = it.running.flatMap((one) => one.tables![kind].pages.filter((page) => page >= 0));
        expect(new Set(held).size).toBe(held.length);
        expect(held.length + it.arenas[kind].free.length).toBe(it.arenas[kind].pages);
        for (const { sequence: one, start, count } of parts) {
          const oldest = kind === "full" ? 0 : Math.max(0, start - (model.slidingWindow - 1));
          const needed = one.tables![kind].pages.slice(Math.floor(oldest / pageTokens));
          expect(needed.length * pageTokens + Math.floor(oldest / pageTokens) * pageTokens).toBeGreaterThanOrEqual(
            start + count,
          );
          expect(needed.every((page) => page >= 0)).toBe(true);
        }
      }
      advance(parts);
      steps++;
    }
    expect(steps).toBeGreaterThan(100);
    for (const arena of Object.values(it.arenas)) {
      expect(arena.free).toHaveLength(arena.pages);
      expect(arena.reserved).toBe(0);
    }
  });

  test("a sliding group holds no more than its window and one chunk, however long the sequence", () => {
    const it = scheduler(limitsOf({ maxContext: 100_000, maxSequences: 1 }));
    it.waiting.push(sequence(90_000, 1));
    let most = 0;
    for (let parts = nextStep(it); parts.length > 0; parts = nextStep(it)) {
      most = Math.max(most, it.arenas.sliding.pages - it.arenas.sliding.free.length);
      advance(parts);
      retire(it, isDone);
    }
    // 99 + 64 keys span at most 4 pages of 64.
    expect(it.arenas.sliding.pages).toBe(4);
    expect(most).toBeLessThanOrEqual(4);
  });

  test("a model without sliding layers needs none", () => {
    const it = scheduler(limitsOf(), { ...model, layers: ["full"] });
    it.waiting.push(sequence(10, 1));
    expect(it.arenas.sliding.pages).toBe(0);
    expect(nextStep(it)).toHaveLength(1);
  });
});

describe("the step after one that is at work", () => {
  const nobody = (): boolean => false;
  const decoding = (...left: number[]) => {
    const it = scheduler();
    it.waiting.push(...left.map((count) => sequence(3, count)));
    advance(nextStep(it));
    return { it, parts: nextStep(it) };
  };

  test("is the same sequences, a token further, with pages for it", () => {
    const { it, parts } = decoding(100, 100);
    expect(parts.map(({ start, count }) => [start, count])).toEqual([
      [3, 1],
      [3, 1],
    ]);
    let at: Part[] | null = parts;
    for (let step = 4; step < 80; step++) {
      const next: Part[] | null = following(it, at!, nobody);
      advance(at!);
      expect(next!.map(({ start, count, rows }) => [start, count, rows])).toEqual([
        [step, 1, 1],
        [step, 1, 1],
      ]);
      for (const { sequence: one } of next!) {
        const { full, sliding } = one.tables!;
        expect([full.pages.length, sliding.pages.length].map((pages) => pages * pageTokens > step)).toEqual([
          true,
          true,
        ]);
      }
      at = next;
    }
  });

  test("is none where one ends, has ended, is given up, enters, reads a prompt or wants its logits", () => {
    const last = decoding(5, 2);
    expect(following(last.it, last.parts, nobody)).toBeNull();
    const stopped = decoding(5, 5);
    stopped.parts[1]!.sequence.finish = "stop";
    expect(following(stopped.it, stopped.parts, nobody)).toBeNull();
    const given = decoding(5, 5);
    expect(following(given.it, given.parts, (one) => one === given.parts[0]!.sequence)).toBeNull();
    const entering = decoding(5, 5);
    entering.it.waiting.push(sequence(3, 3));
    expect(following(entering.it, entering.parts, nobody)).toBeNull();
    // One that waits and may not enter keeps nobody waiting.
    entering.it.arenas.full.reserved = entering.it.arenas.full.pages;
    expect(following(entering.it, entering.parts, nobody)).not.toBeNull();
    const prompt = scheduler();
    prompt.waiting.push(sequence(10, 5));
    expect(following(prompt, nextStep(prompt), nobody)).toBeNull();
    const logits = scheduler();
    logits.waiting.push(sequence(1, 5, true));
    expect(following(logits, nextStep(logits), nobody)).toBeNull();
  });

  test("under random load with stops, every step has its pages, and all come back", () => {
    let state = 99;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const it = scheduler(limitsOf({ maxContext: 700, maxSequences: 5, maxBatchTokens: 48 }));
    let toCome = 50;
    let handedOver = 0;
    let step: Part[] | null = null;
    while (toCome > 0 || it.waiting.length + it.running.length > 0) {
      if (toCome > 0 && random(20) === 0) {
        const prompt = 1 + random(300);
        it.waiting.push(sequence(prompt, random(200), random(6) === 0));
        toCome--;
      }
      if (step === null) {
        retire(it, isDone);
        const parts = nextStep(it);
        if (parts.length === 0) continue;
        step = parts;
      }
      const next: Part[] | null = following(it, step, nobody);
      if (next !== null) handedOver++;
      advance(step);
      for (const { sequence: one } of step) if (one.finish === null && random(60) === 0) one.finish = "stop";
      for (const kind of ["full", "sliding"] as const) {
        const held = it.running.flatMap((one) => one.tables![kind].pages.filter((page) => page >= 0));
        expect(new Set(held).size).toBe(held.length);
        expect(held.length + it.arenas[kind].free.length).toBe(it.arenas[kind].pages);
        for (const { sequence: one, start, count } of next ?? []) {
          const oldest = kind === "full" ? 0 : Math.max(0, start - (model.slidingWindow - 1));
          const first = Math.floor(oldest / pageTokens);
          const needed = one.tables![kind].pages.slice(first);
          expect((needed.length + first) * pageTokens).toBeGreaterThanOrEqual(start + count);
          expect(needed.every((page) => page >= 0)).toBe(true);
        }
      }
      step = next;
    }
    expect(handedOver).toBeGreaterThan(200);
    for (const arena of Object.values(it.arenas)) expect([arena.free.length, arena.reserved]).toEqual([arena.pages, 0]);
  });
});
