export { bundleMediaType, createBundle, payloadType } from "./create.ts";
export { assertAllowed, judge, provenanceType } from "./judge.ts";
export { fingerprintOf, isSupportedKey, trustedKey } from "./keys.ts";
export { parsePolicy, policyDigest } from "./policy.ts";
export type {
  AcceptedStatement,
  BuilderRule,
  Evidence,
  KernelFacts,
  KernelSource,
  Policy,
  Requirement,
  Rule,
  Scope,
  SignedStatement,
  Signer,
  SourceRule,
  Statement,
  Subject,
  TrustedKey,
  Verdict,
} from "./types.ts";
export { verifyBundle } from "./verify.ts";
