export { advisoriesType, feedSubject, type OpenFeed, openFeed, readFeed } from "./advisories/feeds.ts";
export { ecosystem, isAffected, type Osv, osvSchema } from "./advisories/osv.ts";
export { type Revocation, revocation, revocationsType } from "./advisories/revocations.ts";
export { checkCall, given } from "./border.ts";
export { bundleMediaType, createBundle, payloadType } from "./create.ts";
export { contentsOf } from "./judge/contents.ts";
export { describeBundle } from "./judge/describe.ts";
export { auditType, provenanceType, sbomType, testType, vsaType } from "./judge/evidence.ts";
export { checkPredicate } from "./judge/predicates.ts";
export { breakGlassType, exceptionType, waivable } from "./judge/waivers.ts";
export { assertAllowed, auditBases, judge, refusalOf } from "./judge.ts";
export { fingerprintOf, isSupportedKey, trustedKey } from "./keys.ts";
export { approvalSubject, approvalType, checkApproval } from "./policy/approval.ts";
export { type Finding, lintPolicy } from "./policy/lint.ts";
export { policyJsonSchema } from "./policy/schema.ts";
export { allowedLibraries, allPolicies, narrow, parsePolicy, permits, policyDigest, withDocuments } from "./policy.ts";
export type {
  AcceptedStatement,
  Authority,
  BuilderRule,
  Demand,
  Documents,
  Evidence,
  Feed,
  KernelFacts,
  KernelSource,
  PayloadKind,
  Policy,
  Principal,
  Requirement,
  Rule,
  Scope,
  Signer,
  SourceRule,
  Statement,
  Subject,
  TrustedKey,
  VariantFacts,
  Verdict,
  Waiver,
} from "./types.ts";
export { parseWitnessKey, type WitnessKey } from "./verify/note.ts";
export {
  lintTrustedRoot,
  parseTrustedRoot,
  type RootProblem,
  type TrustedRoot,
} from "./verify/root.ts";
export type {
  Anchor,
  IdentitySigner,
  KeySigner,
  LoggedEntry,
  ProofDemand,
  SignedStatement,
  StatementSigner,
  TrustedIdentity,
  TrustedTime,
} from "./verify/types.ts";
export { type VerifyOptions, verifyBundle } from "./verify.ts";
