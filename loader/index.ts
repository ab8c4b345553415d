export { type AuditHead, appendAudit, emptyAuditHead, verifyAuditLog } from "./audit-log.ts";
export { type Cache, openCache } from "./cache.ts";
export { type Explained, explainVersion, layoutSource, type Source } from "./candidate.ts";
export { diffLocks } from "./diff.ts";
export { fetchLocked } from "./fetch.ts";
export { loadKernels } from "./load.ts";
export { checkLockMatches, coverageProblems, formatLock, parseLock } from "./lock.ts";
export { createLock } from "./lock-create.ts";
export { formatManifest, parseManifest } from "./manifest.ts";
export { checkModel, pinModel } from "./model.ts";
export { memoryAddonPath, memoryFile } from "./native/index.ts";
export type {
  AuditLine,
  Change,
  KernelReport,
  Loaded,
  LoadMachine,
  Lock,
  LockedFile,
  LockedKernel,
  LockedModel,
  LockedStatement,
  LockedVariant,
  Manifest,
  Pin,
  Progress,
  SealedFile,
  SealedKernel,
  SkippedVariant,
  VerifyReport,
} from "./types.ts";
export { assertVerified, explainLocked, verifyLocked } from "./verify.ts";
