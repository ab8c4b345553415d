import { readFileSync } from "node:fs";
import { type BatchItem, type Engine, type GenerateRequest, type GenerateResult, startEngine } from "@kernlock/engine";
import { modelFacts, openModel } from "@kernlock/engine/model";
import { fail, KernlockError } from "@kernlock/kernels/format";
import { appendAudit } from "@kernlock/loader";
import { plan } from "@kernlock/policies/compatibility";
import { type Command, Option } from "commander";
import { auditLogPath } from "../audit.ts";
import { command, withProject } from "../command.ts";
import { takeEarly } from "../early.ts";
import { readLocked, sealLocked } from "../locked.ts";
import { writeLogits } from "../logits.ts";
import { checkPinned } from "../model-pin.ts";
import { errorJson, type Output } from "../output.ts";
import { type PlanFlags, parseDevice, planRequest, withPlanFlags } from "../plan-flags.ts";
import { confinementText, planSummary, runRecordText } from "../plan-text.ts";
import { findProject, type ProjectOptions } from "../project.ts";
import { type GenerateFlags, requestFromFlags, requestsFromFile } from "../requests.ts";

interface Options extends ProjectOptions, GenerateFlags, PlanFlags {
  readonly model: string;
  readonly logits?: string;
  readonly record?: boolean;
  readonly careful?: boolean;
}

export function withSampling(target: Command): Command {
  return target
    .addOption(
      new Option("--reasoning <effort>", "reasoning effort for the chat template").choices(["low", "medium", "high"]),
    )
    .option("--max-new-tokens <n>", "stop after so many new tokens (default 256; 0 runs the prompt alone)")
    .option("--ignore-eos", "go on after a stop token")
    .option("--greedy", "always the most likely token")
    .option("--temperature <t>", "sampling temperature")
    .option("--top-p <p>", "sample from the smallest set with this probability")
    .option("--top-k <k>", "sample from the k most likely tokens (0: off)")
    .option("--seed <n>", "same seed, same tokens");
}

export function generateCommand(): Command {
  return command<Options>(
    "generate",
    "run a model on one prompt or many, with locked and verified kernels only",
    (target) =>
      withSampling(
        withPlanFlags(
          withProject(
            target
              .requiredOption(
                "--model <dir>",
                "folder of a gpt-oss checkpoint, or a name in the local Hugging Face cache",
              )
              .option("--prompt <text>", "text; special tokens in it count")
              .option("--chat <text>", "one message of a user, rendered with the model's chat template")
              .option("--token-ids <ids>", "token ids: 1,2,3")
              .option("--requests <file>", "JSON lines, one request each; prints one object a line"),
          ),
        ),
      )
        .option("--logits <file>", "write all logits (safetensors: logits_0, logits_1, …)")
        .option("--record", "print the run record after the answer")
        .option("--careful", "on a GPU run op by op, each waited for: slow, and a fault names op, kernel and digest"),
    async ({ output, options }) => {
      const parsed = requestFromFlags(options, options.logits !== undefined);
      if ("file" in parsed) {
        const items = requestsFromFile(readRequests(parsed.file), parsed.defaults, options.logits !== undefined);
        return withEngine(options, output, items.length, (engine) => runMany(engine, items, options));
      }
      return withEngine(options, output, 1, (engine) => runOne(engine, parsed, options, output));
    },
  );
}

/**
 * Plans, verifies and seals the kernels, starts the engine, and puts everything away afterwards. The plan comes first and
 * over every locked variant, so that what cannot run here is refused for the right reason, before any kernel is touched.
 */
