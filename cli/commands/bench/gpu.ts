import { benchOps, kernelFacts, type Timeline } from "@kernlock/engine";
import { modelFacts } from "@kernlock/engine/model";
import { compiledPtx, parsePin } from "@kernlock/policies/compatibility";
import { type Command, Option } from "commander";
import { benchModel, type ModelFlags, wholeNumber, wholeNumbers, withModel } from "../../bench/models.ts";
import { type Ceiling, fixed, grouped, percent, tensorRate } from "../../bench/numbers.ts";
import { decidedMargin } from "../../bench/runs.ts";
import { openSession, type Session } from "../../bench/session.ts";
import { stageCells } from "../../bench/stages.ts";
import { type LoadRow, type StartRow, timeLoading, timeStarts } from "../../bench/starts.ts";
import {
  type Choice,
  type ChoiceFigures,
  type FailedRow,
  measureChoice,
  type TableOptions,
} from "../../bench/table.ts";
import { collect, command, withProject } from "../../command.ts";
import { asKernlockError } from "../../errors.ts";
import { bytesText, errorJson, table } from "../../output.ts";
import { type PlanFlags, withPlanFlags } from "../../plan-flags.ts";
import type { ProjectOptions } from "../../project.ts";
import { deviceFor } from "../selftest.ts";

interface Options extends ProjectOptions, PlanFlags, ModelFlags {
  readonly batch: string;
  readonly prompt: string;
  readonly new?: string;
  readonly depth: string;
  readonly prefill: string;
  readonly chunk: string;
  readonly repeats?: string;
  readonly also?: readonly string[];
  readonly ahead: boolean;
  readonly loading: boolean;
  readonly starts: boolean;
  readonly quick?: boolean;
}

interface Figures {
  readonly schema: "kernlock.bench.gpu/v1";
  readonly time: string;
  readonly model: string;
  readonly options: TableOptions;
  readonly device: { readonly name: string; readonly driver: unknown };
  readonly ceiling: { readonly bytes_per_second: number; readonly operations_per_second: number | null };
  readonly choices: readonly ChoiceFigures[];
  readonly loading: readonly LoadRow[] | FailedRow | null;
  readonly start: StartRow | FailedRow | null;
}

export function benchGpuCommand(): Command {
  return command<Options>(
    "gpu",
    "decoding by batch and at depth, prompts, memory, loading and starts in one table, with floors beside the figures",
    (target) =>
      withModel(withPlanFlags(withProject(target)))
        .option("--batch <n,…>", "sequences that decode together", "1,8,32,64")
        .option("--prompt <n>", "random tokens before each of them decodes", "128")
        .option("--new <n>", "tokens that each decodes (default 128; 32 with --quick)")
        .option("--depth <n>", "context of decoding one sequence at depth; 0: leave it out", "8192")
        .option("--prefill <n,…>", "prompts whose reading is timed", "512,2048,8192")
        .option("--chunk <n>", "most token rows of a step", "2048")
        .option("--repeats <n>", "runs of each, of which the median counts (default 5; 2 with --quick)")
        .addOption(
          new Option("--also <node=name[/path]>", "measure this choice of kernels too; may be repeated").argParser(
            collect,
          ),
        )
        .option("--no-ahead", "hand each step over only when the one before it has been read")
        .option("--no-loading", "leave out the table of loading")
        .option("--no-starts", "leave out the starts of processes")
        .option("--quick", "fewer and shorter runs"),
    async ({ output, options }) => {
      const quick = options.quick === true;
      const asked: TableOptions = {
        batches: wholeNumbers("--batch", options.batch),
        prompt: wholeNumber("--prompt", options.prompt),
        newTokens: wholeNumber("--new", options.new ?? (quick ? "32" : "128")),
        depth: options.depth === "0" ? 0 : wholeNumber("--depth", options.depth),
        prefills: wholeNumbers("--prefill", options.prefill),
        chunk: wholeNumber("--chunk", options.chunk),
        repeats: wholeNumber("--repeats", options.repeats ?? (quick ? "2" : "5")),
        alone: quick ? 4 : 64,
        ahead: options.ahead,
      };
      const say = (text: string): void => output.note(`${(performance.now() / 1e3).toFixed(1)} s: ${text}`);
      const model = await benchModel(options, "gpt-oss-20b");
      try {
        using session = await openSession(options, output);
        const { device, driver, ceiling } = await measureCeiling(session, model);
        const names = session.facts.map(({ name }) => name);
        const choices: readonly Choice[] = [
          { name: (options.kernel ?? []).join(" ") || "as planned", request: {} },
          ...(options.also ?? []).map((text) => ({
            name: text,
            request: { pins: [...session.asked.pins, parsePin(text, [...new Set(names)])], allowDequant: true },
          })),
        ];
        const measured: ChoiceFigures[] = [];
        for (const choice of choices) {
          measured.push(await measureChoice(session, model, choice, asked, ceiling, say));
        }
        const repeats = Math.min(3, asked.repeats);
        say("loading");
        const loading = options.loading
          ? await orFailed("loading", () => timeLoading(session, model, choices[0]!, repeats))
          : null;
        say("starts");
        const start = options.starts ? await orFailed("starts", () => timeStarts(startFlags(options), repeats)) : null;
        const found: Figures = {
          schema: "kernlock.bench.gpu/v1",
          time: new Date().toISOString(),
          ...{ model: model.name, options: asked, device: { name: device, driver } },
          ceiling: { bytes_per_second: ceiling.bytes, operations_per_second: ceiling.operations },
          ...{ choices: measured, loading, start },
        };
        output.result(found, () => figuresText(found));
        return failures(found).length === 0 ? 0 : 1;
      } finally {
        model.close();
      }
    },
  );
}

