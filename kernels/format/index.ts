/** What a kernel package is made of, as text: strict and canonical JSON, digests, names, `variant.json`, errors. */
export { canonicalJson, prettyJson } from "./canonical.ts";
export { type Digest, digestHex, digestOf, isDigest, parseDigest } from "./digest.ts";
export { errorCodes } from "./error-codes.ts";
export { type ErrorCode, type ErrorOptions, fail, KernlockError } from "./errors.ts";
export { parseStrictJson, type StrictJsonOptions } from "./json.ts";
export {
  type Extent,
  extentValue,
  gridOf,
  type Launch,
  type LaunchParam,
  type LaunchStep,
  paramBytes,
} from "./launch.ts";
export { annotations, mediaTypes } from "./media-types.ts";
export {
  isFilePath,
  isPackageName,
  isVariantKey,
  isVersion,
  parsePackageName,
  parseVariantKey,
  parseVersion,
  shown,
  type VariantKey,
} from "./names.ts";
export { checkShape, fields } from "./schema.ts";
export {
  type Backend,
  type Feature,
  features,
  formatVariant,
  isTested,
  type Limit,
  type Mode,
  modes,
  type Platform,
  parseVariant,
  payloadFiles,
  type Term,
  type Variant,
  type VariantFile,
  type VariantOp,
} from "./variant.ts";
export { workspaceBytes } from "./workspace.ts";
