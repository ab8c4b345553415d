import { z } from "zod";
import { type Digest, isDigest } from "./digest.ts";
import { type ErrorCode, fail } from "./errors.ts";
import { isFilePath, isPackageName, isVariantKey, isVersion, shown } from "./names.ts";

/** Building blocks for the strict schemas of Kernlock's files. */
export const fields = {
  digest: z.custom<Digest>(isDigest, "is not a sha256 digest"),
  packageName: z.string().refine(isPackageName, "is not a package name (namespace/name)"),
  version: z.string().refine(isVersion, "is not a semantic version without build metadata"),
  variantKey: z.string().refine(isVariantKey, "is not a variant key"),
  filePath: z.string().refine(isFilePath, "is not a plain relative path"),
  size: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
  spdx: z
    .string()
    .max(200)
    .regex(/^[A-Za-z0-9][A-Za-z0-9.+() -]*$/, "is not an SPDX expression"),
  /** Text for people, on one line. */
  line: z
    .string()
    .max(1000)
    .refine((s) => !/\p{Cc}/u.test(s), "holds control characters"),
  url: z
    .string()
    .max(500)
    .refine((s) => /^[a-z][a-z0-9+.-]*:\/\/[!-~]+$/i.test(s) && URL.canParse(s), "is not a URL"),
} as const;

/**
 * Checks a value against a schema; the first problem becomes one coded error that names the field.
 * `what` names the document in the message: `variant.json`.
 */
export function checkShape<T>(schema: z.ZodType<T>, value: unknown, code: ErrorCode, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  if (issue === undefined) return fail(code, `${what} is not valid.`);
  const keys = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const field = fieldName([...issue.path, ...keys]);
  const problem = keys.length > 0 ? "is not a known field" : issue.message.slice(0, 200);
  return fail(code, `${what}: ${field === "" ? "the document" : field}: ${problem}.`, { details: { field } });
}

function fieldName(path: readonly PropertyKey[]): string {
  let text = "";
  for (const step of path) {
    if (typeof step === "number") text += `[${step}]`;
    else {
      const name = String(step);
      const plain = /^[A-Za-z0-9_.$-]{1,60}$/.test(name) ? name : shown(name, 60);
      text += text === "" ? plain : `.${plain}`;
    }
  }
  return text;
}
