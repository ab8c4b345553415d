/** Stock cosign reads our bundles, from files and from the registry; we read its. */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { KernlockError } from "@kernlock/kernels/format";
import { trustedKey, verifyBundle } from "@kernlock/policies/trust";
import { identityRows } from "./identities.ts";
import { keylessRows } from "./keyless.ts";
import { auditType, bundleType, kernel, makeKey, type Stage, version } from "./stage.ts";
import { type Done, leftOut, type Row, row } from "./table.ts";
import type { Found } from "./tools.ts";

interface Tools {
  readonly cosign: Found | null;
  readonly oras: Found | null;
  readonly fulcio: Found | null;
  readonly "timestamp-server": Found | null;
  readonly posix: Found | null;
}

const noteType = "https://example.com/note/v1";
const provenance = "slsaprovenance1";
const noMatch = /accepted signatures do not match|invalid signature|failed to verify|could not verify/i;

export async function cosignRows(stage: Stage, tools: Tools): Promise<Row[]> {
  const { cosign, oras, fulcio, posix: rekor, "timestamp-server": tsa } = tools;
  if (cosign === null) return [leftOut("cosign", "everything", "cosign is not built: npm run interop builds it")];
  const { files, publisher, auditor, ed25519, path } = stage;
  const run = (...args: string[]) => stage.run(cosign.path, args);
  const rows: Row[] = [];
  const add = async (...of: Parameters<typeof row>) => void rows.push(await row(...of));

  const auditBundle = async (name: string, key: { secret: string }) => {
    const file = path(`${name}.audit.json`);
    const args = ["--registry", stage.origin, "--criteria", "reviewed", "--key", key.secret, "--output", file];
    const done = await stage.kernlock(["attest", "audit", `${kernel}@${version}`, ...args]);
    if (done.status !== 0) throw new Error(done.output);
    return file;
  };
  const audit = await auditBundle("p256", auditor);
  const edAudit = await auditBundle("ed25519", ed25519);

  // Our bundles, from files.
  const blob = (bundle: string, key: { public: string }, type: string, ...artifact: string[]) =>
    run(
      ...[
        "verify-blob-attestation",
        "--key",
        key.public,
        "--insecure-ignore-tlog",
        "--type",
        type,
        "--bundle",
        bundle,
        ...artifact,
      ],
    );
  await add("cosign, files", "provenance of the index", () =>
    blob(files.indexBundle, publisher, provenance, files.index),
  );
  await add("cosign, files", "provenance of a variant", () =>
    blob(files.variantBundle, publisher, provenance, files.variant),
  );
  await add("cosign, files", "provenance of the index, by digest", () =>
    blob(files.indexBundle, publisher, provenance, "--digest", stage.index.digest.slice(7), "--digestAlg", "sha256"),
  );
  await add("cosign, files", "an audit, ECDSA P-256", () => blob(audit, auditor, auditType, files.index));
  await add("cosign, files", "an audit, Ed25519", () => blob(edAudit, ed25519, auditType, files.index));
  await add(
    "cosign, files",
    "provenance under another key",
    () => blob(files.indexBundle, auditor, provenance, files.index),
    noMatch,
  );
  await add(
    "cosign, files",
    "provenance of the index, for the variant",
    () => blob(files.indexBundle, publisher, provenance, files.variant),
    /digest|subject/i,
  );
  await add(
    "cosign, files",
    "an audit asked for as provenance",
    () => blob(audit, auditor, provenance, files.index),
    /predicate/i,
  );

  // Our bundles, from the registry.
  const attached = await stage.kernlock([
    "attest",
    "audit",
    `${kernel}@${version}`,
    "--registry",
    stage.origin,
    "--criteria",
    "reviewed",
    "--key",
    auditor.secret,
  ]);
  if (attached.status !== 0) throw new Error(attached.output);
  const verify = (reference: string, key: { public: string }, type: string) =>
    run(
      "verify-attestation",
      "--key",
      key.public,
      "--insecure-ignore-tlog",
      "--type",
      type,
      `${stage.repository}${reference}`,
    );
  await add("cosign, registry", "provenance of the version, by tag", () =>
    verify(`:${version}`, publisher, provenance),
  );
  await add("cosign, registry", "provenance of the version, by digest", () =>
    verify(`@${stage.index.digest}`, publisher, provenance),
  );
  await add("cosign, registry", "provenance of a variant, by digest", () =>
    verify(`@${stage.variantDigest}`, publisher, provenance),
  );
  await add("cosign, registry", "an audit that `attest` attached", () => verify(`:${version}`, auditor, auditType));
  await add(
    "cosign, registry",
    "provenance under another key",
    () => verify(`:${version}`, auditor, provenance),
    /none of the attestations|no matching|do not match|invalid signature|failed/i,
  );
  await add(
    "cosign, registry",
    "an audit of a variant that has none",
    () => verify(`@${stage.variantDigest}`, auditor, auditType),
    /none of the attestations|no matching|not match|found|failed/i,
  );

  // Its bundles, here. An empty signing configuration: no log, no network.
  const theirs = makeKey(path("theirs"), "p256");
  const config = path("signing-config.json");
  await add("cosign, key", "import of a P-256 key made by Kernlock", () =>
    run("import-key-pair", "--key", theirs.secret, "--output-key-prefix", path("cosign")),
  );
  await run("signing-config", "create", "--out", config);
  const signer = ["--key", path("cosign.key"), "--signing-config", config, "-y"];
  const statement = path("statement.json");
  writeFileSync(statement, auditStatement(audit));
  const made = path("by-statement.json");
  await add("cosign → kernlock", "a statement signed by attest-blob --statement", async () => {
    const signed = await run("attest-blob", ...signer, "--statement", statement, "--bundle", made);
    return signed.status === 0 ? judged(made, theirs, files.index) : signed;
  });
  await add(
    "cosign → kernlock",
    "the same under another key",
    () => judged(made, publisher, files.index),
    /KL_BUNDLE_UNKNOWN_KEY|KL_BUNDLE_SIGNATURE/,
  );
  await add(
    "cosign → kernlock",
    "the same by verify-bundle, which demands a trusted time",
    () => stage.kernlock(["verify-bundle", "--bundle", made, "--key", theirs.public, files.index]),
    /KL_BUNDLE_TIME/,
  );
  await add("cosign → kernlock", "attest-blob --predicate (in-toto v0.1)", async () => {
    const [predicate, bundle] = [path("predicate.json"), path("by-predicate.json")];
    writeFileSync(predicate, JSON.stringify({ note: "anything" }));
    const what = ["--predicate", predicate, "--type", noteType, "--bundle", bundle];
    const signed = await run("attest-blob", ...signer, ...what, files.index);
    return signed.status === 0 ? judged(bundle, theirs, files.index) : signed;
  });
  await add(
    "cosign → kernlock",
    "attest-blob with an Ed25519 key (pre-hashed, so that nobody verifies it)",
    async () => {
      const bundle = path("by-ed25519.json");
      await run("import-key-pair", "--key", ed25519.secret, "--output-key-prefix", path("cosign-ed25519"));
      const key = ["--key", path("cosign-ed25519.key"), "--signing-config", config, "-y"];
      const signed = await run("attest-blob", ...key, "--statement", statement, "--bundle", bundle);
      return signed.status === 0 ? judged(bundle, ed25519, files.index) : signed;
    },
    /KL_BUNDLE_SIGNATURE/,
  );
  const plain = path("by-sign.json");
  await add("cosign", "sign-blob", () => run("sign-blob", ...signer, "--bundle", plain, files.index));
  await add(
    "cosign → kernlock",
    "a signature by sign-blob, which states nothing",
    () => judged(plain, theirs, files.index),
    /KL_BUNDLE_CONTENT/,
  );

  rows.push(...(await identityRows(stage, cosign.path, auditType, auditStatement(audit))));

  if (oras === null || fulcio === null || rekor === null || tsa === null)
    rows.push(leftOut("cosign, keyless", "everything", "Fulcio, Rekor, the timestamp authority or oras is not built"));
  else rows.push(...(await keylessRows(stage, { cosign, oras, fulcio, rekor, tsa }, auditStatement(audit))));

  // An audit that cosign signed, through the registry into a lock.
  const project = stage.project("cosign-audit", theirs);
  await add(
    "cosign → kernlock",
    "lock without that audit",
    () => stage.kernlock(["lock"], project),
    /KL_VERDICT_AUDIT_MISSING|KL_VERDICT_AUDITOR/,
  );
  if (oras === null)
    rows.push(
      leftOut(
        "cosign → kernlock",
        "an audit signed by cosign, attached by oras, accepted by lock",
        "oras is not built",
      ),
    );
  else {
    await add("cosign → kernlock", "an audit signed by cosign, attached by oras, accepted by lock", async () => {
      const args = ["attach", "--plain-http", "--disable-path-validation", "--artifact-type", bundleType];
      const put = await stage.run(oras.path, [
        ...args,
        `${stage.repository}@${stage.index.digest}`,
        `${made}:${bundleType}`,
      ]);
      return put.status === 0 ? stage.kernlock(["lock"], project) : put;
    });
    await add("cosign → kernlock", "verify --frozen of that lock", () =>
      stage.kernlock(["verify", "--frozen"], project),
    );
  }
  await add("cosign → registry", "attest pushes a statement by itself, and verify-attestation finds it", async () => {
    const predicate = path("note.json");
    writeFileSync(predicate, JSON.stringify({ note: "anything" }));
    const type = noteType;
    const pushed = await run(
      "attest",
      ...signer,
      "--predicate",
      predicate,
      "--type",
      type,
      `${stage.repository}@${stage.index.digest}`,
    );
    return pushed.status === 0 ? verify(`@${stage.index.digest}`, theirs, type) : pushed;
  });
  return rows;
}

/** By the verifier that loader and registry use, and no other: who signed, and that it is about this file. */
function judged(bundle: string, key: { readonly pem: string }, artifact: string): Done {
  try {
    const { statement } = verifyBundle(readFileSync(bundle), {
      keys: [trustedKey("theirs", key.pem)],
      now: new Date(),
    });
    const wanted = createHash("sha256").update(readFileSync(artifact)).digest("hex");
    const found = statement.subject.map(({ digest }) => digest.sha256);
    return found.includes(wanted) ? { status: 0, output: "" } : { status: 1, output: `about ${found.join()}` };
  } catch (error) {
    return { status: 1, output: error instanceof KernlockError ? `[${error.code}] ${error.message}` : String(error) };
  }
}

/** The very statement of one of our bundles, for somebody else to sign. */
function auditStatement(bundle: string): Buffer {
  const { dsseEnvelope } = JSON.parse(readFileSync(bundle, "utf8")) as { dsseEnvelope: { payload: string } };
  return Buffer.from(dsseEnvelope.payload, "base64");
}
