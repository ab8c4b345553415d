/**
 * Signed documents that are kept for a namespace: exceptions, break-glass orders, approvals of its policy. Each proves
 * itself; the judgement says whether one counts.
 */
import { type Digest, digestOf, fail } from "@kernlock/kernels/format";
import { approvalType, breakGlassType, describeBundle, exceptionType } from "@kernlock/policies/trust";
import type { Records } from "../store/records.ts";

const maxBytes = 1 << 20;
const most = 1000;

export interface KeptException {
  readonly digest: Digest;
  readonly kind: "exception" | "break-glass" | "approval";
  /** The index of the version that it is about, or the policy. */
  readonly subject: string;
  readonly addedAt: string;
}

/** Throws KL_REGISTRY_EXCEPTION. "same" when it is kept already. */
export async function keepException(
  { records, now }: { readonly records: Records; readonly now: () => Date },
  what: { readonly namespace: string; readonly bundle: Uint8Array; readonly actor: string },
): Promise<KeptException & { readonly outcome: "kept" | "same" }> {
  const { namespace, bundle, actor } = what;
  const read = describe(bundle);
  if (read === undefined || bundle.byteLength > maxBytes) {
    return refuse("This is no bundle over an exception, a break-glass order or an approval of a policy.");
  }
  const kept = await records.exceptions(namespace);
  if (kept.length >= most) refuse(`${most} documents are kept for "${namespace}".`);
  const digest = digestOf(bundle);
  const addedAt = now().toISOString();
  const audit = { at: addedAt, actor, action: "exception.keep", subject: namespace, details: { digest, ...read } };
  const added = await records.addException({ namespace, digest, bundle: Buffer.from(bundle), addedAt }, audit);
  return { digest, ...read, addedAt, outcome: added ? "kept" : "same" };
}

export async function keptExceptions(records: Records, namespace: string): Promise<KeptException[]> {
  return (await records.exceptions(namespace)).flatMap(({ digest, bundle, addedAt }) => {
    const read = describe(bundle);
    return read === undefined ? [] : [{ digest: digest as Digest, ...read, addedAt }];
  });
}

/** What was kept, apart: what waives something, and what vouches for the policy. */
export async function signedDocuments(
  records: Records,
  namespace: string,
): Promise<{ exceptions: Uint8Array[]; approvals: Uint8Array[] }> {
  const kept = (await records.exceptions(namespace)).map(({ bundle }) => bundle);
  const isApproval = (bundle: Uint8Array) => describe(bundle)?.kind === "approval";
  return { exceptions: kept.filter((bundle) => !isApproval(bundle)), approvals: kept.filter(isApproval) };
}

function describe(bundle: Uint8Array): Pick<KeptException, "kind" | "subject"> | undefined {
  const said = describeBundle(bundle);
  const kinds: Readonly<Record<string, string>> = {
    [exceptionType]: "exception",
    [breakGlassType]: "break-glass",
    [approvalType]: "approval",
  };
  const kind = kinds[said?.predicateType ?? ""];
  const [subject, ...others] = said?.subjects ?? [];
  if (kind === undefined || subject === undefined || others.length > 0) return undefined;
  return { kind: kind as KeptException["kind"], subject };
}

function refuse(message: string): never {
  return fail("KL_REGISTRY_EXCEPTION", message, {
    remedy: "Make them with `kernlock policy exception`; take away those that are over.",
  });
}
