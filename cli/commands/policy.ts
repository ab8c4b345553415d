import { appendFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import {
  canonicalJson,
  type Digest,
  digestOf,
  fail,
  fields,
  KernlockError,
  parseStrictJson,
} from "@kernlock/kernels/format";
import { OciLayout, parseKernelIndex } from "@kernlock/kernels/oci";
import {
  advisoriesType,
  approvalSubject,
  approvalType,
  breakGlassType,
  createBundle,
  exceptionType,
  feedSubject,
  judge,
  lintPolicy,
  narrow,
  type Policy,
  parsePolicy,
  policyJsonSchema,
  refusalOf,
  revocationsType,
  withDocuments,
} from "@kernlock/policies/trust";
import { Command, Option } from "commander";
import { z } from "zod";
import { readFile, statementBytes } from "../attest.ts";
import { collect, command, withProject } from "../command.ts";
import { usage } from "../errors.ts";
import { type KeyFlags, signerFrom, withKey } from "../keys/flags.ts";
import { readLock } from "../locked.ts";
import { approvalsPath, readPolicies } from "../policies.ts";
import { findProject, type ProjectOptions } from "../project.ts";

const lint = () =>
  command<{ readonly strict?: boolean }>(
    "lint <file>",
    "look for what a policy says that its author cannot have meant; ends with 1 on errors",
    (target) => target.option("--strict", "end with 1 on warnings too"),
    async ({ output, options, args: [path = ""] }) => {
      const findings = lintPolicy(readPolicies(path, readFile(path)), new Date());
      const bad = findings.some(({ severity }) => severity === "error" || options.strict === true);
      output.result({ ok: !bad, findings }, () =>
        findings.length === 0
          ? "nothing found\n"
          : findings.map(({ severity, code, message }) => `${severity}: [${code}] ${message}\n`).join(""),
      );
      return bad ? 1 : 0;
    },
  );

const time = z.iso.datetime({ offset: true });
const testCase = z.strictObject({
  name: z.string(),
  /** Paths are relative to the case's file. */
  policy: z.string(),
  operator: z.string().optional(),
  now: time,
  kernel: z.strictObject({
    name: fields.packageName,
    version: fields.version,
    index: fields.digest,
    source: z.strictObject({ repository: z.string(), revision: z.string() }),
    license: z.string().optional(),
    variants: z.array(
      z.strictObject({
        key: fields.variantKey,
        manifest: fields.digest,
        contents: z
          .strictObject({
            payloads: z.array(z.enum(["shared-object", "device-image"])),
            ptx: z.boolean(),
            license: z.string(),
          })
          .optional(),
      }),
    ),
  }),
  evidence: z.array(z.strictObject({ subject: fields.digest, bundle: z.string() })),
  feeds: z.record(z.string(), z.string()).optional(),
  exceptions: z.array(z.string()).optional(),
  seen: z.record(z.string(), z.number()).optional(),
  /** "allowed", or the code with which it is refused. */
  expect: z.string(),
});

/** One case: what was expected, and what the policy says. */
function runCase(file: string): { name: string; expected: string; found: string } {
  const parsed = testCase.safeParse(parseStrictJson(readFile(file), { what: file }));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return fail("KL_POLICY_TEST", `${file} is no case: ${issue?.path.join(".")}: ${issue?.message}.`, {
      remedy: "See docs/policy.md.",
    });
  }
  const { name, policy, operator, now, kernel, evidence, feeds, exceptions, seen, expect } = parsed.data;
  const read = (path: string) => readFile(join(dirname(file), path));
  const documents = {
    feeds: new Map(Object.entries(feeds ?? {}).map(([id, path]) => [id, read(path)])),
    exceptions: (exceptions ?? []).map(read),
    seen: seen ?? {},
  };
  let found: string;
  try {
    const own = withDocuments(parsePolicy(read(policy)), documents);
    const under: Policy =
      operator === undefined ? own : narrow(own, withDocuments(parsePolicy(read(operator)), documents));
    const facts = kernel as Parameters<typeof judge>[0]["kernel"];
    const verdict = judge({
      policy: under,
      kernel: facts,
      evidence: evidence.map(({ subject, bundle }) => ({ subject, bundle: read(bundle) })),
      now: new Date(now),
    });
    found = verdict.ok
      ? verdict.mode === "break-glass"
        ? "break-glass"
        : "allowed"
      : (refusalOf(verdict)?.code ?? "");
  } catch (error) {
    // A policy that cannot be read is a verdict, too.
    if (!(error instanceof KernlockError) || error.code === "KL_CLI_FILE") throw error;
    found = error.code;
  }
  return { name, expected: expect, found };
}

