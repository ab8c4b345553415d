import { readFileSync, statSync } from "node:fs";
import { fail } from "@kernlock/kernels/format";
import {
  type Artifact,
  type ExpectedSigner,
  parseSigstoreKey,
  parseSigstoreRoot,
  type SigstoreVerdict,
  verifySigstore,
} from "@kernlock/policies/trust/sigstore";
import type { Command } from "commander";
import { command } from "../command.ts";
import { usage } from "../errors.ts";

export interface VerifyBundleOptions {
  readonly bundle: string;
  readonly staging?: boolean;
  readonly key?: string;
  readonly certificateIdentity?: string;
  readonly certificateOidcIssuer?: string;
  readonly trustedRoot?: string;
}

/** The protocol of the public Sigstore conformance suite: exit code 0 for a valid bundle, and for nothing else. */
export function verifyBundleCommand(): Command {
  return command<VerifyBundleOptions>(
    "verify-bundle <file-or-digest>",
    "verify any Sigstore bundle for a file, by a key or an exact certificate identity; decides nothing about kernels",
    (target) =>
      target
        .requiredOption("--bundle <file>", "the Sigstore bundle, v0.1 to v0.3")
        .option("--key <file>", "the signer's public key (PEM)")
        .option("--certificate-identity <name>", "the signer's exact identity, with --certificate-oidc-issuer")
        .option("--certificate-oidc-issuer <url>", "the exact issuer of the identity")
        .option("--trusted-root <file>", "a trusted_root.json (default: Sigstore's public root, built in)")
        .option("--staging", "use the root of Sigstore's staging instance"),
    async ({ output, options, args }) => {
      const verdict = judgeBundle(options, args[0] ?? "");
      output.result(asJson(verdict), () => asText(verdict));
      return 0;
    },
  );
}

/** What the command does, without its words. Throws KL_BUNDLE_*, KL_ROOT_*, KL_CLI_*. */
export function judgeBundle(options: VerifyBundleOptions, fileOrDigest: string): SigstoreVerdict {
  return verifySigstore(read(options.bundle, "bundle"), {
    signer: readSigner(options),
    root: parseSigstoreRoot(readRoot(options)),
    artifact: readArtifact(fileOrDigest),
    now: new Date(),
  });
}

function readSigner({
  key,
  certificateIdentity: identity,
  certificateOidcIssuer: issuer,
}: VerifyBundleOptions): ExpectedSigner {
  if (key !== undefined && identity === undefined && issuer === undefined) {
    return { key: parseSigstoreKey(read(key, "key").toString("utf8")) };
  }
  if (key === undefined && identity && issuer) return { identity, issuer };
  return usage("give either --key, or --certificate-identity with --certificate-oidc-issuer; neither may be empty");
}

function readRoot({ trustedRoot, staging }: VerifyBundleOptions): Buffer {
  if (trustedRoot !== undefined) return read(trustedRoot, "trusted root");
  return readFileSync(new URL(`../sigstore/${staging ? "staging" : "public-good"}.json`, import.meta.url));
}

/** A digest only where no such file exists, as the protocol has it. */
function readArtifact(argument: string): Artifact {
  const [, hex] = /^sha256:([0-9a-f]{64})$/i.exec(argument) ?? [];
  const exists = statSync(argument, { throwIfNoEntry: false }) !== undefined;
  return hex !== undefined && !exists ? { digest: Buffer.from(hex, "hex") } : { bytes: read(argument, "artifact") };
}

function read(path: string, what: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? "unknown reason";
    return fail("KL_CLI_FILE", `The ${what} ${path} cannot be read (${why}).`, {
      remedy: "Give the path of a file that exists and that you may read.",
    });
  }
}

function asJson({ bundleDigest, signer, artifact, predicateType, times, logged }: SigstoreVerdict) {
  return {
    ok: true,
    bundle: bundleDigest,
    artifact,
    signer,
    predicate_type: predicateType,
    times: times.map(({ source, time }) => ({ source, time: time.toISOString() })),
    log_entries: logged.map(({ log, index }) => ({ log, index: String(index) })),
  };
}

function asText({ signer, artifact, predicateType, times, logged }: SigstoreVerdict): string {
  return [
    `valid: ${artifact}`,
    `signed by ${"key" in signer ? signer.key : `${signer.identity} (${signer.issuer})`}`,
    ...(predicateType === null ? [] : [`statement of type ${predicateType}`]),
    ...times.map(({ source, time }) => `signed before ${time.toISOString()}, says a ${source}`),
    ...logged.map(({ log, index }) => `entry ${index} of ${log}`),
    "",
  ].join("\n");
}
