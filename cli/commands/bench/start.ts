import type { Ring, Timeline } from "@kernlock/engine";
import { modelFacts } from "@kernlock/engine/model";
import { benchModel, type ModelFlags, wholeNumber, withModel } from "../../bench/models.ts";
import { fixed } from "../../bench/numbers.ts";
import { greedy, randomPrompt } from "../../bench/runs.ts";
import { openSession } from "../../bench/session.ts";
import { command, withProject } from "../../command.ts";
import { takeEarly } from "../../early.ts";
import { table } from "../../output.ts";
import { type PlanFlags, parseDevice, withPlanFlags } from "../../plan-flags.ts";
import type { ProjectOptions } from "../../project.ts";

interface RingFlags {
  readonly slots?: string;
  readonly slotMib?: string;
  readonly readers?: string;
  readonly partKib?: string;
}

export function benchStartCommand(): ReturnType<typeof command> {
  return command<ProjectOptions & PlanFlags & ModelFlags & RingFlags>(
    "start",
    "go from the start of this process to one token, and say where the time goes",
    (target) =>
      withModel(withPlanFlags(withProject(target)))
        .option("--slots <n>", "GPU: pieces of memory that weights pass through on their way from the files")
        .option("--slot-mib <n>", "MiB of each")
        .option("--readers <n>", "threads that read")
        .option("--part-kib <n>", "KiB that one of them reads at a time"),
    async ({ output, options }) => {
      // The clock began with the process.
      const own: Timeline = [];
      let since = 0;
      const mark = (name: string): void => {
        const now = performance.now();
        own.push({ name, at: since, ms: now - since });
        since = now;
      };
      mark("process and imports");
      await using early = await takeEarly(parseDevice(options.device ?? "auto"));
      const model = await benchModel(options, "gpt-oss-20b");
      mark("model's folder");
      try {
        using session = await openSession(options, output, mark, early);
        mark("verify, judge and seal kernels");
        const limits = {
          maxContext: session.asked.maxContext ?? 1024,
          maxSequences: session.asked.maxSequences ?? 1,
        };
        const loading = { reserve: true, overlap: true, ring: ringOf(options) };
        await using engine = await session.start(model, limits, { loading });
        mark("plan, and wait for the host");
        await engine.generate(greedy(randomPrompt(16, modelFacts(model).vocab, 1), 1));
        mark("first token of a prompt of 16");
        const ms = since;
        const hosted = engine.timeline.map(({ name, at, ms }) => ({
          name: `host: ${name}`,
          at: at - performance.timeOrigin,
          ms,
        }));
        const timeline = [...own, ...early.timeline, ...hosted].sort((a, b) => a.at - b.at);
        output.result({ schema: "kernlock.bench.start/v1", ms, timeline }, () =>
          table([
            ["part", "begins", "ends", "ms"],
            ...timeline.map(({ name, at, ms }) => [name, fixed(at, 1), fixed(at + ms, 1), fixed(ms, 1)]),
            ["from the start of the process to the token", "", "", fixed(ms, 1)],
          ]),
        );
      } finally {
        model.close();
      }
      return 0;
    },
  );
}

function ringOf({ slots, slotMib, readers, partKib }: RingFlags): Partial<Ring> {
  const whole = (name: string, text: string | undefined, unit: number): number | undefined =>
    text === undefined ? undefined : wholeNumber(name, text) * unit;
  const asked = {
    slots: whole("--slots", slots, 1),
    slotBytes: whole("--slot-mib", slotMib, 1 << 20),
    readers: whole("--readers", readers, 1),
    partBytes: whole("--part-kib", partKib, 1024),
  };
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
}