const test = () =>
  command<object>(
    "test <folder>",
    "run a folder of cases (*.case.json) and compare each verdict with the expected one",
    (target) => target,
    async ({ output, args: [folder = ""] }) => {
      let files: string[];
      try {
        files = readdirSync(folder)
          .filter((name) => name.endsWith(".case.json"))
          .sort();
      } catch {
        return usage(`${folder} is no readable folder.`);
      }
      if (files.length === 0)
        fail("KL_POLICY_TEST", `${folder} holds no *.case.json.`, { remedy: "See docs/policy.md." });
      const cases = files.map((file) => ({ file, ...runCase(join(folder, file)) }));
      const failed = cases.filter(({ expected, found }) => expected !== found);
      output.result({ ok: failed.length === 0, cases }, () =>
        [
          ...cases.map(({ file, name, expected, found }) =>
            expected === found ? `ok  ${file}: ${name}\n` : `NO  ${file}: ${name}: ${found} instead of ${expected}\n`,
          ),
          `${cases.length - failed.length} of ${cases.length} as expected\n`,
        ].join(""),
      );
      return failed.length === 0 ? 0 : 1;
    },
  );

const signPolicy = () =>
  command<KeyFlags & { readonly days?: string }>(
    "sign <file>",
    "approve a policy: adds one bundle to <file>.sigstore.jsonl",
    (target) => withKey(target).option("--days <n>", "how long the approval holds"),
    async ({ output, options, args: [path = ""] }) => {
      const bytes = readFile(path);
      const policy = parsePolicy(bytes);
      const now = new Date();
      const value = {
        issued: now.toISOString(),
        ...(options.days === undefined ? {} : { expires: after(now, options.days) }),
      };
      const statement = statementBytes(approvalSubject, policy.digest, { type: approvalType, value });
      const bundle = await createBundle(statement, signerFrom(options));
      appendFileSync(approvalsPath(path), `${Buffer.from(bundle).toString("utf8")}\n`);
      output.result({ policy: policy.digest, file: approvalsPath(path) }, () => `signed ${policy.digest}\n`);
      return 0;
    },
  );

interface OrderOptions extends ProjectOptions, KeyFlags {
  readonly waive?: readonly string[];
  readonly breakGlass?: boolean;
  readonly reason: string;
  readonly days: string;
  readonly output?: string;
  readonly layout?: string;
}

const exception = () =>
  command<OrderOptions>(
    "exception <kernel>",
    "let one version, locked or just built, pass in spite of a requirement for some days; others sign it with `policy cosign`",
    (target) =>
      withKey(withProject(target))
        .option("--waive <requirement>", "what is waived: audit, test, …, advisory:ID; may be repeated", collect)
        .option("--break-glass", "waive everything that can be waived; marks every load")
        .requiredOption("--reason <text>", "why")
        .requiredOption("--days <n>", "for how long")
        .option("--layout <folder>", "the version that was built here, not published yet, instead of the locked one")
        .option("--output <file>", "where to write it (default: kernels.exceptions/ beside the policy)"),
    async ({ output, options, args: [name = ""] }) => {
      const { waive, breakGlass, reason } = options;
      if ((waive === undefined) === (breakGlass !== true)) usage("Name what to --waive, or --break-glass.");
      const { version, digest, beside } =
        options.layout === undefined ? lockedVersion(options, name) : await builtVersion(options.layout, name);
      const now = new Date();
      const value = {
        package: name,
        version,
        ...(waive === undefined ? {} : { waives: waive }),
        reason,
        issued: now.toISOString(),
        expires: after(now, options.days),
      };
      const type = breakGlass === true ? breakGlassType : exceptionType;
      const bundle = await createBundle(statementBytes(name, digest, { type, value }), signerFrom(options));
      const folder = join(beside, "kernels.exceptions");
      const file = options.output ?? join(folder, `${name.replace("/", "_")}-${short(bundle)}.json`);
      if (options.output === undefined) mkdirSync(folder, { recursive: true });
      writeFileSync(file, bundle);
      output.result({ file, kernel: name, version, expires: value.expires }, () => `${file}\n`);
      return 0;
    },
  );

interface NamedVersion {
  readonly version: string;
  /** Of its index. */
  readonly digest: Digest;
  /** The folder in which the exceptions lie. */
  readonly beside: string;
}

function lockedVersion(options: ProjectOptions, name: string): NamedVersion {
  const project = findProject(options);
  const lock = readLock(project);
  const locked = Object.hasOwn(lock.kernels, name) ? lock.kernels[name] : undefined;
  if (locked === undefined) {
    return fail("KL_LOCK_NO_KERNEL", `The lock has no kernel ${name}.`, { remedy: "Name one that it has." });
  }
  return { version: locked.version, digest: locked.index.digest, beside: dirname(project.policy) };
}

