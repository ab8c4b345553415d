import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import { type Driver, kernelFacts, readMachineFacts, type Tested, testOps } from "@kernlock/engine";
import { fail, KernlockError, prettyJson } from "@kernlock/kernels/format";
import { compiledPtx, type MachineFacts, type Plan, type PlanRequest } from "@kernlock/policies/compatibility";
import type { Command } from "commander";
import { collect, command, withProject } from "../command.ts";
import { asKernlockError, usage } from "../errors.ts";
import { readLocked, sealLocked } from "../locked.ts";
import { errorJson, type Output } from "../output.ts";
import { type PlanFlags, planRequest, withPlanFlags } from "../plan-flags.ts";
import { ptxText } from "../plan-text.ts";
import { findProject, type ProjectOptions } from "../project.ts";
import { checkGolden, demandGolden, type GoldenResult } from "../selftest/golden.ts";
import { withEngine } from "./generate.ts";

interface Options extends ProjectOptions, PlanFlags {
  readonly model?: readonly string[];
  readonly ops: boolean;
  readonly inputs?: string;
  readonly evidence?: string;
  readonly careful?: boolean;
}

/** All cases of one op: how many, the largest error, and what went wrong in the first few. */
interface OpSummary {
  readonly kernel: string;
  readonly op: string;
  readonly cases: number;
  readonly failed: number;
  readonly worst_error: number;
  readonly problems: readonly string[];
}

interface Kernel {
  readonly name: string;
  readonly version: string;
  readonly variant: string;
  readonly digest: string;
  /** Where what was tried is no machine code of the variant: the PTX that this driver compiled. */
  readonly compiled_ptx: string | null;
}

interface Ops {
  readonly device: Plan["device"];
  readonly driver: Driver | null;
  readonly kernels: readonly Kernel[];
  readonly results: readonly OpSummary[];
}

type Golden = GoldenResult & { readonly error?: ReturnType<typeof errorJson> };

export function selftestCommand(): Command {
  return command<Options>(
    "selftest",
    "try every op of the locked kernels on this machine, and models with recorded answers",
    (target) =>
      withPlanFlags(
        withProject(target.option("--model <dir>", "a model folder with recorded answers; may be repeated", collect)),
      )
        .option("--no-ops", "leave the ops out")
        .option("--inputs <n>", "seed of the ops' random inputs (default: a new one each time)")
        .option("--evidence <file>", "write what was found, ready to be signed")
        .option("--careful", "run models op by op on a GPU too, so that a fault names op, kernel and digest"),
    async ({ output, options }) => {
      const seed = options.inputs === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(options.inputs);
      if (!Number.isSafeInteger(seed) || seed < 0) usage(`--inputs takes a whole number, not "${options.inputs}".`);
      const machine = readMachineFacts();
      const ops = options.ops ? await tryOps(options, output, machine, seed) : null;
      const golden: Golden[] = [];
      for (const model of options.model ?? []) golden.push(...(await tryModel(options, output, model)));
      const ok = (ops?.results ?? []).every(({ failed }) => failed === 0) && golden.every((result) => result.ok);
      const gpu = ops === null || ops.device === "cpu" ? null : machine.cuda?.devices[Number(ops.device.slice(5))];
      const found = {
        schema: "kernlock.selftest/v1",
        time: new Date().toISOString(),
        machine: { cpu: machine.cpu, libc: machine.libc, gpu: gpu ?? null },
        device: ops?.device ?? null,
        driver: ops?.driver ?? null,
        kernels: ops?.kernels ?? [],
        ok,
        seed,
        ops: ops?.results ?? [],
        golden,
      };
      if (options.evidence !== undefined) writeEvidence(options.evidence, prettyJson(found));
      output.result(found, () => [...(ops?.results ?? []).map(opText), ...golden.map(goldenText)].join(""));
      return ok ? 0 : 1;
    },
  );
}

