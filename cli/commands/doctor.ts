import { type Dirent, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { confinementFacts, demandConfinement, readMachineFacts } from "@kernlock/engine";
import { modelFacts, openModel } from "@kernlock/engine/model";
import { fail, KernlockError } from "@kernlock/kernels/format";
import { assertVerified, openCache, verifyLocked } from "@kernlock/loader";
import { compiledPtx, fitsMachine, type KernelFacts, type MachineFacts, plan } from "@kernlock/policies/compatibility";
import type { Command } from "commander";
import { collect, command, withProject } from "../command.ts";
import { asKernlockError } from "../errors.ts";
import { lockedKernelFacts, readLock, readManifest, readPolicy } from "../locked.ts";
import { bytesText, errorJson } from "../output.ts";
import { confinementEffort, type PlanFlags, planRequest, withPlanFlags } from "../plan-flags.ts";
import { checkFiles, checkPortable, isPortable } from "../portable/manifest.ts";
import { findProject, type Project, type ProjectOptions } from "../project.ts";
import { readText } from "../registry-access.ts";

interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly text: string;
  readonly error?: KernlockError;
}

/** Where a portable folder has its list, if this program runs in one: above `app`. */
const programFolder = resolve(import.meta.dirname, "..", "..", "..");

type Options = ProjectOptions & PlanFlags & { readonly model?: readonly string[]; readonly trust?: string };

export function doctorCommand(): Command {
  return command<Options>(
    "doctor",
    "answer before anything is loaded: this machine, the locked kernels, the cache, and what of each model can run",
    (target) =>
      withPlanFlags(
        withProject(
          target
            .option("--model <dir>", "a model folder to judge; may be repeated", collect)
            .option("--trust <file>", "the public key (SPKI PEM) that must have signed this program's own files"),
        ),
      ),
    async ({ output, options }) => {
      const checks: Check[] = [];
      const machine = await readMachine(checks);
      await attempt("program", checks, async () => [undefined, programText(options.trust)] as const);
      const project = await attempt("project", checks, async () => {
        const found = findProject(options);
        return [found, `${found.lock}`] as const;
      });
      if (project === undefined) await checkConfinement("required", checks);
      else await checkProject(project, options, machine, checks);
      const ok = checks.every((check) => check.ok);
      output.result(
        {
          ok,
          machine,
          checks: checks.map(({ name, ok: passed, text, error }) => ({
            name,
            ok: passed,
            text,
            ...(error === undefined ? {} : { error: errorJson(error) }),
          })),
        },
        () => `${machineText(machine)}${checks.map(checkText).join("")}`,
      );
      return ok ? 0 : 1;
    },
  );
}

/**
 * Whether this program's own files, native parts included, are those that were signed. Code that was changed could lie
 * about itself: the check says something where the folder may have been damaged, or changed in parts; whoever wants more
 * checks from another machine with `bundle --check`.
 */
function programText(trust: string | undefined): string {
  if (!isPortable(programFolder)) {
    if (trust !== undefined) {
      fail("KL_PORTABLE_MANIFEST", "This program does not run from a portable folder, so nobody signed its files.", {
        remedy: "Run it from a folder that `kernlock bundle --portable` made.",
      });
    }
    return "runs from sources or an installed package: no signed list of its files is at hand";
  }
  if (trust === undefined)
    return `${checkFiles(programFolder)} files as listed; who signed the list is told with --trust`;
  const { files, signer } = checkPortable(programFolder, readText(trust), new Date());
  return `${files} files as signed by ${signer}`;
}

/** What this system can do to confine kernels is a fact of the machine, where it can be found out. */
async function readMachine(checks: Check[]): Promise<MachineFacts> {
  const machine = readMachineFacts();
  try {
    return { ...machine, confinement: confinementFacts() };
  } catch (error) {
    checks.push({ name: "starter", ok: false, text: asKernlockError(error).message, error: asKernlockError(error) });
    return machine;
  }
}

async function checkConfinement(effort: "required" | "best-effort", checks: Check[]): Promise<void> {
  await attempt("confinement", checks, async () => {
    demandConfinement(effort);
    const { landlock, seccomp } = confinementFacts();
    const has = [landlock > 0 ? `Landlock version ${landlock}` : "no Landlock", seccomp ? "seccomp" : "no seccomp"];
    return [undefined, `${has.join(", ")}; ${effort} by the policy`] as const;
  });
}

