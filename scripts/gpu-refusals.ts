/**
 * Makes what `test/gpu/refusals.sh` runs on a machine with a GPU: projects that must be refused there, some beside them that
 * must not, and a table of them, in .build/gpu-refusals/cases. `npm run gpu-refusals`, after `npm run gpu-project`, whose
 * packages and key it takes; it builds the packages for sm_80 besides, and one of them as PTX alone.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileSigner } from "@kernlock/cli/keys";
import { digestHex, type ErrorCode, payloadFiles } from "@kernlock/kernels/format";
import { OciLayout } from "@kernlock/kernels/oci";
import { parseLock } from "@kernlock/loader";
import type { Signer } from "@kernlock/policies/trust";
import { altered, type Package, pinProject, readPackage } from "./pinned.ts";
import { builder, buildPackages, gpuVariants, kernlockOk, packages, root } from "./project.ts";

/** A line of the table. Every case is the same `generate`, with other flags or in another project. */
interface Case {
  readonly name: string;
  /** Folder of the project; `portable`: the one of the portable folder. */
  readonly project: string;
  /** Null: not refused. */
  readonly code: ErrorCode | null;
  /** A part of what the command says. */
  readonly says: string;
  /** A part of what the audit log has afterwards. */
  readonly log?: string;
  readonly flags?: string;
}

const permitsUntested = /^( +)untestedVariants: true\n/m;

/**
 * Writes projects and table. `own` are the packages of the portable folder for the GPU, `foreign` the same ones for an
 * older GPU, `ptx` is one of them as PTX alone, for one target that the GPU's driver can compile; the policy trusts the
 * signer and permits variants that nobody has tested. `answer` is a part of what the controls, which are not refused, have
 * to say.
 */
export async function makeCases(
  out: string,
  { own, foreign, ptx, policy, signer, answer }: CaseMaterial,
): Promise<readonly Case[]> {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const cases: Case[] = [{ name: "control", project: "portable", code: null, says: answer }];
  const shared = { policy, signer, cache: join(out, "cache") };
  const add = async (
    name: string,
    code: ErrorCode | null,
    says: string,
    of: readonly Package[],
    { log, ...its }: typeof shared & { readonly log?: string } = shared,
  ) => {
    await pinProject(join(out, name), of, its);
    cases.push({ name, project: name, code, says, ...(log === undefined ? {} : { log }) });
  };
  const [architecture, ours] = [foreign, own].map(([one]) => architecturesOf(one!)) as [string, string];
  const differs = `holds code for ${architecture}; variant.json says ${ours}`;

  // Signed and pinned in the same way as all that follow, and as honest as the portable folder's.
  await add("unaltered", null, answer, own);
  await add("other-architecture", "KL_PLAN_GPU", `is for ${architecture}`, foreign);
  const withPtx = (one: Package): Package => altered(one, { backend: { ...cudaOf(one), ptx: [architecture] } });
  await add("ptx-besides", "KL_VERDICT_PTX", "PTX", own.map(withPtx));

  // One package is PTX alone. The policy decides; but a policy makes no target newer, and PTX no truer.
  const [target] = cudaOf(ptx).ptx as [string];
  const permitting = { ...shared, policy: policy.replace(permitsUntested, "$&$1ptx: true\n") };
  const ownBut = (other: Package) => own.map((one) => (one.about.name === other.about.name ? other : one));
  const claiming = (claimed: string): Package =>
    altered(ptx, {
      variant: ptx.variant.variant.replace(numberOf(target), numberOf(claimed)),
      backend: { ...cudaOf(ptx), ptx: [claimed] },
    });
  await add("ptx-only", "KL_PLAN_GPU", "only PTX", ownBut(ptx));
  const log = `"compiledHere":["${target}"]`;
  await add("ptx-permitted", null, answer, ownBut(ptx), { ...permitting, log });
  await add("ptx-too-new", "KL_PLAN_GPU", "is for PTX sm_120", ownBut(claiming("sm_120")), permitting);
  const says = `holds PTX for ${target}; variant.json says sm_80`;
  await add("ptx-lying", "KL_IMAGE_PTX", says, ownBut(claiming("sm_80")), permitting);
  await add(
    "untested",
    "KL_PLAN_UNTESTED",
    "has not been tested",
    own.map((one) => altered(one, { tested: false })),
    { ...shared, policy: policy.replace(permitsUntested, "") },
  );
  cases.push({
    ...{ name: "memory", project: "portable", code: "KL_PLAN_MEMORY", says: "MB are available" },
    flags: "--max-context 131072 --max-sequences 1024",
  });
  // The last package of those that can lie: what was verified and sealed before it must not run either.
  for (const kind of ["shared-object", "device-image"] as const) {
    const liar = own.findLast(({ variant }) => variant.files.some((file) => file.kind === kind));
    if (liar === undefined) continue;
    const other = foreign.find(({ about }) => about.name === liar.about.name)!;
    const paths = payloadFiles(liar.variant).flatMap((file) => (file.kind === kind ? [file.path] : []));
    const lie = altered(liar, {}, new Map(paths.map((path) => [path, other.files.get(path)!])));
    const lying = own.map((one) => (one === liar ? lie : one));
    await add(`lying-${kind}`, "KL_IMAGE_ARCHITECTURE", differs, lying);
  }
  const damaged = join(out, "flipped-byte", "cache");
  await add("flipped-byte", "KL_CACHE_DIGEST", "other bytes", own, { ...shared, cache: damaged });
  const [victim] = payloadFiles(own.at(-1)!.variant) as [(typeof own)[0]["variant"]["files"][0]];
  const path = join(damaged, "blobs", "sha256", digestHex(victim.digest));
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);

  const rows = cases.map(({ name, project, code, says, log = "-", flags = "" }) =>
    [name, project, code === null ? 0 : 1, code ?? "-", says, log, flags].join("\t"),
  );
  writeFileSync(join(out, "table"), `${rows.join("\n")}\n`);
  return cases;
}