async function tryOps(options: Options, output: Output, machine: MachineFacts, seed: number): Promise<Ops> {
  const locked = await readLocked(findProject(options));
  const asked = planRequest(
    options,
    locked.policy,
    locked.facts.map((kernel) => kernel.name),
  );
  const loaded = await sealLocked(locked, machine);
  try {
    const device = deviceFor(
      asked.device,
      machine,
      loaded.kernels.some((one) => one.variant.backend.kind === "cuda"),
    );
    const kernels = loaded.kernels.filter((one) => (one.variant.backend.kind === "cpu") === (device === "cpu"));
    if (kernels.length === 0) fail("KL_PLAN_UNAVAILABLE", `No locked kernel is for ${device}.`, { row: "K2" });
    const results = new Map<string, OpSummary>();
    const onTested = (tested: Tested): void => {
      const key = `${tested.kernel} ${tested.op}`;
      results.set(key, summed(results.get(key), tested));
      output.progress(`${key}, ${tested.label}`);
    };
    const effort = asked.confinement ?? "required";
    const workers = asked.workers ?? machine.cpu.cores;
    const compiled = compiledPtx(kernels.map(kernelFacts), machine, device);
    for (const one of compiled) output.note(ptxText(one));
    const compilePtx = compiled.length > 0;
    const driver = await testOps({ kernels, device, workers, seed, effort, compilePtx, onTested });
    const named = kernels.map(({ name, version, variantKey, manifest }) => ({
      ...{ name, version, variant: variantKey, digest: manifest },
      compiled_ptx: compiled.find((one) => one.kernel === name && one.variant === variantKey)?.target ?? null,
    }));
    return { device, driver, kernels: named, results: [...results.values()] };
  } finally {
    loaded.close();
  }
}

/** The device that kernels are tried on. @throws KL_PLAN_NO_DRIVER */
export function deviceFor(asked: PlanRequest["device"], machine: MachineFacts, cudaKernels: boolean): Plan["device"] {
  if (asked === "cpu" || (asked === "auto" && !(cudaKernels && machine.cuda !== undefined))) return "cpu";
  if (machine.cuda === undefined)
    fail("KL_PLAN_NO_DRIVER", "A GPU was asked for and there is no driver.", { row: "D1" });
  return asked === "auto" || asked === "cuda" ? "cuda:0" : asked;
}

function summed(before: OpSummary | undefined, { kernel, op, label, ok, error, text }: Tested): OpSummary {
  const { cases, failed, worst_error, problems } = before ?? { cases: 0, failed: 0, worst_error: 0, problems: [] };
  return {
    ...{ kernel, op },
    cases: cases + 1,
    failed: failed + (ok ? 0 : 1),
    worst_error: Math.max(worst_error, error ?? 0),
    problems: ok || problems.length >= 5 ? problems : [...problems, `${label}: ${text}`],
  };
}

async function tryModel(options: Options, output: Output, model: string): Promise<Golden[]> {
  const files = demandGolden(model);
  try {
    return await withEngine({ ...options, model }, output, 8, async (engine) => {
      const results: Golden[] = [];
      for (const file of files) {
        output.progress(`${basename(model)} ${file}`);
        results.push(await checkGolden(engine, model, file));
      }
      return results;
    });
  } catch (error) {
    if (error instanceof KernlockError && error.code === "KL_CLI_USAGE") throw error;
    const known = asKernlockError(error);
    return [{ model, file: files.join(), ok: false, text: known.message, measured: {}, error: errorJson(known) }];
  }
}

function writeEvidence(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    fail("KL_CLI_FILE", `cannot write ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, {
      remedy: "Name a file in a folder that you may write to.",
      cause: error,
    });
  }
}

const opText = ({ kernel, op, cases, failed, worst_error, problems }: OpSummary): string =>
  `${failed === 0 ? "ok  " : "NO  "} ${kernel} ${op}: ${cases - failed} of ${cases} cases, largest error ${worst_error.toExponential(1)}\n` +
  problems.map((problem) => `       ${problem}\n`).join("");

const goldenText = ({ ok, model, file, text, error }: Golden): string =>
  `${ok ? "ok  " : "NO  "} ${basename(model)} ${file}: ${error === undefined ? "" : `[${error.code}] `}${text}\n`;