async function checkProject(
  project: Project,
  options: PlanFlags & { readonly model?: readonly string[] },
  machine: MachineFacts,
  checks: Check[],
): Promise<void> {
  const policy = await attempt("policy", checks, async () => {
    const read = readPolicy(project);
    return [
      read,
      `${project.policy}, ${read.digest}, dequantisation ${read.numerics.allowDequantization ? "allowed" : "not allowed"}`,
    ] as const;
  });
  await checkConfinement(policy === undefined ? "required" : confinementEffort(policy), checks);
  const lock = await attempt("lock", checks, async () => {
    const read = readLock(project);
    return [read, `${Object.keys(read.kernels).length} kernels from ${read.registry.origin}`] as const;
  });
  const cache = openCache(project.cache);
  await attempt("cache", checks, async () => [undefined, cacheText(project.cache)] as const);
  if (policy === undefined || lock === undefined) return;
  await attempt("evidence", checks, async () => {
    assertVerified(await verifyLocked({ lock, manifest: readManifest(project), policy, cache, now: new Date() }));
    return [undefined, "every pinned file, signature and rule holds"] as const;
  });
  const kernels = await attempt("kernels", checks, async () => {
    const facts = await lockedKernelFacts(lock, cache, policy);
    return [facts, kernelsText(facts, machine)] as const;
  });
  if (kernels === undefined) return;
  for (const path of options.model ?? [])
    await attempt(`model ${path}`, checks, async () => {
      const model = openModel(path);
      try {
        const result = plan({
          model: modelFacts(model),
          machine,
          kernels,
          request: planRequest(
            options,
            policy,
            kernels.map((kernel) => kernel.name),
          ),
        });
        const growth = result.conversions.find((conversion) => conversion.kind === "dequantize");
        const format =
          growth === undefined
            ? `experts stay ${result.expertLayout}`
            : `experts grow to ${bytesText(growth.bytes)} of bf16`;
        return [
          undefined,
          `runs on ${result.device} in mode ${result.mode}; ${format}; needs ${bytesText(result.memory.total)} of ${bytesText(result.memory.available)}`,
        ] as const;
      } finally {
        model.close();
      }
    });
}

async function attempt<T>(
  name: string,
  checks: Check[],
  check: () => Promise<readonly [T, string]>,
): Promise<T | undefined> {
  try {
    const [value, text] = await check();
    checks.push({ name, ok: true, text });
    return value;
  } catch (error) {
    if (error instanceof KernlockError && error.code === "KL_CLI_USAGE") throw error;
    const known = asKernlockError(error);
    checks.push({ name, ok: false, text: known.message, error: known });
    return undefined;
  }
}

function machineText(machine: MachineFacts): string {
  const { cpu, memory, libc } = machine;
  const gpus = machine.cuda?.devices.map((gpu, i) => {
    const free = gpu.available === undefined ? "" : `${bytesText(gpu.available)} of `;
    return `gpu       cuda:${i} ${gpu.name}, compute capability ${gpu.capability} (${gpu.architecture}), ${free}${bytesText(gpu.memory)} available`;
  });
  const none = ["gpu       no CUDA driver: CUDA kernels cannot run here"];
  const others = (machine.otherGpus ?? []).map((gpu) => `gpu       ${gpu}: no kernels for this maker's GPUs`);
  return [
    `machine   ${machine.os} ${machine.arch}, ${libc.family} ${libc.version}`,
    `cpu       ${cpu.model}, ${cpu.level}, ${cpu.cores} cores`,
    `memory    ${bytesText(memory.available)} of ${bytesText(memory.total)} available`,
    ...(machine.cuda === undefined ? [] : [`driver    runs CUDA up to ${machine.cuda.driver}`]),
    ...(gpus ?? none),
    ...others,
    "",
  ].join("\n");
}

function checkText({ name, ok, text, error }: Check): string {
  const remedy = error?.remedy === undefined ? "" : `          ${error.remedy}\n`;
  return `${ok ? "ok  " : "NO  "}  ${name}: ${error === undefined ? text : `[${error.code}] ${text}`}\n${remedy}`;
}

/** Every locked variant: whether it can run on this machine, and where it cannot, why. */
function kernelsText(facts: readonly KernelFacts[], machine: MachineFacts): string {
  const devices = ["cpu", ...(machine.cuda?.devices.map((_, i) => `cuda:${i}`) ?? [])] as ("cpu" | `cuda:${number}`)[];
  const lines = facts.map((kernel) => {
    const { backend, variant } = kernel.descriptor;
    const places = devices.filter((device) => (device === "cpu") === (backend.kind === "cpu"));
    const answers = places.map((device) => ({ device, answer: fitsMachine(kernel, machine, device) }));
    const compiled = (device: (typeof devices)[number]): string =>
      compiledPtx([kernel], machine, device)
        .map(({ target }) => ` (the driver would compile its PTX for ${target}, which no digest covers)`)
        .join("");
    const runs = answers.flatMap(({ device, answer }) => (answer.supported ? [`${device}${compiled(device)}`] : []));
    const reasons = new Set(answers.flatMap(({ answer }) => (answer.supported ? [] : [answer.reason])));
    const why = reasons.size === 0 ? "needs a GPU with a CUDA driver" : [...reasons].join("; ");
    const verdict = runs.length > 0 ? `runs on ${runs.join(", ")}` : `cannot run here: ${why}`;
    return `\n          ${kernel.name} ${kernel.version} ${variant} ${verdict}`;
  });
  return `${new Set(facts.map(({ name }) => name)).size} packages${lines.join("")}`;
}

function cacheText(folder: string): string {
  let files: Dirent[] = [];
  try {
    files = readdirSync(join(folder, "blobs", "sha256"), { withFileTypes: true });
  } catch {
    return `${folder}, empty`;
  }
  const bytes = files.reduce((sum, file) => sum + statSync(join(folder, "blobs", "sha256", file.name)).size, 0);
  return `${folder}, ${files.length} blobs, ${bytesText(bytes)}`;
}