/** For a registry that is to take it in spite of its namespace's policy. */
async function builtVersion(folder: string, name: string): Promise<NamedVersion> {
  const layout = await OciLayout.open(folder);
  const [tag, ...others] = await layout.tags();
  if (tag === undefined || others.length > 0) {
    return fail("KL_OCI_LAYOUT", `${folder} does not hold exactly one version.`, { remedy: "Build one into it." });
  }
  const { digest } = await layout.resolve(tag);
  const index = parseKernelIndex(await layout.getBlob(digest));
  if (index.name !== name) usage(`${folder} holds ${index.name}, not ${name}.`);
  return { version: index.version, digest, beside: "." };
}

const cosign = () =>
  command<KeyFlags & { readonly output?: string }>(
    "cosign <bundle>",
    "sign the very statement of a bundle too, into a bundle beside it",
    (target) => withKey(target).option("--output <file>", "where to write it"),
    async ({ output, options, args: [path = ""] }) => {
      const shape = z.looseObject({ dsseEnvelope: z.looseObject({ payload: z.string() }) });
      const parsed = shape.safeParse(parseStrictJson(readFile(path), { what: path }));
      if (!parsed.success) return usage(`${path} is no bundle.`);
      const statement = Buffer.from(parsed.data.dsseEnvelope.payload, "base64");
      // What is signed is shown, since whoever signs answers for it.
      output.note(JSON.stringify(parseStrictJson(statement, { what: path }), null, 2));
      const bundle = await createBundle(statement, signerFrom(options));
      const file = options.output ?? join(dirname(path), `${basename(path, ".json")}-${short(bundle)}.json`);
      writeFileSync(file, bundle);
      output.result({ file, statement: digestOf(statement) }, () => `${file}\n`);
      return 0;
    },
  );

interface FeedOptions extends KeyFlags {
  readonly kind: "advisories" | "revocations";
  readonly feed: string;
  readonly sequence: string;
  readonly output: string;
}

const signFeed = () =>
  command<FeedOptions>(
    "feed <file>",
    "sign a JSON list of OSV records or revocations as the next number of a feed",
    (target) =>
      withKey(target)
        .addOption(
          new Option("--kind <kind>", "what it holds").choices(["advisories", "revocations"]).makeOptionMandatory(),
        )
        .requiredOption("--feed <id>", "the feed's name in policies")
        .requiredOption("--sequence <n>", "its number; each must be above the last")
        .requiredOption("--output <file>", "where to write the bundle"),
    async ({ output, options, args: [path = ""] }) => {
      const { kind, feed, output: file } = options;
      if (!/^[a-z0-9]+([._-][a-z0-9]+)*$/.test(feed)) usage(`"${feed}" is no name of a feed.`);
      if (!/^[1-9][0-9]{0,14}$/.test(options.sequence)) usage("--sequence is a whole number above 0.");
      const entries = parseStrictJson(readFile(path), { maxBytes: 4 << 20, what: path });
      if (!Array.isArray(entries)) usage(`${path} is no JSON list.`);
      const value = { feed, sequence: Number(options.sequence), issued: new Date().toISOString(), [kind]: entries };
      const type = kind === "advisories" ? advisoriesType : revocationsType;
      const digest: Digest = digestOf(canonicalJson(value));
      const bundle = await createBundle(
        statementBytes(feedSubject(feed), digest, { type, value }),
        signerFrom(options),
      );
      writeFileSync(file, bundle);
      output.result({ file, feed, sequence: value.sequence }, () => `${file}\n`);
      return 0;
    },
  );

const schema = () =>
  command<object>(
    "schema",
    "print the JSON Schema of the policy file",
    (target) => target,
    async ({ output }) => {
      const value = policyJsonSchema();
      output.result(value, () => `${JSON.stringify(value, null, 2)}\n`);
      return 0;
    },
  );

function after(now: Date, days: string): string {
  if (!/^[1-9][0-9]{0,3}$/.test(days)) usage("--days is a whole number above 0.");
  return new Date(now.getTime() + Number(days) * 86_400_000).toISOString();
}

const short = (bundle: Uint8Array): string => digestOf(bundle).slice("sha256:".length, "sha256:".length + 8);

export function policyCommand(): Command {
  return new Command("policy")
    .description("check, test and sign policies, and write what they rest on")
    .addCommand(lint())
    .addCommand(test())
    .addCommand(signPolicy())
    .addCommand(exception())
    .addCommand(cosign())
    .addCommand(signFeed())
    .addCommand(schema());
}
