/** Where the time of a step goes: what each of its stages costs, beside what it would at least. */
import type { Watched } from "@kernlock/engine";
import { type OpName, opNames } from "@kernlock/kernels/abi";
import { fixed, type LaunchFloor } from "./numbers.ts";

export interface StageRow {
  /** The op, for attention also which keys it sees; "copies" of inputs and results. */
  readonly stage: string;
  readonly launches: number;
  /** Microseconds of all of them in a step: at least; one behind the other and nothing else; and what the step saves without them. */
  readonly floor_us: number;
  readonly alone_us: number;
  readonly in_step_us: number | null;
}

export interface StageRows {
  /** Microseconds of the whole step, as one program. */
  readonly step_us: number;
  readonly rows: readonly StageRow[];
}

/** Of the step of that kind with so many token rows; null where no such step was timed. */
export function stageRows(
  { stages }: Watched,
  bucket: "decode" | "mixed",
  tokens: number,
  floor: LaunchFloor,
): StageRows | null {
  const step = stages.find((one) => one.bucket === bucket && one.tokens === tokens);
  if (step === undefined) return null;
  return {
    step_us: 1e3 * step.ms,
    rows: step.stages.map(({ name, launches, alone, without }) => ({
      ...{ stage: name, launches, floor_us: 1e6 * launches * floorOf(name, floor) },
      ...{ alone_us: 1e3 * alone, in_step_us: without === null ? null : 1e3 * (step.ms - without) },
    })),
  };
}

/** The name of a stage is `op/path`, or `op/path, full`. */
function floorOf(name: string, floor: LaunchFloor): number {
  const [path = "", kind] = name.split(", ");
  const op = path.split("/")[0] as OpName;
  if (!opNames.includes(op)) return 0;
  return floor(op, kind === "full" || kind === "sliding" ? kind : undefined);
}

/** One table for several steps: in each, what a stage costs the step, alone, and at least. */
export function stageCells(steps: readonly { readonly what: string; readonly stages: StageRows }[]): string[][] {
  const names = [...new Set(steps.flatMap(({ stages }) => stages.rows.map(({ stage }) => stage)))];
  const cell = ({ stages }: (typeof steps)[number], name: string): string => {
    const row = stages.rows.find(({ stage }) => stage === name);
    if (row === undefined) return "";
    return `${fixed(row.in_step_us, 0)} / ${fixed(row.alone_us, 0)} / ${fixed(row.floor_us, 0)}`;
  };
  return [
    ["us of a step: saved without / alone / floor", ...steps.map(({ what }) => what)],
    ...names.map((name) => [name, ...steps.map((step) => cell(step, name))]),
    ["the step", ...steps.map(({ stages }) => fixed(stages.step_us, 0))],
  ];
}
