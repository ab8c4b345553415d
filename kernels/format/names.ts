import { fail } from "./errors.ts";

const part = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;
const number = "(?:0|[1-9][0-9]*)";
const prerelease = "(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)";
const version = new RegExp(`^${number}\\.${number}\\.${number}(?:-${prerelease}(?:\\.${prerelease})*)?$`);
const variantKey = /^([a-z0-9]+)-([a-z0-9_]+)-([a-z0-9]+)(?:-([a-z0-9]+))?$/;
const segment = /^[A-Za-z0-9_][A-Za-z0-9._+@-]*$/;

export function isPackageName(text: string): boolean {
  const parts = text.split("/");
  return text.length <= 128 && parts.length === 2 && parts.every((p) => part.test(p));
}

/** A package name, `namespace/name`. Throws `KL_FORMAT_NAME`. */
export function parsePackageName(text: unknown): { name: string; namespace: string; short: string } {
  if (typeof text === "string" && isPackageName(text)) {
    const slash = text.indexOf("/");
    return { name: text, namespace: text.slice(0, slash), short: text.slice(slash + 1) };
  }
  return fail("KL_FORMAT_NAME", `${shown(text)} is not a package name.`, {
    remedy: "Write namespace/name in lower-case letters and digits, with single dots, dashes or underscores between.",
  });
}

export function isVersion(text: string): boolean {
  return text.length <= 100 && version.test(text);
}

/** A semantic version without build metadata. Throws `KL_FORMAT_VERSION`. */
export function parseVersion(text: unknown): string {
  if (typeof text === "string" && isVersion(text)) return text;
  return fail("KL_FORMAT_VERSION", `${shown(text)} is not a version.`, {
    remedy: "Write a semantic version such as 1.4.0 or 2.0.0-rc.1, without build metadata.",
  });
}

export interface VariantKey {
  readonly key: string;
  readonly os: string;
  readonly arch: string;
  readonly backend: string;
  /** `v3`, `sm90a`; null where the key has no level. */
  readonly level: string | null;
}

export function isVariantKey(text: string): boolean {
  return text.length <= 64 && variantKey.test(text);
}

/** A variant key, `<os>-<arch>-<backend>[-<level>]`. Throws `KL_FORMAT_VARIANT_KEY`. */
export function parseVariantKey(text: unknown): VariantKey {
  const match = typeof text === "string" && text.length <= 64 ? variantKey.exec(text) : null;
  if (match !== null) {
    return { key: match[0], os: match[1]!, arch: match[2]!, backend: match[3]!, level: match[4] ?? null };
  }
  return fail("KL_FORMAT_VARIANT_KEY", `${shown(text)} is not a variant key.`, {
    remedy: "Write <os>-<arch>-<backend>[-<level>], such as linux-x86_64-cpu-v3.",
  });
}

/** True for a relative path of plain names: no `..`, no leading dot or slash, no control or shell characters. */
export function isFilePath(text: string): boolean {
  const segments = text.split("/");
  return text.length <= 200 && segments.length <= 8 && segments.every((s) => segment.test(s));
}

/** Hostile text made fit for a message: quoted, escaped, short. */
export function shown(value: unknown, length = 80): string {
  if (typeof value !== "string") return value === undefined ? "Nothing" : `A value of type ${typeof value}`;
  const text = JSON.stringify(value.slice(0, length)).replace(
    /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g,
    "?",
  );
  return value.length > length ? `${text}…` : text;
}