/** What the device copies, in a process of its own and before anything else. */
async function measureCeiling(
  session: Session,
  model: Parameters<typeof modelFacts>[0],
): Promise<{ device: string; driver: unknown; ceiling: Ceiling }> {
  const { machine, kernels, asked } = session;
  const cuda = kernels.some((one) => one.variant.backend.kind === "cuda");
  const device = deviceFor(asked.device, machine, cuda);
  const ours = kernels.filter((one) => (one.variant.backend.kind === "cpu") === (device === "cpu"));
  const { driver, ceiling } = await benchOps({
    kernels: ours,
    ...{ device, shape: benchShape(modelFacts(model)), mode: device === "cpu" ? "f32" : "bf16" },
    workers: asked.workers ?? machine.cpu.cores,
    ...{ tokens: [], context: 1, only: [], quick: true, seed: 1 },
    effort: asked.confinement ?? "required",
    compilePtx: compiledPtx(ours.map(kernelFacts), machine, device).length > 0,
    onTimed: () => {},
  });
  const operations = tensorRate(driver?.device ?? null);
  return { device: driver?.device ?? machine.cpu.model, driver, ceiling: { bytes: ceiling, operations } };
}

const benchShape = ({
  hidden,
  intermediate,
  heads,
  kvHeads,
  headDim,
  experts,
  topK,
  vocab,
  slidingWindow,
}: ReturnType<typeof modelFacts>) => ({
  ...{ hidden, intermediate, heads, kvHeads, headDim, experts, topK, vocab, slidingWindow },
});

/** The flags that say what is started. */
function startFlags(options: Options): string[] {
  const flag = (name: string, value: string | undefined): string[] => (value === undefined ? [] : [name, value]);
  return [
    ...flag("--model", options.model),
    ...flag("--shape", options.shape),
    ...flag("--layers", options.layers),
    ...flag("--device", options.device),
    ...flag("--mode", options.mode),
    ...flag("--threads", options.threads),
    ...flag("--lock", options.lock),
    ...flag("--policy", options.policy),
    ...flag("--cache", options.cache),
    ...(options.kernel ?? []).flatMap((pin) => ["--kernel", pin]),
    ...(options.allowDequant === true ? ["--allow-dequant"] : []),
  ];
}

async function orFailed<T>(what: string, work: () => Promise<T>): Promise<T | FailedRow> {
  try {
    return await work();
  } catch (error) {
    return { kind: "failed", what, error: errorJson(asKernlockError(error)) };
  }
}

const isFailed = (value: unknown): value is FailedRow =>
  typeof value === "object" && value !== null && "kind" in value && value.kind === "failed";

const failures = ({ choices, loading, start }: Figures): FailedRow[] =>
  [...choices.flatMap(({ rows }) => rows), loading, start].filter(isFailed);

