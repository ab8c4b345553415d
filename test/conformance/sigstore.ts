/**
 * Runs the static cases of a checkout of the public Sigstore conformance suite through the code of
 * `kernlock verify-bundle`, each by the artifact's path and by its digest:
 *
 *   npm run conformance:sigstore -- FOLDER
 *
 * Prints what went wrong and the counts; exit code 0 only when every verdict is right. `--all` prints every verdict.
 * `--mutations N` goes on with N random changes of the bundles that are to be accepted: each has to be refused with a
 * code, or to give the same signer, artifact and statement type, and no time that the unchanged bundle does not prove.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { KernlockError } from "@kernlock/kernels/format";
import { judgeBundle, type VerifyBundleOptions } from "../../cli/commands/verify-bundle.ts";
import { mutateField, newRandom } from "../../policies/trust/test/mutate.ts";

interface Case {
  readonly name: string;
  readonly valid: boolean;
  readonly options: VerifyBundleOptions;
  readonly artifact: string;
  readonly digest: string;
}

function readCases(suite: string): Case[] {
  const assets = join(suite, "test/assets/bundle-verify");
  const { identity, issuer } = readDefaults(suite);
  const names = readdirSync(assets, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return names.map(({ name }): Case => {
    const file = (part: string) => join(assets, name, part);
    const text = (part: string, otherwise: string) =>
      existsSync(file(part)) ? readFileSync(file(part), "utf8").trim() : otherwise;
    const artifact = existsSync(file("artifact")) ? file("artifact") : join(assets, "a.txt");
    return {
      name,
      valid: !name.endsWith("fail"),
      options: {
        bundle: file("bundle.sigstore.json"),
        ...(existsSync(file("trusted_root.json")) ? { trustedRoot: file("trusted_root.json") } : {}),
        ...(existsSync(file("key.pub"))
          ? { key: file("key.pub") }
          : { certificateIdentity: text("identity", identity), certificateOidcIssuer: text("issuer", issuer) }),
      },
      artifact,
      digest: `sha256:${createHash("sha256").update(readFileSync(artifact)).digest("hex")}`,
    };
  });
}

/** Whom the suite expects where a case names nobody: constants of its test/client.py. */
function readDefaults(suite: string): { identity: string; issuer: string } {
  const client = readFileSync(join(suite, "test/client.py"), "utf8");
  const constant = (name: string) => {
    const [, value = ""] = new RegExp(`^${name} = (\\([^)]*\\)|"[^"]*")`, "m").exec(client) ?? [];
    return [...value.matchAll(/"([^"]*)"/g)].map(([, part]) => part).join("");
  };
  return { identity: constant("CERTIFICATE_IDENTITY"), issuer: constant("CERTIFICATE_OIDC_ISSUER") };
}

type Judged = ReturnType<typeof judgeBundle> | { readonly code: string; readonly message: string };

function judged(options: VerifyBundleOptions, artifact: string): Judged {
  try {
    return judgeBundle(options, artifact);
  } catch (error) {
    return error instanceof KernlockError ? error : { code: "untyped", message: String(error) };
  }
}

/** Refused by what the bundle or its root is; an untyped error is never right, whatever was expected. */
const isRefused = (found: Judged) => "code" in found && /^KL_(BUNDLE|ROOT)_/.test(found.code);

function runCases(cases: readonly Case[], all: boolean): boolean {
  const wrong = new Set<string>();
  let right = 0;
  for (const { name, valid, options, artifact, digest } of cases) {
    for (const argument of [artifact, digest]) {
      const found = judged(options, argument);
      const isRight = valid ? !("code" in found) : isRefused(found);
      if (isRight) right++;
      else wrong.add(name);
      const words = "code" in found ? `${found.code} ${found.message}` : "valid";
      const by = argument === digest ? "digest" : "path";
      if (all || !isRight) console.log(`${isRight ? "ok   " : "WRONG"} ${name} by ${by}: ${words}`);
    }
  }
  console.log(
    `${cases.length} cases, ${cases.length - wrong.size} right, ${wrong.size} wrong; ` +
      `${2 * cases.length} verdicts (by path and by digest), ${right} right`,
  );
  return wrong.size === 0;
}

function runMutations(cases: readonly Case[], count: number, seed: number): boolean {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-conformance-"));
  const random = newRandom(seed);
  const positives = cases.filter(({ valid }) => valid);
  const counts = { refused: 0, same: 0, wrong: 0 };
  for (let i = 0; i < count; i++) {
    const { name, options, artifact } = positives[i % positives.length]!;
    const changed = mutateField(JSON.parse(readFileSync(options.bundle, "utf8")), random);
    const bundle = join(folder, "bundle.json");
    writeFileSync(bundle, JSON.stringify(changed));
    const found = judged({ ...options, bundle }, artifact);
    const outcome = isRefused(found) ? "refused" : isSame(found, judged(options, artifact)) ? "same" : "wrong";
    counts[outcome]++;
    if (outcome === "wrong") console.log(`WRONG ${name}, change ${i} of seed ${seed}: ${JSON.stringify(found, plain)}`);
  }
  rmSync(folder, { recursive: true });
  console.log(`${count} changes: ${counts.refused} refused, ${counts.same} same verdict, ${counts.wrong} wrong`);
  return counts.wrong === 0;
}

const plain = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);

function isSame(found: Judged, original: Judged): boolean {
  if ("code" in found || "code" in original) return false;
  const decisive = ({ signer, artifact, predicateType }: ReturnType<typeof judgeBundle>) =>
    JSON.stringify({ signer, artifact, predicateType });
  const known = original.times.map((time) => JSON.stringify(time));
  return decisive(found) === decisive(original) && found.times.every((time) => known.includes(JSON.stringify(time)));
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { all: { type: "boolean", default: false }, mutations: { type: "string" }, seed: { type: "string" } },
});
const [suite] = positionals;
if (suite === undefined || !existsSync(join(suite, "test/assets/bundle-verify"))) {
  console.error("usage: npm run conformance:sigstore -- FOLDER [--all] [--mutations N [--seed N]]");
  process.exitCode = 2;
} else {
  const cases = readCases(suite);
  const right = runCases(cases, values.all);
  const same =
    values.mutations === undefined || runMutations(cases, Number(values.mutations), Number(values.seed ?? 1));
  if (!right || !same) process.exitCode = 1;
}
