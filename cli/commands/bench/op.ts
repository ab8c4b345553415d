import { benchOps, kernelFacts, readMachineFacts, type Timed } from "@kernlock/engine";
import { modelFacts } from "@kernlock/engine/model";
import { opNames } from "@kernlock/kernels/abi";
import { fail } from "@kernlock/kernels/format";
import { compiledPtx } from "@kernlock/policies/compatibility";
import type { Command } from "commander";
import { benchModel, type ModelFlags, wholeNumber, wholeNumbers, withModel } from "../../bench/models.ts";
import { atLeast, type Ceiling, fixed, grouped, percent, tensorRate } from "../../bench/numbers.ts";
import { collect, command, withProject } from "../../command.ts";
import { usage } from "../../errors.ts";
import { readLocked, sealLocked } from "../../locked.ts";
import { table } from "../../output.ts";
import { type PlanFlags, planRequest } from "../../plan-flags.ts";
import { findProject, type ProjectOptions } from "../../project.ts";
import { deviceFor } from "../selftest.ts";

interface Options extends ProjectOptions, ModelFlags, Pick<PlanFlags, "device" | "threads"> {
  readonly op?: readonly string[];
  readonly batch?: string;
  readonly context?: string;
  readonly quick?: boolean;
}

interface Row extends Omit<Timed, "time" | "text"> {
  readonly version: string;
  readonly digest: string;
  readonly ms: number | null;
  readonly best_ms: number | null;
  readonly bytes: number | null;
  readonly operations: number | null;
  readonly experts: number | null;
  readonly bytes_per_second: number | null;
  readonly operations_per_second: number | null;
  /** Of the time that the ceiling allows; null where the op did not run. */
  readonly share: number | null;
  /** Why there is no time. */
  readonly text: string | null;
}

export function benchOpCommand(): Command {
  return command<Options>(
    "op",
    "time every op of the locked kernels in the widths of a model, the choices for each op beside each other",
    (target) =>
      withModel(withProject(target))
        .option("--op <name>", "only this op; may be repeated", collect)
        .option("--batch <n,…>", "token rows of a launch: up to 256 of decoding, above that of a prompt")
        .option("--context <n>", "keys of each sequence that decodes", "1024")
        .option("--device <device>", "auto, cpu, cuda or cuda:N", "auto")
        .option("--threads <n>", "CPU threads")
        .option("--quick", "shorter, and less exact"),
    async ({ output, options }) => {
      const only = options.op ?? null;
      const unknown = only?.find((name) => !(opNames as readonly string[]).includes(name));
      if (unknown !== undefined) usage(`--op ${unknown}: there is no such op (docs/abi.md lists them).`);
      const context = wholeNumber("--context", options.context ?? "1024");
      const given = options.batch === undefined ? null : wholeNumbers("--batch", options.batch);
      const machine = readMachineFacts();
      const locked = await readLocked(findProject(options));
      const asked = planRequest(
        options,
        locked.policy,
        locked.facts.map(({ name }) => name),
      );
      const model = await benchModel(options, "gpt-oss-20b");
      const shape = modelFacts(model);
      model.close();
      const loaded = await sealLocked(locked, machine);
      try {
        const cuda = loaded.kernels.some((one) => one.variant.backend.kind === "cuda");
        const device = deviceFor(asked.device, machine, cuda);
        const kernels = loaded.kernels.filter((one) => (one.variant.backend.kind === "cpu") === (device === "cpu"));
        if (kernels.length === 0) fail("KL_PLAN_UNAVAILABLE", `No locked kernel is for ${device}.`, { row: "K2" });
        const timed: Timed[] = [];
        const { driver, ceiling } = await benchOps({
          ...{ kernels, device, context, only, seed: 1, quick: options.quick === true },
          workers: asked.workers ?? machine.cpu.cores,
          shape: {
            ...{ hidden: shape.hidden, intermediate: shape.intermediate, heads: shape.heads, kvHeads: shape.kvHeads },
            ...{ headDim: shape.headDim, experts: shape.experts, topK: shape.topK, vocab: shape.vocab },
            slidingWindow: shape.slidingWindow,
          },
          mode: device === "cpu" ? "f32" : "bf16",
          tokens: given ?? (device === "cpu" ? [1, 8] : [1, 8, 32, 64, 512, 2048]),
          effort: asked.confinement ?? "required",
          compilePtx: compiledPtx(kernels.map(kernelFacts), machine, device).length > 0,
          onTimed(one) {
            output.progress(`${one.op} of ${one.kernel}, ${one.tokens} rows ${one.label}`);
            timed.push(one);
          },
        });
        const most: Ceiling = { bytes: ceiling, operations: tensorRate(driver?.device ?? null) };
        const rows = timed.map((one) => rowOf(one, most, kernels));
        const found = {
          schema: "kernlock.bench.op/v1",
          time: new Date().toISOString(),
          shape: { name: shape.name, context },
          device: { name: driver?.device ?? machine.cpu.model, driver },
          ceiling: { bytes_per_second: most.bytes, operations_per_second: most.operations },
          rows,
        };
        output.result(found, () => opText(rows, found.device.name, most));
        return timed.length === 0 ? 1 : 0;
      } finally {
        loaded.close();
      }
    },
  );
}

