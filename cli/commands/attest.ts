import { writeFileSync } from "node:fs";
import { digestOf, fail, KernlockError, parsePackageName } from "@kernlock/kernels/format";
import { explainLocked, openCache } from "@kernlock/loader";
import { Command, Option } from "commander";
import {
  attach,
  auditPredicate,
  type Predicate,
  readFile,
  type Subject,
  sbomPredicate,
  sign,
  subjectFrom,
  testPredicate,
  vsaPredicate,
  type When,
} from "../attest.ts";
import { collect, command, type Invocation, withProject } from "../command.ts";
import { usage } from "../errors.ts";
import { type KeyFlags, signerFrom, withKey } from "../keys/flags.ts";
import { readLock, readPolicy } from "../locked.ts";
import { findProject, type ProjectOptions } from "../project.ts";
import { type RegistryFlags, registryClient, registryOrigin, withRegistry } from "../registry-access.ts";

interface Common extends RegistryFlags, KeyFlags {
  readonly index?: string;
  readonly variant?: string;
  readonly expires?: string;
  readonly output?: string;
}

function withCommon(target: Command): Command {
  return withKey(withRegistry(target))
    .option("--index <file>", "the version's index, from a file instead of a registry")
    .option("--variant <key>", "speak about this variant alone (default: about the whole version)")
    .option("--expires <time>", "when the statement ends (RFC 3339)")
    .option("--output <file>", "write the bundle to a file and push nothing");
}

/** A subcommand: what it says of the kernel is made by `predicate`; the rest is the same for all. */
function attestation<O extends Common>(
  name: string,
  summary: string,
  configure: (target: Command) => Command,
  predicate: (subject: Subject, when: When, options: O, context: Context) => Promise<Predicate> | Predicate,
): Command {
  return command<O>(
    `${name} <kernel>`,
    summary,
    (target) => configure(withCommon(target)),
    async (invocation: Invocation<O>) => {
      const { output, options, args } = invocation;
      const [kernel = "", version] = (args[0] ?? "").split("@");
      parsePackageName(kernel);
      const origin = originOf(options);
      const registry = origin === undefined ? undefined : registryClient(options, origin);
      if (registry === undefined && options.output === undefined) usage("Name a --registry, or a file with --output.");
      const signer = signerFrom(options);
      try {
        const find = async (wanted: string | undefined): Promise<Uint8Array> => {
          if (options.index !== undefined && wanted === version) return readFile(options.index);
          if (registry === undefined) return usage("Name the --registry that has the version, or its --index.");
          return (await registry.getManifest(kernel, wanted ?? usage("Name a version: namespace/name@version."))).bytes;
        };
        const subject = subjectFrom(await find(version), options.variant);
        if (subject.index.name !== kernel || (version !== undefined && subject.index.version !== version)) {
          fail("KL_ATTEST_SUBJECT", `What was found is ${subject.index.name} ${subject.index.version}.`, {
            remedy: "Name the version that is meant.",
          });
        }
        const when = {
          issued: new Date(),
          ...(options.expires === undefined ? {} : { expires: time(options.expires) }),
        };
        const made = await predicate(subject, when, options, { find, origin });
        const bundle = await sign(subject, made, signer);
        if (options.output !== undefined) writeFileSync(options.output, bundle);
        const attached =
          options.output === undefined && registry ? await attach(registry, subject, made.type, bundle) : null;
        output.result(
          {
            kernel,
            version: subject.index.version,
            variant: subject.variant,
            subject: subject.descriptor.digest,
            predicate_type: made.type,
            bundle: digestOf(bundle),
            attached,
            file: options.output ?? null,
          },
          () =>
            `${name}: ${kernel} ${subject.index.version} ${subject.variant ?? "(all variants)"}\n  ${
              attached === null ? `written to ${options.output}` : `attached as ${attached}`
            }\n`,
        );
      } finally {
        await registry?.close();
      }
      return 0;
    },
  );
}

/** The registry that is named, or that of the project around; none where index and output are files. */
function originOf(options: Common & ProjectOptions): string | undefined {
  if (options.registry === undefined && options.index !== undefined && options.output !== undefined) return undefined;
  try {
    return registryOrigin(options);
  } catch (error) {
    // Without a project, what is missing is said where it is needed.
    if (error instanceof KernlockError && error.code === "KL_CLI_NO_PROJECT") return undefined;
    throw error;
  }
}

interface Context {
  readonly find: (version: string | undefined) => Promise<Uint8Array>;
  readonly origin: string | undefined;
}

