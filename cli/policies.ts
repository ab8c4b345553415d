import { closeSync, constants, existsSync, fstatSync, lstatSync, openSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fail, KernlockError } from "@kernlock/kernels/format";
import { checkApproval, narrow, type Policy, parsePolicy, type Verdict, withDocuments } from "@kernlock/policies/trust";
import { cachedFeed, rememberFeeds, seenSequences } from "./feeds.ts";

/** The operator's policy. Its place is part of what is promised: no flag and no variable moves it. */
const operatorPath = "/etc/kernlock/policy.yaml";

const maxFile = 16 << 20;

/**
 * A project's policy with everything that belongs to it, below the operator's where this machine has one.
 * Beside `kernels.policy.yaml` may lie `kernels.policy.yaml.sigstore.jsonl` (signatures, one bundle a line), the folder
 * `kernels.exceptions` (bundles, `*.json`) and the files of feeds.
 * Throws KL_POLICY_*; a policy that is not readable or not trustworthy is never skipped.
 */
export function readPolicies(path: string, bytes: Uint8Array, now = new Date()): Policy {
  const policy = parsePolicy(bytes);
  const bundles = readApprovals(path);
  const exceptions = readExceptions(join(dirname(path), "kernels.exceptions"));
  checkApproval({ policy, bundles, judge: policy, now });
  const operator = readOperatorPolicy();
  if (operator !== undefined) checkApproval({ policy, bundles, judge: operator, now });
  const own = withDocuments(policy, { feeds: readFeeds(policy, path), exceptions, seen: seenSequences(policy, path) });
  if (operator === undefined) return own;
  return narrow(
    own,
    withDocuments(operator, {
      feeds: readFeeds(operator, operatorPath),
      // Exceptions prove themselves, so it does not matter whose folder they lie in.
      exceptions: [...exceptions, ...readExceptions(join(dirname(operatorPath), "exceptions"))],
      seen: seenSequences(operator, operatorPath),
    }),
  );
}

/** The operator's policy, where there is one: a plain file that root owns and nobody else can write or replace. */
export function readOperatorPolicy(): Policy | undefined {
  let fd: number;
  try {
    fd = openSync(operatorPath, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    return refuseOperator(`cannot be opened (${code})`, error);
  }
  try {
    const file = fstatSync(fd);
    if (!file.isFile()) refuseOperator("is no plain file");
    for (const [what, { uid, mode }] of [
      [operatorPath, file],
      [dirname(operatorPath), lstatSync(dirname(operatorPath))],
      ["/etc", lstatSync("/etc")],
    ] as const) {
      if (uid !== 0) refuseOperator(`is not safe, because ${what} does not belong to root`);
      if ((mode & 0o022) !== 0) refuseOperator(`is not safe, because others than root can write ${what}`);
    }
    return parsePolicy(readFileSync(fd));
  } catch (error) {
    if (error instanceof KernlockError) throw error;
    return refuseOperator("cannot be read", error);
  } finally {
    closeSync(fd);
  }
}

function refuseOperator(what: string, cause?: unknown): never {
  return fail("KL_POLICY_OPERATOR", `The operator's policy ${operatorPath} ${what}.`, {
    remedy: "Ask whoever runs this machine; nothing is loaded until it is a file that only root can change.",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Remembers the numbers of the feeds that verdicts rest on, so that older ones are refused from then on. */
export function rememberVerdicts(path: string, policy: Policy, verdicts: Iterable<Verdict | null>): void {
  for (const verdict of verdicts) {
    if (verdict === null) continue;
    rememberFeeds(policy, path, verdict.sequences);
    if (policy.above === undefined) continue;
    const above = Object.entries(verdict.sequences)
      .filter(([id]) => id.startsWith("operator:"))
      .map(([id, sequence]) => [id.slice("operator:".length), sequence] as const);
    rememberFeeds(policy.above, operatorPath, Object.fromEntries(above));
  }
}

export const approvalsPath = (policy: string): string => `${policy}.sigstore.jsonl`;

function readApprovals(policy: string): Uint8Array[] {
  const path = approvalsPath(policy);
  if (!existsSync(path)) return [];
  const lines = read(path).toString("utf8").split("\n");
  return lines.filter((line) => line.trim() !== "").map((line) => Buffer.from(line));
}

function readExceptions(folder: string): Uint8Array[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  if (names.length > 1000) fail("KL_CLI_FILE", `${folder} holds more than 1000 exceptions.`);
  return names.sort().map((name) => read(join(folder, name)));
}

function readFeeds(policy: Policy, path: string): Map<string, Uint8Array> {
  const feeds = new Map<string, Uint8Array>();
  for (const feed of policy.feeds) {
    const file = "file" in feed.location ? join(dirname(path), feed.location.file) : cachedFeed(feed.location.url);
    // One that is not there refuses what it should have been asked about; the judgement says so.
    if (existsSync(file)) feeds.set(feed.id, read(file));
  }
  return feeds;
}

function read(path: string): Buffer {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const { size } = fstatSync(fd);
      if (size > maxFile) fail("KL_CLI_FILE", `${path} has more than ${maxFile} bytes.`);
      return readFileSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof KernlockError) throw error;
    return fail("KL_CLI_FILE", `cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, {
      remedy: "Make it a readable file, or take it out of the policy.",
      cause: error,
    });
  }
}
