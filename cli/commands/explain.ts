import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fail, KernlockError, parsePackageName } from "@kernlock/kernels/format";
import { OciLayout } from "@kernlock/kernels/oci";
import { type Explained, explainLocked, explainVersion, layoutSource, openCache } from "@kernlock/loader";
import { assertAllowed, type Policy, type Verdict } from "@kernlock/policies/trust";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { readAnyLock, readLock, readManifest, readPolicy } from "../locked.ts";
import { errorJson } from "../output.ts";
import { findProject, type Project, type ProjectOptions } from "../project.ts";
import { type RegistryFlags, registryClient, registryOrigin, withRegistry } from "../registry-access.ts";
import { verdictText } from "../verdict-text.ts";

type Options = ProjectOptions & RegistryFlags;

/** A kernel, where it was found, and what the policy says of it. */
interface Explanation {
  readonly name: string;
  readonly version: string;
  readonly from: "lock" | "registry" | "layout";
  /** The lock's path, the registry's origin, the layout's folder. */
  readonly where: string;
  readonly variants: readonly string[];
  readonly verdict: Verdict | null;
  readonly problems: readonly KernlockError[];
  /** What the reader should know besides. */
  readonly notes: readonly string[];
}

export function explainCommand(): Command {
  return command<Options>(
    "explain <kernel>",
    "what the policy requires of a kernel, what was found, and why it is allowed or not; NAME is the locked kernel (no network), NAME@VERSION any version of the registry, FOLDER an OCI layout",
    (target) => withRegistry(withProject(target)),
    async ({ output, options, args: [what = ""] }) => {
      // A layout needs no project around it, only a policy to be judged by.
      const policy = readPolicy(options.policy === undefined ? findProject(options) : { policy: options.policy });
      const explained = await explain(what, options, policy);
      const { name, version, from, where, variants, verdict, problems, notes } = explained;
      const ok = problems.length === 0;
      const operator = policy.above?.digest ?? null;
      output.result(
        {
          ok,
          ...{ name, version, from, where, variants },
          policy: policy.digest,
          operator_policy: operator,
          verdict,
          problems: problems.map(errorJson),
          notes,
        },
        () =>
          [
            `${name} ${version}: ${ok ? "allowed" : "refused"}\n`,
            `from ${from === "lock" ? "the lock" : `the ${from}`} ${where}, ${variants.join(", ")}\n`,
            `policy ${policy.digest}${operator === null ? "" : `, below the operator's ${operator}`}\n`,
            ...notes.map((note) => `note: ${note}\n`),
            "\n",
            verdict === null ? "" : verdictText(verdict),
            ...problems.map((problem) => `\n[${problem.code}] ${problem.message}\n  ${problem.remedy ?? ""}\n`),
          ].join(""),
      );
      return ok ? 0 : 1;
    },
  );
}

/** A folder that is a layout is meant as one; a name with a version is asked of the registry; a name is the locked one. */
async function explain(what: string, options: Options, policy: Policy): Promise<Explanation> {
  if (existsSync(join(what, "oci-layout"))) return ofLayout(what, policy);
  const [name = "", version] = what.split("@");
  parsePackageName(name);
  return version === undefined ? ofLock(name, options, policy) : ofRegistry(name, version, options, policy);
}

async function ofLock(name: string, options: Options, policy: Policy): Promise<Explanation> {
  const project = findProject(options);
  const lock = readLock(project);
  const locked = Object.hasOwn(lock.kernels, name) ? lock.kernels[name] : undefined;
  if (locked === undefined) {
    return fail("KL_LOCK_NO_KERNEL", `The lock has no kernel ${name}.`, {
      remedy: `Name a version (${name}@VERSION) to ask the registry about it, or the folder of a layout.`,
    });
  }
  const request = { lock, manifest: readManifest(project), policy, cache: openCache(project.cache), now: new Date() };
  const { version, verdict, problems } = await explainLocked({ ...request, name });
  const variants = locked.variants.map(({ key }) => key);
  return { name, version, from: "lock", where: project.lock, variants, verdict, problems, notes: [] };
}

async function ofRegistry(name: string, version: string, options: Options, policy: Policy): Promise<Explanation> {
  const origin = registryOrigin(options);
  const registry = registryClient(options, origin);
  const { variants, seen } = wishes(options);
  try {
    const question = { source: registry, reference: version, name, variants, policy, now: new Date(), seen };
    const found = await explainVersion(question);
    return { ...judged(found), from: "registry", where: origin, notes: [] };
  } finally {
    await registry.close();
  }
}

/** The variants that the project would lock, and the numbers of feeds that its lock pins: they hold here, too. */
function wishes(options: Options): { variants: readonly string[]; seen: Readonly<Record<string, number>> } {
  let project: Project;
  try {
    project = findProject(options);
  } catch {
    // Policy and registry were named; there need not be a project.
    return { variants: [], seen: {} };
  }
  const seen = existsSync(project.lock) ? readAnyLock(project).advisories : undefined;
  return { variants: readManifest(project)?.variants ?? [], seen: seen ?? {} };
}

async function ofLayout(folder: string, policy: Policy): Promise<Explanation> {
  const layout = await OciLayout.open(folder);
  const tags = await layout.tags();
  const [reference] = tags;
  if (reference === undefined || tags.length > 1) {
    return fail("KL_OCI_LAYOUT", `${folder} holds ${tags.length} versions, and one can be explained.`, {
      remedy: "Name the folder of one version, as `kernlock build` makes it.",
    });
  }
  const found = await explainVersion({ source: layoutSource(layout), reference, policy, now: new Date() });
  const unsigned = statements(folder);
  const note = `${unsigned} statements of this folder are not signed yet; \`kernlock publish\` signs them`;
  return { ...judged(found), from: "layout", where: folder, notes: unsigned > 0 && found.bundles === 0 ? [note] : [] };
}

function statements(folder: string): number {
  const path = join(folder, "statements");
  return existsSync(path) ? readdirSync(path).filter((name) => name.endsWith(".json")).length : 0;
}

function judged({ name, version, variants, verdict }: Explained) {
  const problems: KernlockError[] = [];
  try {
    assertAllowed(verdict, { name, version });
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    problems.push(error);
  }
  return { name, version, variants, verdict, problems };
}
