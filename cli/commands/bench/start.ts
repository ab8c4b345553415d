import { modelFacts } from "@kernlock/engine/model";
import { benchModel, type ModelFlags, withModel } from "../../bench/models.ts";
import { fixed } from "../../bench/numbers.ts";
import { greedy, randomPrompt } from "../../bench/runs.ts";
import { openSession } from "../../bench/session.ts";
import { command, withProject } from "../../command.ts";
import { table } from "../../output.ts";
import { type PlanFlags, withPlanFlags } from "../../plan-flags.ts";
import type { ProjectOptions } from "../../project.ts";

export function benchStartCommand(): ReturnType<typeof command> {
  return command<ProjectOptions & PlanFlags & ModelFlags>(
    "start",
    "go from the start of this process to one token, and say where the time goes",
    (target) => withModel(withPlanFlags(withProject(target))),
    async ({ output, options }) => {
      // The clock began with the process.
      const timeline: { name: string; ms: number }[] = [];
      let since = 0;
      const mark = (name: string): void => {
        const now = performance.now();
        timeline.push({ name, ms: now - since });
        since = now;
      };
      mark("process and imports");
      const model = await benchModel(options, "gpt-oss-20b");
      mark("model's folder");
      try {
        using session = await openSession(options, output, mark);
        mark("verify, judge and seal kernels");
        const limits = {
          maxContext: session.asked.maxContext ?? 1024,
          maxSequences: session.asked.maxSequences ?? 1,
        };
        await using engine = await session.start(model, limits);
        const started = performance.now() - since;
        const hosted = engine.timeline.filter(({ name }) => !name.startsWith("(")).reduce((sum, { ms }) => sum + ms, 0);
        timeline.push({ name: "plan; start and confine the host", ms: Math.max(0, started - hosted) });
        timeline.push(...engine.timeline);
        since += started;
        await engine.generate(greedy(randomPrompt(16, modelFacts(model).vocab, 1), 1));
        mark("first token of a prompt of 16");
        const ms = since;
        output.result({ schema: "kernlock.bench.start/v1", ms, timeline }, () =>
          table([
            ["part", "ms"],
            ...timeline.map((part) => [part.name, fixed(part.ms, 1)]),
            ["from the start of the process to the token", fixed(ms, 1)],
          ]),
        );
      } finally {
        model.close();
      }
      return 0;
    },
  );
}
