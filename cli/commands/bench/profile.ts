import { type Model, modelFacts } from "@kernlock/engine/model";
import { KernlockError } from "@kernlock/kernels/format";
import { type KernelFacts, type Plan, parsePin } from "@kernlock/policies/compatibility";
import type { Command } from "commander";
import { benchModel, type ModelFlags, wholeNumber, withModel } from "../../bench/models.ts";
import { fixed, grouped, median } from "../../bench/numbers.ts";
import { greedy, randomPrompt, runAll } from "../../bench/runs.ts";
import { openSession, type Session } from "../../bench/session.ts";
import { command, withProject } from "../../command.ts";
import { bytesText, errorJson, table } from "../../output.ts";
import { type PlanFlags, withPlanFlags } from "../../plan-flags.ts";
import type { ProjectOptions } from "../../project.ts";

interface Options extends ProjectOptions, PlanFlags, ModelFlags {
  readonly batch: string;
  readonly prompt: string;
  readonly new: string;
  readonly repeats: string;
}

interface ProfileRow {
  /** Flags that make this choice. */
  readonly flags: readonly string[];
  readonly kernels: readonly string[];
  readonly expert_layout: string | null;
  /** New tokens a second of all sequences, over the whole run; the median of the runs. */
  readonly tokens_per_second: number | null;
  readonly first_token_ms: number | null;
  readonly decode_tokens_per_second: number | null;
  readonly memory: Plan["memory"] | null;
  /** The most that a GPU used besides its context. */
  readonly used: number | null;
  readonly conversions: readonly string[];
  readonly error: ReturnType<typeof errorJson> | null;
}

export function benchProfileCommand(): Command {
  return command<Options>(
    "profile",
    "run every choice of kernels that the matrix allows on your batch and lengths, and recommend one",
    (target) =>
      withModel(withPlanFlags(withProject(target)))
        .option("--batch <n>", "sequences at once", "1")
        .option("--prompt <n>", "tokens of each prompt", "128")
        .option("--new <n>", "tokens that each answer has", "128")
        .option("--repeats <n>", "runs of each choice, after one that does not count", "3"),
    async ({ output, options }) => {
      const profile = {
        batch: wholeNumber("--batch", options.batch),
        prompt: wholeNumber("--prompt", options.prompt),
        new: wholeNumber("--new", options.new),
      };
      const repeats = wholeNumber("--repeats", options.repeats);
      const model = await benchModel(options, "gpt-oss-20b");
      try {
        using session = await openSession(options, output);
        const rows: ProfileRow[] = [];
        const seen = new Set<string>();
        for (const flags of choicesOf(session)) {
          output.note(`profile: ${flags.join(" ") || "as planned"}`);
          const row = await runChoice(session, model, flags, profile, repeats);
          // Flags that change nothing are no choice.
          const key = row.kernels.join();
          if (row.error === null && seen.has(key)) continue;
          seen.add(key);
          rows.push(row);
        }
        const best = rows.reduce<ProfileRow | null>(
          (first, row) => ((row.tokens_per_second ?? 0) > (first?.tokens_per_second ?? 0) ? row : first),
          null,
        );
        const recommended = best === null ? null : { flags: best.flags, text: why(best, rows) };
        const found = {
          schema: "kernlock.bench.profile/v1",
          time: new Date().toISOString(),
          ...{ model: model.name, profile, rows, recommended },
        };
        output.result(found, () => profileText(rows, recommended));
        return best === null ? 1 : 0;
      } finally {
        model.close();
      }
    },
  );
}

/** Flags for every kernel of the experts, with and without every norm that is an op of its own; first none at all. */
function choicesOf({ facts, asked, machine }: Session): string[][] {
  const cuda = facts.some(({ descriptor }) => descriptor.backend.kind === "cuda");
  const backend =
    asked.device === "cpu" || (asked.device === "auto" && !(cuda && machine.cuda !== undefined)) ? "cpu" : "cuda";
  const paths = (covers: (op: KernelFacts["descriptor"]["ops"][number]) => boolean): string[] => [
    ...new Set(
      facts
        .filter(({ descriptor }) => descriptor.backend.kind === backend)
        .flatMap(({ name, descriptor }) => descriptor.ops.filter(covers).map(({ path }) => `${name}/${path}`)),
    ),
  ];
  const experts = paths(({ covers }) => covers.includes("moe_up")).map((path) => `moe=${path}`);
  const norms = paths(({ name }) => name === "rmsnorm").map((path) => `norm=${path}`);
  return [[], ...experts.map((pin) => [pin]), ...experts.flatMap((pin) => norms.map((norm) => [pin, norm]))];
}

