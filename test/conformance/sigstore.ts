/**
 * Runs the static cases of a checkout of the public Sigstore conformance suite through the code of
 * `kernlock verify-bundle`, each by the artifact's path and by its digest:
 *
 *   npm run conformance:sigstore -- FOLDER
 *
 * Prints what went wrong and the counts; exit code 0 only when every verdict is right.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { KernlockError } from "@kernlock/kernels/format";
import { judgeBundle, type VerifyBundleOptions } from "../../cli/commands/verify-bundle.ts";

interface Outcome {
  readonly case: string;
  readonly by: "path" | "digest";
  readonly expected: "valid" | "refused";
  readonly code: string;
  readonly message: string;
}

function runSuite(suite: string): Outcome[] {
  const assets = join(suite, "test/assets/bundle-verify");
  const { identity, issuer } = readDefaults(suite);
  const cases = readdirSync(assets, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  return cases.flatMap((name): Outcome[] => {
    const file = (part: string) => join(assets, name, part);
    const text = (part: string, otherwise: string) =>
      existsSync(file(part)) ? readFileSync(file(part), "utf8").trim() : otherwise;
    const options: VerifyBundleOptions = {
      bundle: file("bundle.sigstore.json"),
      ...(existsSync(file("trusted_root.json")) ? { trustedRoot: file("trusted_root.json") } : {}),
      ...(existsSync(file("key.pub"))
        ? { key: file("key.pub") }
        : { certificateIdentity: text("identity", identity), certificateOidcIssuer: text("issuer", issuer) }),
    };
    const artifact = existsSync(file("artifact")) ? file("artifact") : join(assets, "a.txt");
    const digest = `sha256:${createHash("sha256").update(readFileSync(artifact)).digest("hex")}`;
    const expected = name.endsWith("fail") ? "refused" : "valid";
    return [
      { case: name, by: "path", expected, ...judged(options, artifact) },
      { case: name, by: "digest", expected, ...judged(options, digest) },
    ];
  });
}

function judged(options: VerifyBundleOptions, artifact: string): { code: string; message: string } {
  try {
    judgeBundle(options, artifact);
    return { code: "valid", message: "" };
  } catch (error) {
    return error instanceof KernlockError
      ? { code: error.code, message: error.message }
      : { code: "untyped", message: String(error) };
  }
}

/** An untyped error is never right, whatever was expected. */
const isRight = ({ expected, code }: Outcome) =>
  expected === "valid" ? code === "valid" : code.startsWith("KL_") && !code.startsWith("KL_CLI_");

/** Whom the suite expects where a case names nobody: constants of its test/client.py. */
function readDefaults(suite: string): { identity: string; issuer: string } {
  const client = readFileSync(join(suite, "test/client.py"), "utf8");
  const constant = (name: string) => {
    const [, value = ""] = new RegExp(`^${name} = (\\([^)]*\\)|"[^"]*")`, "m").exec(client) ?? [];
    return [...value.matchAll(/"([^"]*)"/g)].map(([, part]) => part).join("");
  };
  return { identity: constant("CERTIFICATE_IDENTITY"), issuer: constant("CERTIFICATE_OIDC_ISSUER") };
}

const [suite, ...flags] = process.argv.slice(2);
if (suite === undefined || !existsSync(join(suite, "test/assets/bundle-verify"))) {
  console.error("usage: npm run conformance:sigstore -- FOLDER [--all]   (FOLDER: a checkout of the suite)");
  process.exitCode = 2;
} else {
  const outcomes = runSuite(suite);
  for (const outcome of outcomes) {
    const right = isRight(outcome);
    if (right && !flags.includes("--all")) continue;
    console.log(
      `${right ? "ok   " : "WRONG"} ${outcome.case} by ${outcome.by}: ${outcome.code} ${outcome.message}`.trimEnd(),
    );
  }
  const wrong = new Set(outcomes.filter((outcome) => !isRight(outcome)).map((outcome) => outcome.case));
  const all = new Set(outcomes.map((outcome) => outcome.case));
  console.log(
    `${all.size} cases, ${outcomes.length} verdicts: ${all.size - wrong.size} cases right, ${wrong.size} wrong; ` +
      `${outcomes.filter(isRight).length} verdicts right`,
  );
  if (wrong.size > 0) process.exitCode = 1;
}
