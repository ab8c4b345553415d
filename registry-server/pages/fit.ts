/** "Does it run on my machine?": a plain form whose answer is a page, judged by the rules that `kernlock plan` uses. */
import {
  architectureOf,
  architecturesOf,
  type CpuLevel,
  fitsMachine,
  type KernelFacts,
  type MachineFacts,
} from "@kernlock/policies/compatibility";
import type { VariantDocument, VersionDocument } from "../publish/documents.ts";
import { type Html, html, trusted } from "./html.ts";
import { wasTested } from "./matrix.ts";

const cpuLevels: readonly { readonly level: CpuLevel; readonly label: string }[] = [
  { level: "x86-64-v4", label: "x86-64-v4 (AVX-512)" },
  { level: "x86-64-v3", label: "x86-64-v3 (AVX2)" },
  { level: "x86-64-v2", label: "x86-64-v2 (SSE4.2)" },
  { level: "x86-64", label: "x86-64" },
];
const gpus: readonly { readonly capability: string; readonly label: string }[] = [
  { capability: "7.5", label: "7.5 (T4, RTX 20)" },
  { capability: "8.0", label: "8.0 (A100)" },
  { capability: "8.6", label: "8.6 (A10, RTX 30)" },
  { capability: "8.9", label: "8.9 (L4, L40S, RTX 40)" },
  { capability: "9.0", label: "9.0 (H100, H200)" },
  { capability: "10.0", label: "10.0 (B200)" },
  { capability: "10.3", label: "10.3 (B300)" },
  { capability: "12.0", label: "12.0 (RTX 50)" },
];

export interface Machine {
  readonly cpu: CpuLevel;
  readonly gpu: string | null;
  readonly driver: string | null;
}

/** What a form sent; undefined when nothing was asked. Unknown values count as not given. */
export function machineOf(query: Readonly<Record<string, string | undefined>>): Machine | undefined {
  const { cpu, gpu, driver } = query;
  if (cpu === undefined && gpu === undefined) return undefined;
  return {
    cpu: cpuLevels.find(({ level }) => level === cpu)?.level ?? "x86-64-v3",
    gpu: gpus.find(({ capability }) => capability === gpu)?.capability ?? null,
    driver: driver !== undefined && /^[0-9]{1,3}\.[0-9]{1,3}$/.test(driver) ? driver : null,
  };
}

export interface Fit {
  readonly variant: string;
  readonly verdict: "best" | "fits" | "asks" | "no";
  readonly reason: string;
}

/** Of every variant whether it runs there. `asks`: it would, once a policy permits it. */
export function fits(kernel: VersionDocument, machine: Machine): Fit[] {
  const judged = kernel.variants.map((variant) => ({ variant, fit: fitOf(kernel, variant, machine) }));
  const best = judged
    .filter(({ fit }) => fit.verdict === "fits")
    .sort((a, b) => rank(b.variant, machine) - rank(a.variant, machine))[0];
  return judged.map((one) => (one === best ? { ...one.fit, verdict: "best" } : one.fit));
}

function fitOf(kernel: VersionDocument, variant: VariantDocument, machine: Machine): Fit {
  const { libc } = variant.platform;
  const facts: MachineFacts = {
    os: "linux",
    arch: "x86_64",
    libc: { family: libc.family, version: libc.minimum },
    cpu: { model: "", level: machine.cpu, cores: 1 },
    memory: { total: 0, available: 0 },
    ...(machine.gpu === null ? {} : { cuda: cudaOf(machine.gpu, machine.driver ?? "0.0") }),
  };
  if (variant.backend.kind === "cuda") {
    if (machine.gpu === null) return { variant: variant.variant, verdict: "no", reason: "needs an NVIDIA GPU" };
    if (machine.driver === null) {
      const reason = `needs a driver for CUDA ${variant.backend.driver}; yours was not given`;
      return { variant: variant.variant, verdict: "no", reason };
    }
  }
  const { name, version } = kernel;
  const descriptor = {
    schema: "kernlock.variant/v1",
    package: name,
    version,
    variant: variant.variant,
    abi: variant.abi,
    abi_build: variant.abi_build,
    platform: variant.platform,
    backend: variant.backend,
    files: variant.files,
    ops: variant.ops,
    license: kernel.license,
    tested: wasTested(variant),
  } as KernelFacts["descriptor"];
  const asked: KernelFacts = { name, version, digest: variant.manifest.digest, signers: variant.signers, descriptor };
  const device = variant.backend.kind === "cpu" ? "cpu" : "cuda:0";
  const strict = fitsMachine(asked, facts, device);
  if (strict.supported) {
    return {
      variant: variant.variant,
      verdict: "fits",
      reason: `runs here, with ${libc.family} ${libc.minimum} or newer`,
    };
  }
  const lenient = fitsMachine({ ...asked, permits: { untested: true, ptx: true } }, facts, device);
  return lenient.supported
    ? { variant: variant.variant, verdict: "asks", reason: `${strict.reason}; a policy may permit it` }
    : { variant: variant.variant, verdict: "no", reason: strict.reason };
}

