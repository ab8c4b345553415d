import type { KeyObject } from "node:crypto";
import type { ErrorCode } from "@kernlock/kernels/format";
import { bundleFromJSON } from "@sigstore/bundle";
import { type SignedEntity, type TrustMaterial, toSignedEntity, VerificationError, Verifier } from "@sigstore/verify";
import type { ParsedBundle } from "./bundle.ts";
import type { Leaf } from "./certificate.ts";
import { checkLogs, findLog } from "./logs.ts";
import { refuse } from "./refusal.ts";
import type { TrustedRoot } from "./root.ts";
import { checkTimes, clockStamp, timesOf } from "./time.ts";
import type { LoggedEntry, ProofDemand, TrustedTime } from "./types.ts";

export type SignatureContent = SignedEntity["signature"];

/** Who is claimed to have signed: a key that the caller knows, or a certificate that has to be followed to a root. */
export type Claim =
  | { readonly kind: "key"; readonly key: KeyObject }
  | { readonly kind: "certificate"; readonly leaf: Leaf };

export interface Proof {
  readonly times: readonly TrustedTime[];
  readonly logged: readonly LoggedEntry[];
}

const nothing: TrustMaterial = {
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
  publicKey: () => refuse("KL_BUNDLE_UNKNOWN_KEY", "The bundle is signed by an unknown key."),
};

/**
 * Steps 3 to 6 of a verification: time, logs, key or certificate, signature. The library proves each timestamp, each
 * entry's inclusion, the chain at every proved time, and the signature; around it stands what it leaves open.
 * Without a proved time a certificate is judged by the caller's clock, if the demand allows that.
 */
export function prove(request: {
  readonly bundle: ParsedBundle;
  readonly claim: Claim;
  readonly root: TrustedRoot | undefined;
  readonly demand: ProofDemand;
  readonly now: Date;
  /** What was signed, where that is not in the bundle. */
  readonly content?: SignatureContent;
}): Proof {
  const { bundle, claim, root, demand, now } = request;
  if (root === undefined && (bundle.entries.length > 0 || bundle.timestamps > 0)) {
    refuse("KL_BUNDLE_MATERIAL", "The bundle holds log entries or timestamps, and no trusted root says whose count.");
  }
  const entity = toSignedEntity(bundleFromJSON(bundle.json), Buffer.alloc(0));
  const signature = request.content ?? entity.signature;

  const times = timesOf(entity);
  if (Number.isNaN(now.getTime())) refuse("KL_BUNDLE_KEY_WINDOW", "The caller's clock holds no time.");
  checkTimes(times, demand.times ?? 0);
  for (const entry of bundle.entries) if (root !== undefined) findLog(entry, root);
  const key = claim.kind === "key" ? claim.key : claim.leaf.publicKey;
  // First for the sake of the error: the library comes to the signature last, after logs that speak about it.
  if (!signature.verifySignature(key)) refuse(...meanings.SIGNATURE_ERROR);

  const timestamps = times.length > 0 ? entity.timestamps : [clockStamp(now)];
  askLibrary({ ...entity, signature, timestamps }, claim, root, demand);
  const certificate = claim.kind === "key" ? undefined : claim.leaf.der;
  const logged =
    root === undefined ? [] : checkLogs({ entries: bundle.entries, root, times, now, demand, key, certificate });
  if (root === undefined && (demand.logEntries ?? 0) > 0) {
    refuse("KL_BUNDLE_LOG_MISSING", "A log entry is demanded, and the bundle has none.");
  }
  return { times, logged };
}

function askLibrary(entity: SignedEntity, claim: Claim, root: TrustedRoot | undefined, demand: ProofDemand): void {
  // This material can find exactly the one key that the caller looked up; windows of keys are judged apart.
  const publicKey = claim.kind === "key" ? () => ({ publicKey: claim.key, validFor: () => true }) : nothing.publicKey;
  const material = { ...(root?.material ?? nothing), publicKey };
  // Thresholds of times and entries are counted by us, over distinct sources.
  const thresholds = { tlogThreshold: 0, timestampThreshold: 0, ctlogThreshold: demand.certificateLogs ?? 0 };
  try {
    const signer = new Verifier(material, thresholds).verify(entity);
    if (claim.kind === "key") return;
    // The library read the certificate with its own parser: both must have seen the same.
    const { subjectAlternativeName, extensions } = signer.identity ?? {};
    if (subjectAlternativeName !== claim.leaf.san || extensions?.issuer !== claim.leaf.issuer) {
      refuse("KL_BUNDLE_CERTIFICATE_NAME", "The certificate's name can be read in two ways.");
    }
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error;
    const [code, message] = meanings[error.code as keyof typeof meanings] ?? meanings.TLOG_BODY_ERROR;
    refuse(code, message);
  }
}

const inclusion = [
  "KL_BUNDLE_INCLUSION",
  "The bundle does not prove that its entry is in the log, or the log did not sign that.",
] as const;

const meanings = {
  TIMESTAMP_ERROR: [
    "KL_BUNDLE_TIMESTAMP",
    "A timestamp of the bundle does not hold, or nobody whom the root names made it.",
  ],
  CERTIFICATE_ERROR: [
    "KL_BUNDLE_CERTIFICATE",
    "The certificate does not lead to the trusted root, or did not count at that time.",
  ],
  SIGNATURE_ERROR: ["KL_BUNDLE_SIGNATURE", "The signature does not hold for what the bundle signs."],
  TLOG_BODY_ERROR: ["KL_BUNDLE_LOG", "The log entry is about something else, or is there twice."],
  TLOG_INCLUSION_PROOF_ERROR: inclusion,
  TLOG_INCLUSION_PROMISE_ERROR: inclusion,
  TLOG_MISSING_INCLUSION_ERROR: inclusion,
} as const satisfies Record<string, readonly [ErrorCode, string]>;