function figuresText(found: Figures): string {
  const { ceiling, device, options } = found;
  const operations = ceiling.operations_per_second;
  const parts = [
    `${found.model} on ${device.name}: copies ${fixed(ceiling.bytes_per_second / 1e9, 1)} GB/s` +
      `${operations === null ? "" : `, ${grouped(operations / 1e12)} TFLOP/s`}; prompts of distinct random ids, ` +
      `medians of ${options.repeats} runs, chunks of ${options.chunk}\n`,
  ];
  for (const choice of found.choices) parts.push(choiceText(choice));
  if (found.loading !== null && !isFailed(found.loading)) parts.push(loadingText(found.loading));
  if (found.start !== null && !isFailed(found.start)) {
    parts.push(
      `from the start of a process to its first token: ${fixed(found.start.ms, 0)} ms\n${timelineText(found.start.timeline)}`,
    );
  }
  for (const { what, error } of failures(found)) parts.push(`FAILED ${what}: [${error.code}] ${error.message}\n`);
  return parts.join("\n");
}

function choiceText({ name, kernels, expert_layout, rows, memory }: ChoiceFigures): string {
  const head = [
    "what",
    "tokens/s",
    "floor",
    "share",
    "step ms",
    "idle us",
    "experts",
    "expected",
    "as alone",
    "undecided",
    "as in pieces",
    "routed otherwise",
  ];
  const cells = rows.flatMap((row): string[][] => {
    if (row.kind === "failed") return [];
    const rate = [grouped(row.tokens_per_second), grouped(row.floor_tokens_per_second), percent(row.share)];
    if (row.kind === "prefill") return [[`prefill ${row.tokens}`, ...rate]];
    const { equal, compared, undecided, repeated, sequences, otherwise, furthest } = row.agreement;
    return [
      [
        `decode B=${row.batch} after ${row.context}`,
        ...rate,
        ...[fixed(row.step_ms, 3), fixed(row.idle_us, 1)],
        ...[fixed(row.distinct_experts, 2), fixed(row.expected_experts, 2)],
        ...[`${equal} of ${compared}`, `${undecided}`, `${repeated} of ${sequences}`],
        `${fixed(100 * otherwise, 2)} %, by ${fixed(furthest, 4)}`,
      ],
    ];
  });
  const held = memory.map((one) => [
    one.what,
    ...[one.weights, one.kv, one.workspace, one.limit].map(bytesText),
    one.used === null ? "-" : bytesText(one.used),
    one.used === null ? "" : one.used <= one.limit ? "within" : "ABOVE",
  ]);
  return (
    `${name}: experts in ${expert_layout ?? "-"}; ${kernels.join(", ")}\n${table([head, ...cells])}` +
    `(as alone: tokens equal to those of each sequence by itself, read in one piece and with the batch's routing, where its ` +
    `margin is above ${decidedMargin}; as in pieces: sequences that drew the same tokens when the batch ran once more, with ` +
    "each layer's routing taken down; routed otherwise: tokens whose router, alone, would have chosen other experts, and by " +
    "how much their weights differ at most)\n\n" +
    stagesText(rows) +
    table([["memory", "weights", "cache", "workspace", "weights + cache + 600 MB", "used at most", ""], ...held])
  );
}

function stagesText(rows: ChoiceFigures["rows"]): string {
  const steps = rows.flatMap((row) => {
    if (row.kind === "failed" || row.stages === null) return [];
    const what = row.kind === "decode" ? `B=${row.batch} after ${row.context}` : `prefill ${row.tokens}`;
    return [{ what, stages: row.stages }];
  });
  return steps.length === 0 ? "" : `${table(stageCells(steps))}\n`;
}

function loadingText(rows: readonly LoadRow[]): string {
  const yes = (on: boolean): string => (on ? "yes" : "no");
  const cells = rows.map((row) => [yes(row.reserve), yes(row.overlap), row.runs.map((ms) => fixed(ms, 0)).join(", ")]);
  return `${table([["loading: one reservation", "overlapped", "ms to an engine that is ready"], ...cells])}${timelineText(rows[0]?.timeline ?? [])}`;
}

const timelineText = (timeline: Timeline): string =>
  timeline.length === 0 ? "" : `  of which ${timeline.map(({ name, ms }) => `${name} ${fixed(ms, 0)}`).join(", ")}\n`;