async function runChoice(
  session: Session,
  model: Model,
  pins: readonly string[],
  profile: { readonly batch: number; readonly prompt: number; readonly new: number },
  repeats: number,
): Promise<ProfileRow> {
  const names = [...new Set(session.facts.map(({ name }) => name))];
  const flags = pins.flatMap((pin) => ["--kernel", pin]);
  const nothing: ProfileRow = {
    ...{ flags, kernels: [], expert_layout: null, tokens_per_second: null, first_token_ms: null },
    ...{ decode_tokens_per_second: null, memory: null, used: null, conversions: [], error: null },
  };
  try {
    const { vocab } = modelFacts(model);
    await using engine = await session.start(model, {
      pins: [...session.asked.pins, ...pins.map((pin) => parsePin(pin, names))],
      // Whether experts may grow is the policy's to say; what it costs stands in the table.
      allowDequant: true,
      maxContext: session.asked.maxContext ?? profile.prompt + profile.new,
      maxSequences: session.asked.maxSequences ?? profile.batch,
    });
    let seed = 0;
    const runs: { rate: number; first: number; decode: number }[] = [];
    for (let run = 0; run <= repeats; run++) {
      const requests = Array.from({ length: profile.batch }, () =>
        greedy(randomPrompt(profile.prompt, vocab, ++seed), profile.new),
      );
      const begin = performance.now();
      const done = await runAll(engine, requests);
      const seconds = (performance.now() - begin) / 1e3;
      const timings = done.map(({ result }) => result.timing);
      const slowest = Math.max(...timings.map(({ decode_ms }) => decode_ms));
      if (run > 0)
        runs.push({
          rate: (profile.batch * profile.new) / seconds,
          first: median(timings.map(({ queued_ms, prefill_ms }) => queued_ms + prefill_ms)),
          decode: (1e3 * profile.batch * (profile.new - 1)) / slowest,
        });
    }
    const { plan } = engine;
    const { used } = (await engine.watch("nothing")).memory;
    const grows = plan.conversions.some(({ kind }) => kind === "dequantize");
    return {
      ...nothing,
      flags: grows ? [...flags, "--allow-dequant"] : flags,
      kernels: [...new Set(plan.ops.map(({ op, kernel, version }) => `${op} of ${kernel} ${version}`))],
      expert_layout: plan.expertLayout,
      tokens_per_second: median(runs.map(({ rate }) => rate)),
      first_token_ms: median(runs.map(({ first }) => first)),
      decode_tokens_per_second: profile.new > 1 ? median(runs.map(({ decode }) => decode)) : null,
      memory: plan.memory,
      used: plan.device === "cpu" ? null : used,
      conversions: plan.conversions.map(
        ({ kind, tensors, to, bytes }) => `${kind} ${tensors} to ${to} (${bytesText(bytes)})`,
      ),
    };
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return { ...nothing, error: errorJson(error) };
  }
}

function why(best: ProfileRow, rows: readonly ProfileRow[]): string {
  const rate = best.tokens_per_second!;
  const others = rows.filter((row) => row !== best && row.tokens_per_second !== null);
  const second = Math.max(0, ...others.map((row) => row.tokens_per_second!));
  const ahead =
    second === 0 ? "the only choice that runs here" : `${((rate / second - 1) * 100).toFixed(0)} % ahead of the next`;
  const smallest = Math.min(...rows.map((row) => row.memory?.total ?? Number.POSITIVE_INFINITY));
  const memory = best.memory!.total;
  const size = memory <= smallest ? "" : `; another needs ${bytesText(memory - smallest)} less memory`;
  return `${grouped(rate)} tokens/s, ${ahead}${size}`;
}

function profileText(
  rows: readonly ProfileRow[],
  recommended: { flags: readonly string[]; text: string } | null,
): string {
  const head = ["choice", "tokens/s", "first token ms", "decode tokens/s", "weights", "memory", "used", "loads"];
  const cells = rows.map((row) => [
    row.flags.filter((flag) => flag !== "--kernel").join(" ") || "as planned",
    ...[grouped(row.tokens_per_second), fixed(row.first_token_ms, 1), grouped(row.decode_tokens_per_second)],
    ...[
      row.memory === null ? "-" : bytesText(row.memory.weights),
      row.memory === null ? "-" : bytesText(row.memory.total),
    ],
    row.used === null ? "-" : bytesText(row.used),
    row.error === null
      ? [row.expert_layout, ...row.conversions].join("; ")
      : `[${row.error.code}] ${row.error.message}`,
  ]);
  const advice =
    recommended === null
      ? "No choice runs here.\n"
      : `Recommended: ${recommended.flags.join(" ") || "no flags, the plan as it is"} (${recommended.text}).\n`;
  return `${table([head, ...cells])}\n${advice}`;
}
