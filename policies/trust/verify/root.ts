import type { KeyObject } from "node:crypto";
import { type Digest, digestOf, type ErrorCode, fail, KernlockError, parseStrictJson } from "@kernlock/kernels/format";
import { TrustedRoot as TrustedRootMessage } from "@sigstore/protobuf-specs";
import { type TrustMaterial, toTrustMaterial } from "@sigstore/verify";
import { calls, checkCall } from "../border.ts";
import { firstIssue } from "../shape.ts";
import type { Profile } from "./bundle.ts";
import { lint, logNames, type RootProblem, readKey } from "./root-lint.ts";
import { type RawLog, type RawRoot, rootSchema, withoutNulls } from "./root-schema.ts";

export type { RootProblem };

/** When something of a root counts: both ends are inside. */
export interface Window {
  readonly start: Date;
  readonly end?: Date;
}

export interface RootLog {
  /** The first is its URL without scheme and port. */
  readonly names: readonly string[];
  readonly id: Buffer;
  readonly publicKey: KeyObject;
  readonly window: Window;
}

/** Certificate authorities, logs and timestamp authorities that somebody decided to trust (Sigstore trusted_root.json). */
export interface TrustedRoot {
  readonly digest: Digest;
  readonly logs: readonly RootLog[];
  readonly certificateAuthorities: number;
  readonly certificateLogs: number;
  readonly timestampAuthorities: number;
  /** The same for the library, without keys. */
  readonly material: TrustMaterial;
}

/**
 * Everything that is wrong with a trusted root (G6): the union of what other verifiers refuse and of what lets a wrong
 * decision through. KL_ROOT_SYNTAX, _FIELD, _MEDIA_TYPE, _WINDOW, _KEY, _LOG_ID, _CHAIN, _ROLE, _DUPLICATE.
 */
export function lintTrustedRoot(bytes: Uint8Array): RootProblem[] {
  checkCall("lintTrustedRoot", calls.bytes, { bytes });
  const read = readRoot(bytes);
  return read.raw === undefined ? read.problems : lint(read.raw);
}

/** A trusted root without problems, or its first problem thrown, with all of them in the details. */
export function parseTrustedRoot(bytes: Uint8Array): TrustedRoot {
  return parseRoot(bytes, "kernlock");
}

/** The same; in the profile `sigstore` one key may have several roles. */
export function parseRoot(bytes: Uint8Array, profile: Profile): TrustedRoot {
  checkCall("parseTrustedRoot", calls.bytes, { bytes });
  const { json, raw, problems } = readRoot(bytes);
  const all = raw === undefined ? problems : lint(raw);
  const found = profile === "kernlock" ? all : all.filter(({ code }) => code !== "KL_ROOT_ROLE");
  const [first] = found;
  if (first !== undefined || raw === undefined) {
    return fail(first?.code ?? "KL_ROOT_SYNTAX", `The trusted root is refused: ${first?.path}: ${first?.reason}.`, {
      remedy: "Get the root again from those who run it, and compare its digest with the one they print.",
      details: { problems: found },
    });
  }
  return {
    digest: digestOf(bytes),
    logs: raw.tlogs.map(readLog),
    certificateAuthorities: raw.certificateAuthorities.length,
    certificateLogs: raw.ctlogs.length,
    timestampAuthorities: raw.timestampAuthorities.length,
    material: toTrustMaterial(TrustedRootMessage.fromJSON(json)),
  };
}

function readRoot(bytes: Uint8Array): { json?: unknown; raw?: RawRoot; problems: RootProblem[] } {
  const problem = (code: ErrorCode, path: string, reason: string) => ({ problems: [{ code, path, reason }] });
  let json: unknown;
  try {
    json = withoutNulls(parseStrictJson(bytes, { maxBytes: 1 << 20, maxDepth: 16, what: "trusted root" }));
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return problem("KL_ROOT_SYNTAX", "", error.message.replace(/\.$/, ""));
  }
  const parsed = rootSchema.safeParse(json);
  if (!parsed.success) {
    const times = parsed.error.issues[0]?.path.includes("validFor");
    return problem(times ? "KL_ROOT_WINDOW" : "KL_ROOT_FIELD", "", firstIssue(parsed.error));
  }
  return { json, raw: parsed.data, problems: [] };
}

function readLog(log: RawLog): RootLog {
  const { start, end } = log.publicKey.validFor!;
  return {
    names: logNames(log.baseUrl!)!,
    id: (log.checkpointKeyId ?? log.logId)!.keyId,
    publicKey: readKey(log)!,
    window: { start: start!, ...(end ? { end } : {}) },
  };
}