function time(text: string): Date {
  const date = new Date(text);
  if (!/^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)$/.test(text) || Number.isNaN(date.getTime())) {
    usage(`"${text}" is not an RFC 3339 time with a zone.`);
  }
  return date;
}

interface AuditOptions extends Common {
  readonly criteria: string;
  readonly violation?: boolean;
  readonly deltaFrom?: string;
  readonly notes?: string;
}

const audit = () =>
  attestation<AuditOptions>(
    "audit",
    "say what an audit of a version found",
    (target) =>
      target
        .requiredOption("--criteria <names>", "criteria of the audit, with commas between")
        .option("--violation", "the audit found a violation; it beats every pass")
        .option("--delta-from <version>", "only the changes since this version were read")
        .option("--notes <text>", "for people"),
    async (subject, when, options, { find }) => {
      const criteria = options.criteria.split(",").map((text) => text.trim());
      const odd = criteria.find((text) => !/^[a-z0-9]+([._-][a-z0-9]+)*$/.test(text));
      if (odd !== undefined) usage(`"${odd}" is no name of a criterion.`);
      const base =
        options.deltaFrom === undefined ? undefined : subjectFrom(await find(options.deltaFrom), options.variant);
      return auditPredicate(subject, when, {
        criteria,
        result: options.violation === true ? "violation" : "pass",
        ...(base === undefined ? {} : { from: { version: base.index.version, digest: base.descriptor.digest } }),
        ...(options.notes === undefined ? {} : { notes: options.notes }),
      });
    },
  );

interface TestOptions extends Common {
  readonly suite: string;
  readonly result: string;
  readonly device?: string;
  readonly report?: string;
}

const test = () =>
  attestation<TestOptions>(
    "test",
    "say how a version did in tests",
    (target) =>
      target
        .requiredOption("--suite <name>", "what was tested: numerics, speed, …")
        .addOption(
          new Option("--result <result>", "outcome").choices(["PASSED", "WARNED", "FAILED"]).makeOptionMandatory(),
        )
        .option("--device <name>", "on which device")
        .option("--report <file>", "a file whose digest stands in the statement"),
    (subject, when, { suite, result, device, report }) =>
      testPredicate(subject, when, {
        ...{ suite, result },
        ...(device === undefined ? {} : { device }),
        ...(report === undefined ? {} : { report }),
      }),
  );

const sbom = () =>
  attestation<Common & { readonly bom: string }>(
    "sbom",
    "attach a CycloneDX SBOM",
    (target) => target.requiredOption("--bom <file>", "the SBOM (CycloneDX JSON)"),
    (subject, when, { bom }) => sbomPredicate(subject, when, bom),
  );

interface VsaOptions extends Common, ProjectOptions {
  readonly verifier: string;
  readonly level?: readonly string[];
}

/** Judges before it speaks: the kernel has to be locked here, and allowed by this project's policy without orders. */
const vsa = () =>
  attestation<VsaOptions>(
    "vsa",
    "say that this project's policy allows a locked version",
    (target) =>
      withProject(target)
        .requiredOption("--verifier <uri>", "who verified")
        .option("--level <level>", "a SLSA level that the policy demands; may be repeated", collect),
    async (subject, when, options, { origin }) => {
      const project = findProject(options);
      const [lock, policy] = [readLock(project), readPolicy(project)];
      const { name, version } = subject.index;
      const cache = openCache(project.cache);
      const { verdict, problems } = await explainLocked({ lock, policy, cache, now: when.issued, name });
      const locked = lock.kernels[name];
      const pinned =
        subject.variant === null
          ? locked?.index.digest
          : locked?.variants.find(({ key }) => key === subject.variant)?.manifest.digest;
      if (
        problems.length > 0 ||
        verdict === null ||
        verdict.mode !== "enforce" ||
        pinned !== subject.descriptor.digest
      ) {
        return fail("KL_ATTEST_REFUSED", `The policy does not simply allow ${name} ${version} as it is locked here.`, {
          remedy: "See `kernlock explain`.",
          details: { problems: problems.map(({ code }) => code), pinned: pinned ?? null },
        });
      }
      return vsaPredicate(subject, when, {
        verifier: options.verifier,
        registry: origin ?? lock.registry.origin,
        policy: policy.digest,
        inputs: verdict.accepted.map(({ payload }) => payload),
        levels: options.level ?? [],
      });
    },
  );

export function attestCommand(): Command {
  return new Command("attest")
    .description("sign a statement about a published version, and attach it")
    .addCommand(audit())
    .addCommand(test())
    .addCommand(sbom())
    .addCommand(vsa());
}