function cudaOf({ variant: { backend } }: Package) {
  if (backend.kind !== "cuda") throw new Error("this is no package for GPUs");
  return backend;
}
const numberOf = (architecture: string): string => architecture.slice("sm_".length);
const architecturesOf = (one: Package): string => cudaOf(one).architectures.join();

export interface CaseMaterial {
  readonly own: readonly Package[];
  readonly foreign: readonly Package[];
  readonly ptx: Package;
  readonly policy: string;
  readonly signer: Signer;
  readonly answer: string;
}

/** A layout of a package as PTX for compute capability 9.0 and newer, of what it compiles by nvcc. */
async function buildAsPtx(name: string, home: string): Promise<{ readonly layout: string; readonly key: string }> {
  const key = "linux-x86_64-cuda-ptx90";
  const from = join(home, "ptx", name);
  cpSync(join(root, "kernels", name), from, { recursive: true });
  cpSync(join(root, "LICENSE"), join(from, "LICENSE"));
  const path = join(from, "kernel.json");
  const source = JSON.parse(readFileSync(path, "utf8"));
  const { each: _, ...family } = source.variants.find((one: object) => "each" in one);
  const compile = family.compile.filter(({ language }: { language: string }) => language === "cuda");
  const files = compile.map(({ output }: { output: string }) => output);
  const ops = family.ops.filter(({ file }: { file: string }) => files.includes(file));
  const backend = { ...family.backend, architectures: [], ptx: ["sm_90"] };
  const only = { ...family, variant: key, tested: false, backend, compile, ops };
  writeFileSync(path, JSON.stringify({ ...source, variants: [only] }));
  const layout = join(home, "layouts", `${name}-ptx`);
  await kernlockOk(["build", from, "--out", layout, "--builder", builder, "--revision", "0".repeat(40)]);
  return { layout, key };
}

async function main(): Promise<void> {
  const [, ownKey] = gpuVariants;
  const foreignKey = "linux-x86_64-cuda-sm80";
  const from = join(root, ".build", "gpu-project");
  if (!existsSync(join(from, "project", "kernels.lock")))
    throw new Error("there are no packages yet: npm run gpu-project");
  const home = join(root, ".build", "gpu-refusals");
  const layouts = join(home, "layouts");
  rmSync(home, { recursive: true, force: true });
  await buildPackages({ layouts }, (line) => console.log(line), [foreignKey]);
  const { kernels } = parseLock(readFileSync(join(from, "project", "kernels.lock")));
  const own: Package[] = [];
  const foreign: Package[] = [];
  for (const name of packages.toSorted()) {
    own.push(await readPackage(join(from, "project", "cache"), kernels[`kernlock/${name}`]!.index, ownKey));
    const layout = join(layouts, name);
    const [index] = await (await OciLayout.open(layout)).entries();
    foreign.push(await readPackage(layout, index!, foreignKey));
  }
  const asPtx = await buildAsPtx("liger-rmsnorm", home);
  const [ptxIndex] = await (await OciLayout.open(asPtx.layout)).entries();
  const ptx = await readPackage(asPtx.layout, ptxIndex!, asPtx.key);
  const out = join(home, "cases");
  const cases = await makeCases(out, {
    ...{ own, foreign, ptx, answer: "a sheltered port" },
    policy: readFileSync(join(from, "project", "kernels.policy.yaml"), "utf8"),
    signer: fileSigner(join(from, "work", "publisher.pem")),
  });
  const packed = `${out}.tar.xz`;
  const tar = ["-cJf", packed, "-C", home, "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "cases"];
  if (spawnSync("tar", tar, { stdio: "inherit" }).status !== 0) throw new Error("tar could not pack the cases");
  console.log(`${cases.length} cases in ${out} and ${packed}`);
}

if (import.meta.main) await main();
