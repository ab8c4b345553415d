/** A request that follows the routing of another goes where that went, and says how often it would have gone elsewhere. */
import { defaultRequest, type Engine, type GenerateRequest, startEngine } from "@kernlock/engine";
import { openModel } from "@kernlock/engine/model";
import { expect, test } from "vitest";
import { models, sealedKernels } from "./engines.ts";

const layers = 4;

async function start(): Promise<Engine> {
  const model = openModel(models.tiny);
  try {
    expect(model.config.layers).toBe(layers);
    const request = defaultRequest({ maxSequences: 3, maxBatchTokens: 32, maxContext: 200 });
    return await startEngine({ kernels: await sealedKernels(), model, request });
  } finally {
    model.close();
  }
}

const ask = (
  tokenIds: readonly number[],
  maxNewTokens: number,
  more: Partial<GenerateRequest> = {},
): GenerateRequest => ({
  ...{ prompt: { tokenIds }, maxNewTokens, ignoreEos: true, sampling: { kind: "greedy" } },
  ...more,
});
const prompt = (seed: number): number[] => Array.from({ length: 40 }, (_, k) => (k * 31 + seed * 101) % 1000);

test("followed by the same tokens, nothing changes; by others, they go where they would not have gone", async () => {
  await using engine = await start();
  const kept = await engine.generateAll(
    [1, 2, 3].map((seed) => ask(prompt(seed), 20, { routing: { kind: "keep", name: `${seed}` } })),
  );
  const plain = await engine.generateAll([1, 2, 3].map((seed) => ask(prompt(seed), 20)));
  const ids = (items: typeof kept): (readonly number[])[] =>
    items.map((item) => {
      if (!item.ok) throw item.error;
      return item.value.result.token_ids;
    });
  // To keep it changes nothing.
  expect(ids(kept)).toEqual(ids(plain));

  const whole = [...prompt(2), ...ids(kept)[1]!.slice(0, -1)];
  await engine.watch("nothing");
  const own = await engine.generate(ask(whole, 0, { logits: "best", routing: { kind: "follow", name: "2" } }));
  expect(own.best!.ids.slice(39)).toEqual(ids(kept)[1]);
  const { routing } = await engine.watch("nothing");
  expect(routing.followed).toBe(layers * whole.length);
  expect(routing.otherwise).toBeLessThan(0.02 * routing.followed);

  const free = await engine.generate(ask(whole, 0, { logits: "best" }));
  expect((await engine.watch("nothing")).routing).toEqual({ followed: 0, otherwise: 0, furthest: 0 });
  const other = await engine.generate(ask(whole, 0, { logits: "best", routing: { kind: "follow", name: "3" } }));
  const forced = (await engine.watch("nothing")).routing;
  expect(forced.otherwise).toBeGreaterThan(0.5 * forced.followed);
  expect(forced.furthest).toBeGreaterThan(0);
  expect(other.best!.margins).not.toEqual(free.best!.margins);
}, 300_000);

test("what was never kept, or not so far, is refused, and the engine goes on", async () => {
  await using engine = await start();
  const wrong = { routing: { kind: "obey", name: "nobody" } } as unknown as Partial<GenerateRequest>;
  await expect(engine.generate(ask(prompt(1), 0, wrong))).rejects.toMatchObject({ code: "KL_ENGINE_REQUEST" });
  const follow = { routing: { kind: "follow", name: "nobody" } } as const;
  await expect(engine.generate(ask(prompt(1), 0, follow))).rejects.toMatchObject({ code: "KL_ENGINE_ROUTING" });
  await engine.generate(ask(prompt(1), 2, { routing: { kind: "keep", name: "nobody" } }));
  await engine.generate(ask(prompt(1), 2, follow));
  await expect(engine.generate(ask(prompt(1), 3, follow))).rejects.toMatchObject({
    code: "KL_ENGINE_ROUTING",
    details: { tokens: 42, kept: 41 },
  });
  // Kept again, from the beginning.
  await engine.generate(ask(prompt(1).slice(0, 9), 1, { routing: { kind: "keep", name: "nobody" } }));
  await expect(engine.generate(ask(prompt(1), 0, follow))).rejects.toMatchObject({ details: { kept: 9 } });
}, 300_000);