function cudaOf(capability: string, driver: string): NonNullable<MachineFacts["cuda"]> {
  const architecture = architectureOf(capability);
  return {
    driver,
    architectures: architecturesOf(capability),
    devices: [{ name: `compute capability ${capability}`, capability, architecture, memory: 0 }],
  };
}

/** A GPU's own code before a CPU's, the closest to the device first. */
function rank({ backend }: VariantDocument, { gpu }: Machine): number {
  if (backend.kind === "cpu") return -100 - cpuLevels.findIndex(({ level }) => level === backend.level);
  const closest = gpu === null ? [] : architecturesOf(gpu);
  return -Math.min(...backend.architectures.map((one) => closest.indexOf(one)).filter((i) => i >= 0), 99);
}

const marks = { best: "Take this", fits: "Fits", asks: "On request", no: "Does not fit" } as const;

export function fitSection(kernel: VersionDocument, path: string, machine: Machine | undefined): Html {
  const option = (value: string, label: string, current: string | null | undefined) =>
    html`<option value="${value}"${value === (current ?? "") ? trusted(" selected") : null}>${label}</option>`;
  return html`<section aria-labelledby="fit">
<h2 id="fit" class="section">Does it run on my machine?</h2>
<form class="fit" action="${path}#fit" method="get">
<label>CPU <select name="cpu">${cpuLevels.map(({ level, label }) => option(level, label, machine?.cpu ?? "x86-64-v3"))}</select></label>
<label>GPU <select name="gpu">${option("", "none", machine?.gpu)}${gpus.map(({ capability, label }) => option(capability, label, machine?.gpu))}</select></label>
<label>Driver’s CUDA <input name="driver" value="${machine?.driver ?? ""}" placeholder="13.0" pattern="[0-9]{1,3}\\.[0-9]{1,3}" title="A version such as 13.0" size="5" maxlength="7" autocomplete="off"></label>
<button type="submit">Check</button>
</form>
${machine === undefined ? html`<p class="hint"><code>kernlock doctor</code> prints all three; <code>nvidia-smi</code> shows the driver’s CUDA version.</p>` : answer(fits(kernel, machine))}
</section>`;
}

function answer(found: readonly Fit[]): Html {
  const order = ["best", "fits", "asks", "no"];
  const sorted = [...found].sort((a, b) => order.indexOf(a.verdict) - order.indexOf(b.verdict));
  const best = sorted[0]?.verdict === "best" ? sorted[0].variant : undefined;
  return html`<p class="answer" role="status">${best === undefined ? "No variant of this version runs there as it is." : html`Yes: <b>${best}</b>.`}</p>
<div class="scroll" tabindex="0" role="region" aria-label="Variants on this machine">
<table>
<thead><tr><th scope="col">Variant</th><th scope="col">Verdict</th><th scope="col">Why</th></tr></thead>
<tbody>${sorted.map(
    (fit) => html`
<tr><th scope="row">${fit.variant}</th><td><span class="${fit.verdict === "no" ? "no" : fit.verdict === "asks" ? "maybe" : "yes"}">${marks[fit.verdict]}</span></td><td class="prose">${fit.reason}</td></tr>`,
  )}
</tbody>
</table>
</div>`;
}
