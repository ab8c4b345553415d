/** What a publish is judged by: the namespace's policy under the operator's, each with the documents that it names. */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fail } from "@kernlock/kernels/format";
import { checkApproval, narrow, type Policy, parsePolicy, withDocuments } from "@kernlock/policies/trust";
import type { Namespace } from "../admin.ts";
import type { FeedDocument, Records } from "../store/records.ts";
import { signedDocuments } from "./exceptions.ts";

/** The operator's policy: over all namespaces. Its feeds and exceptions are kept under this name. */
export const operatorNamespace = "*";

export interface OperatorPolicy {
  readonly policy: Policy;
  /** Where the files of its feeds lie, and `exceptions/`; without it, it has none. */
  readonly folder: string | undefined;
}

export interface Judges {
  readonly policy: Policy;
  /** Whether the namespace wants a second person's word. */
  readonly review: Namespace["review"];
  /** For `commitVersion`: changes when anything here does. */
  readonly stamp: string;
}

const maxExceptions = 1000;
const maxExceptionBytes = 1 << 20;

/**
 * Throws KL_REGISTRY_NAMESPACE_UNKNOWN, what the policy's parser throws, and KL_POLICY_APPROVAL where the policy, or the
 * operator's, demands signatures of it that are not kept.
 */
export async function readJudges(
  {
    records,
    operator,
    now,
  }: { readonly records: Records; readonly operator: OperatorPolicy | undefined; readonly now: () => Date },
  namespace: string,
): Promise<Judges> {
  // First, so that whatever changes while we read is noticed at the commit.
  const stamp = await records.trustStamp(namespace);
  const owner = await records.namespace(namespace);
  if (owner === undefined) {
    return fail("KL_REGISTRY_NAMESPACE_UNKNOWN", `There is no namespace "${namespace}".`, {
      remedy: "Create it with `kernlock registry namespace`.",
    });
  }
  const { exceptions, approvals: bundles } = await signedDocuments(records, namespace);
  const policy = parsedPolicy(owner.policy);
  checkApproval({ policy, bundles, judge: policy, now: now() });
  if (operator !== undefined) checkApproval({ policy, bundles, judge: operator.policy, now: now() });
  const own = await withFeeds(records, policy, namespace, exceptions);
  const { review } = owner;
  if (operator === undefined) return { policy: own, review, stamp };
  // An exception proves itself; under the operator's policy it counts only where that names who signed it.
  const further = await readExceptions(operator.folder);
  const above = await withFeeds(records, operator.policy, operatorNamespace, [...exceptions, ...further]);
  return { policy: narrow(own, above), review, stamp };
}

const mostParsed = 32;
const parsed = new Map<string, Policy>();

/**
 * Policies seldom change, and reading one costs as much as judging by it. Plain data that nobody changes; by the whole
 * text, so that no other policy can be taken for it.
 */
export function parsedPolicy(text: string): Policy {
  const policy = parsed.get(text) ?? parsePolicy(text);
  // Those that were used last stay.
  parsed.delete(text);
  parsed.set(text, policy);
  if (parsed.size > mostParsed) parsed.delete(parsed.keys().next().value!);
  return policy;
}

async function withFeeds(
  records: Records,
  policy: Policy,
  namespace: string,
  exceptions: readonly Uint8Array[],
): Promise<Policy> {
  const rows = policy.feeds.length === 0 ? [] : await records.feedDocuments(namespace);
  return withDocuments(policy, {
    feeds: new Map(rows.flatMap(({ id, document }) => (document === null ? [] : [[id, document] as const]))),
    exceptions,
    seen: seenOf(rows),
  });
}

export function seenOf(rows: readonly Pick<FeedDocument, "id" | "sequence">[]): Record<string, number> {
  return Object.fromEntries(rows.flatMap(({ id, sequence }) => (sequence === null ? [] : [[id, sequence] as const])));
}

async function readExceptions(folder: string | undefined): Promise<Uint8Array[]> {
  if (folder === undefined) return [];
  const names = await readdir(join(folder, "exceptions")).catch(missing([] as string[]));
  const wanted = names.filter((name) => name.endsWith(".json")).sort();
  if (wanted.length > maxExceptions) {
    fail("KL_REGISTRY_OPERATOR_FILE", `More than ${maxExceptions} exceptions lie beside the operator's policy.`, {
      remedy: "Take away those that are over.",
    });
  }
  return Promise.all(wanted.map((name) => readBounded(join(folder, "exceptions", name), maxExceptionBytes)));
}

/** A small plain file of the operator's. KL_REGISTRY_OPERATOR_FILE. */
export async function readBounded(path: string, most: number): Promise<Buffer> {
  try {
    const file = await stat(path);
    if (file.isFile() && file.size <= most) return await readFile(path);
  } catch (error) {
    return fail("KL_REGISTRY_OPERATOR_FILE", `A file that belongs to the operator's policy cannot be read.`, {
      remedy: "Ask the registry's operator; its log names the file.",
      cause: error,
    });
  }
  return fail("KL_REGISTRY_OPERATOR_FILE", `A file beside the operator's policy is no plain file, or too large.`, {
    remedy: `Its files may have ${most} bytes each.`,
  });
}

function missing<T>(instead: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return instead;
    throw error;
  };
}