function rowOf(
  { time, text, ...one }: Timed,
  ceiling: Ceiling,
  kernels: readonly {
    readonly name: string;
    readonly variantKey: string;
    readonly version: string;
    readonly manifest: string;
  }[],
): Row {
  const { version = "", manifest = "" } =
    kernels.find(({ name, variantKey }) => name === one.kernel && variantKey === one.variant) ?? {};
  const seconds = time === null ? null : time.ms / 1e3;
  return {
    ...{ ...one, version, digest: manifest, text: time === null ? text : null },
    ...{ ms: time?.ms ?? null, best_ms: time?.best ?? null, bytes: time?.bytes ?? null },
    ...{ operations: time?.operations ?? null, experts: time === null || time.experts === 0 ? null : time.experts },
    bytes_per_second: seconds === null ? null : time!.bytes / seconds,
    operations_per_second: seconds === null ? null : time!.operations / seconds,
    share: seconds === null ? null : atLeast(time!, ceiling) / seconds,
  };
}

/** Choices for one op and one launch stand beside each other, the fastest first. */
function opText(rows: readonly Row[], device: string, ceiling: Ceiling): string {
  const key = ({ op, tokens, label }: Row): string => `${op.split("/")[0]} ${String(tokens).padStart(8, "0")} ${label}`;
  const sorted = rows.toSorted((a, b) => {
    const [x, y] = [key(a), key(b)];
    return x === y ? (a.ms ?? 1e9) - (b.ms ?? 1e9) : x < y ? -1 : 1;
  });
  const cells = sorted.map((row) => [
    row.op,
    row.kernel.split("/")[1] ?? row.kernel,
    row.tokens === 0 ? "" : `${row.tokens}`,
    [row.label, row.experts === null ? "" : `${fixed(row.experts, 1)} experts`]
      .filter((text) => text !== "")
      .join(", "),
    row.ms === null ? "-" : fixed(1e3 * row.ms, 1),
    row.bytes === null ? "-" : fixed(row.bytes / 1e6, 2),
    row.operations === null ? "-" : fixed(row.operations / 1e9, 2),
    row.bytes_per_second === null ? "-" : fixed(row.bytes_per_second / 1e9, 1),
    row.operations_per_second === null ? "-" : fixed(row.operations_per_second / 1e12, 2),
    row.share === null ? (row.text ?? "") : percent(row.share),
  ]);
  const head = ["op", "kernel", "rows", "launch", "us", "MB", "GFLOP", "GB/s", "TFLOP/s", "of the ceiling"];
  const operations = ceiling.operations === null ? "" : `, ${grouped(ceiling.operations / 1e12)} TFLOP/s`;
  return `${device}: copies ${fixed(ceiling.bytes / 1e9, 1)} GB/s${operations}\n\n${table([head, ...cells])}`;
}