export async function withEngine<T>(
  options: ProjectOptions & PlanFlags & { readonly model: string; readonly careful?: boolean },
  output: Output,
  sequences: number,
  use: (engine: Engine) => Promise<T>,
): Promise<T> {
  const project = findProject(options);
  await using early = await takeEarly(parseDevice(options.device ?? "auto"));
  const { machine } = early;
  using model = asDisposable(openModel(options.model));
  const locked = await readLocked(project);
  checkPinned(locked.lock, model, output);
  const names = locked.facts.map((kernel) => kernel.name);
  const asked = planRequest(options, locked.policy, names);
  // The cache is reserved whole: no more of it than the requests at hand can use.
  const request = { ...asked, maxSequences: asked.maxSequences ?? Math.min(8, Math.max(1, sequences)) };
  plan({ model: modelFacts(model), machine, kernels: locked.facts, request });
  using loaded = asDisposable(await sealLocked(locked, machine));
  await using engine = await startEngine({
    kernels: loaded.kernels,
    locked: locked.facts,
    machine,
    model,
    request,
    careful: options.careful === true,
    early: early.host,
    onPlan: (made) => {
      appendAudit(auditLogPath(), { event: "plan", time: new Date().toISOString(), plan: made });
      output.note(planSummary(made));
    },
    onProgress: (done, total) => output.progress(`weights ${total === 0 ? 100 : Math.floor((100 * done) / total)} %`),
  });
  return await use(engine);
}

function asDisposable<T extends { close(): void }>(value: T): T & Disposable {
  return Object.assign(value, { [Symbol.dispose]: () => value.close() });
}

function readRequests(file: string): string {
  try {
    return readFileSync(file === "-" ? 0 : file, "utf8");
  } catch (error) {
    return fail("KL_CLI_FILE", `cannot read ${file} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, {
      remedy: "Name a file of JSON lines, or - for standard input.",
      cause: error,
    });
  }
}

async function runOne(engine: Engine, request: GenerateRequest, options: Options, output: Output): Promise<number> {
  const controller = new AbortController();
  process.once("SIGINT", () => controller.abort());
  const generated = await engine.generate(request, {
    signal: controller.signal,
    ...(output.json ? {} : { onToken: (event) => process.stdout.write(event.text ?? `${event.id} `) }),
  });
  recordRun(generated.result);
  if (options.logits !== undefined) writeLogits(options.logits, [generated.logits]);
  output.result(generated.result, () => "\n");
  if (!output.json) {
    output.note(timingText(generated.result));
    if (options.record === true)
      output.note(`${runRecordText(generated.result.run_record)}\n${confinementText(generated.result.confinement)}`);
  }
  return 0;
}

async function runMany(
  engine: Engine,
  items: readonly (GenerateRequest | KernlockError)[],
  options: Options,
): Promise<number> {
  const requests = items.filter((item): item is GenerateRequest => !(item instanceof KernlockError));
  const done = (await engine.generateAll(requests))[Symbol.iterator]();
  const results = items.map(
    (item): BatchItem => (item instanceof KernlockError ? { ok: false, error: item } : next(done)),
  );
  if (options.logits !== undefined)
    writeLogits(
      options.logits,
      results.map((item) => (item.ok ? item.value.logits : null)),
    );
  for (const item of results) if (item.ok) recordRun(item.value.result);
  for (const item of results)
    process.stdout.write(`${JSON.stringify(item.ok ? item.value.result : { error: errorJson(item.error) })}\n`);
  return results.every((item) => item.ok) ? 0 : 1;
}

/** Which kernels ran, in the same chained log as the loads. What was asked and answered is nobody's business there. */
export function recordRun({ run_record, timing, finish_reason }: GenerateResult): void {
  const time = new Date().toISOString();
  appendAudit(auditLogPath(), { event: "run", time, finish_reason, timing, run_record });
}

function next(items: Iterator<BatchItem>): BatchItem {
  const item = items.next();
  if (item.done === true) throw new Error("the engine returned fewer results than it got requests");
  return item.value;
}

export function timingText({ timing, finish_reason }: GenerateResult): string {
  const speed = timing.decode_tokens_per_second;
  const rate = speed === null ? "" : `, ${speed.toFixed(1)} tokens/s`;
  return `[${timing.prompt_tokens} prompt tokens in ${timing.prefill_ms.toFixed(0)} ms, ${timing.new_tokens} new${rate}, ended by ${finish_reason}]`;
}
