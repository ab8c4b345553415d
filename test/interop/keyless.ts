/**
 * Bundles that cosign makes without a key: a certificate of a private Fulcio, a Rekor v2 entry, a timestamp. cosign,
 * `verify-bundle` and policies that name certificate identities come to the same verdict about them, from files and
 * through the registry, up to a version that is published and locked on such evidence alone.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KernlockError } from "@kernlock/kernels/format";
import { parseTrustedRoot, type TrustedRoot, verifyBundle } from "@kernlock/policies/trust";
import { certify, email, usage } from "../../policies/trust/test/authorities/certificates.ts";
import { bytesOf, newBundle, newRoot } from "../../policies/trust/test/authorities/index.ts";
import { builder, kernlockOk, repository, startRegistry } from "../../scripts/project.ts";
import { type Authorities, type AuthorityTools, startAuthorities } from "./authorities.ts";
import { auditType, bundleType, kernel, type Stage, version } from "./stage.ts";
import { type Done, type Row, row } from "./table.ts";
import type { Found } from "./tools.ts";

interface Who {
  readonly san: string;
  readonly issuer: string;
}

const person = "alice@kernlock.example";

export async function keylessRows(
  stage: Stage,
  tools: AuthorityTools & { readonly oras: Found },
  /** An audit of the version, to be signed. */
  statement: Buffer,
): Promise<Row[]> {
  await using authorities = await startAuthorities(stage, tools);
  const alice = { san: person, issuer: authorities.people };
  return [
    ...(await fileRows(stage, tools, authorities, alice, statement)),
    ...(await registryRows(stage, tools, authorities, alice)),
    ...(await publishRows(stage, tools, authorities, alice)),
  ];
}

/** cosign signs a statement as whoever the token says. */
function signs(stage: Stage, { cosign }: AuthorityTools, authorities: Authorities) {
  return (token: string, statement: string, bundle: string, config = authorities.whole): Promise<Done> =>
    stage.run(cosign.path, [
      ...["attest-blob", "-y", "--signing-config", config, "--trusted-root", authorities.trustedRoot],
      ...["--identity-token", token, "--statement", statement, "--bundle", bundle],
    ]);
}

async function fileRows(
  stage: Stage,
  tools: AuthorityTools,
  authorities: Authorities,
  alice: Who,
  statement: Buffer,
): Promise<Row[]> {
  const { path, files } = stage;
  const rows: Row[] = [];
  const add = async (...of: Parameters<typeof row>) => void rows.push(await row(...of));
  const sign = signs(stage, tools, authorities);
  const root = authorities.trustedRoot;

  writeFileSync(path("keyless.statement.json"), statement);
  const made = path("keyless.json");
  await add("cosign, keyless", "attest-blob: certificate of Fulcio, Rekor v2, timestamp", () =>
    sign(authorities.personToken(person), path("keyless.statement.json"), made),
  );
  // Everything below is about that bundle.
  if (!existsSync(made)) return rows;
  const otherRoot = path("keyless.other-root.json");
  writeFileSync(otherRoot, bytesOf(newRoot({ ca: certify({ name: "another root", ca: true }) })));

  interface Question {
    readonly what: string;
    readonly bundle: string;
    readonly who?: Who;
    readonly root?: string;
    readonly artifact?: string;
    readonly now?: Date;
    readonly refusal?: { readonly cosign: RegExp | null; readonly suite: RegExp; readonly policy: RegExp };
  }
  const ask = async ({ what, bundle, who = alice, refusal, now, ...rest }: Question) => {
    const from = rest.root ?? root;
    const artifact = rest.artifact ?? files.index;
    const identity = ["--certificate-identity", who.san, "--certificate-oidc-issuer", who.issuer];
    const given = [...identity, "--trusted-root", from, "--bundle", bundle];
    if (refusal?.cosign !== null && now === undefined) {
      const typed = ["verify-blob-attestation", ...given, "--type", auditType, artifact];
      await add("cosign, keyless", what, () => stage.run(tools.cosign.path, typed), refusal?.cosign);
    }
    if (now === undefined) {
      await add("verify-bundle", what, () => stage.kernlock(["verify-bundle", ...given, artifact]), refusal?.suite);
    }
    await add("policy", what, () => judged(bundle, parsed(from), who, artifact, now), refusal?.policy);
  };

  const whose = { cosign: /identit|san|issuer/i, suite: /KL_BUNDLE_IDENTITY/, policy: /KL_BUNDLE_IDENTITY/ };
  await ask({ what: "that bundle", bundle: made });
  await ask({ what: "that bundle, a year later", bundle: made, now: new Date(Date.now() + 365 * 86_400_000) });
  await ask({
    what: "for another identity",
    bundle: made,
    who: { ...alice, san: "bob@kernlock.example" },
    refusal: whose,
  });
  await ask({
    ...{ what: "for the same name by another issuer", bundle: made },
    ...{ who: { ...alice, issuer: authorities.jobs }, refusal: whose },
  });
  await ask({
    ...{ what: "under another trusted root", bundle: made, root: otherRoot },
    refusal: { cosign: /verif|root|cert/i, suite: /KL_BUNDLE_/, policy: /KL_BUNDLE_/ },
  });
  await ask({
    ...{ what: "for another file", bundle: made, artifact: files.variant },
    refusal: { cosign: /digest|subject/i, suite: /KL_BUNDLE_ARTIFACT/, policy: /about/ },
  });
  const tampered = path("keyless.tampered.json");
  writeFileSync(tampered, tamper(readFileSync(made)));
  await ask({
    ...{ what: "with its statement changed from pass to fail", bundle: tampered },
    refusal: { cosign: /signature|verif/i, suite: /KL_BUNDLE_(SIGNATURE|LOG)/, policy: /KL_BUNDLE_(SIGNATURE|LOG)/ },
  });
  const unstamped = path("keyless.unstamped.json");
  writeFileSync(unstamped, without(readFileSync(made), "rfc3161Timestamps"));
  await ask({
    ...{ what: "without its timestamp", bundle: unstamped },
    refusal: { cosign: /timestamp|verif/i, suite: /KL_BUNDLE_TIME/, policy: /KL_BUNDLE_TIME/ },
  });
  const unlogged = path("keyless.unlogged.json");
  writeFileSync(unlogged, without(readFileSync(made), "tlogEntries"));
  await ask({
    ...{ what: "without its log entry", bundle: unlogged },
    refusal: { cosign: /log|verif/i, suite: /KL_BUNDLE_LOG_MISSING/, policy: /KL_BUNDLE_LOG_MISSING/ },
  });

  // A certificate of the same authority that is over; and nobody says that the signature is older.
  const over = path("keyless.over.json");
  const leaf = certify({
    ...{ name: "leaf", by: authorities.ca, purposes: [usage.codeSigning], names: [email(person)] },
    ...{ issuerUrl: authorities.people, from: new Date("2026-06-01T12:00:00Z"), to: new Date("2026-06-01T12:10:00Z") },
  });
  writeFileSync(over, bytesOf(newBundle({ leaf, payload: statement })));
  await ask({
    ...{ what: "an expired certificate without a timestamp", bundle: over },
    refusal: {
      cosign: /timestamp|expired|verif|log/i,
      suite: /KL_BUNDLE_(TIME|LOG_MISSING)/,
      policy: /KL_BUNDLE_TIME/,
    },
  });
  // Where the root promises no timestamps, the clock decides: while the certificate lives, and no longer.
  const bareRoot = path("keyless.bare-root.json");
  const bare = path("keyless.bare.json");
  const timeless = { ...JSON.parse(readFileSync(root, "utf8")), tlogs: [], timestampAuthorities: [] };
  writeFileSync(bareRoot, bytesOf(timeless));
  await add("cosign, keyless", "attest-blob with the certificate alone", () =>
    sign(authorities.personToken(person), path("keyless.statement.json"), bare, authorities.certificateOnly),
  );
  const alone = (now: Date) => judged(bare, parsed(bareRoot), alice, files.index, now);
  await add("policy", "the certificate alone, under a root that has no clock, while it lives", () => alone(new Date()));
  await add("policy", "the same an hour later", () => alone(new Date(Date.now() + 3_600_000)), /KL_BUNDLE_CERTIFICATE/);
  return rows;
}

async function registryRows(
  stage: Stage,
  tools: AuthorityTools & { readonly oras: Found },
  authorities: Authorities,
  alice: Who,
): Promise<Row[]> {
  const { path, repository: place, index } = stage;
  const rows: Row[] = [];
  const add = async (...of: Parameters<typeof row>) => void rows.push(await row(...of));
  const target = `${place}@${index.digest}`;
  const project = (name: string, who: Who) => {
    const folder = stage.project(name, null);
    const policy = readFileSync(join(folder, "kernels.policy.yaml"), "utf8");
    const rule = "    require: { audit: { by: [alice], criteria: [reviewed] } }\n";
    const identity = identitiesText(authorities, { alice: who });
    const text = policy.replace("rules:", `${identity}rules:`).replace("numerics:", `${rule}numerics:`);
    writeFileSync(join(folder, "kernels.policy.yaml"), text);
    return folder;
  };
  const own = project("keyless", alice);
  const missing = /KL_VERDICT_AUDIT|KL_BUNDLE_IDENTITY/;
  await add("policy", "lock, before an audit by that identity is there", () => stage.kernlock(["lock"], own), missing);
  await add("oras", "attach of the audit that cosign signed without a key", () =>
    stage.run(tools.oras.path, [
      ...["attach", "--plain-http", "--disable-path-validation", "--artifact-type", bundleType],
      ...[target, `${path("keyless.json")}:${bundleType}`],
    ]),
  );
  const verify = (type: string, who: Who) =>
    stage.run(tools.cosign.path, [
      ...["verify-attestation", "--certificate-identity", who.san, "--certificate-oidc-issuer", who.issuer],
      ...["--trusted-root", authorities.trustedRoot, "--type", type, target],
    ]);
  const bob = { ...alice, san: "bob@kernlock.example" };
  await add("cosign, keyless", "verify-attestation finds it in the registry", () => verify(auditType, alice));
  await add(
    "cosign, keyless",
    "the same for another identity",
    () => verify(auditType, bob),
    /none of the|identit|fail/i,
  );
  await add("policy", "lock accepts it by the identity", () => stage.kernlock(["lock"], own));
  await add("policy", "verify --frozen of that lock", () => stage.kernlock(["verify", "--frozen"], own));
  await add(
    "policy",
    "lock for another identity",
    () => stage.kernlock(["lock"], project("keyless-bob", bob)),
    missing,
  );
  await add(
    "policy",
    "lock for the same name by another issuer",
    () => stage.kernlock(["lock"], project("keyless-issuer", { ...alice, issuer: authorities.jobs })),
    missing,
  );
  const noteType = "https://example.com/keyless-note/v1";
  writeFileSync(path("keyless.note.json"), JSON.stringify({ note: "anything" }));
  await add("cosign, keyless", "attest pushes a statement by itself, and verify-attestation finds it", async () => {
    const pushed = await stage.run(tools.cosign.path, [
      ...["attest", "-y", "--signing-config", authorities.whole, "--trusted-root", authorities.trustedRoot],
      ...["--identity-token", authorities.personToken(person), "--predicate", path("keyless.note.json")],
      ...["--type", noteType, target],
    ]);
    return pushed.status === 0 ? verify(noteType, alice) : pushed;
  });
  return rows;
}

/** A registry whose namespace trusts a CI job and no key: provenance that cosign signed there is what lets a version in. */
async function publishRows(stage: Stage, tools: AuthorityTools, authorities: Authorities, alice: Who): Promise<Row[]> {
  const { path } = stage;
  const rows: Row[] = [];
  const add = async (...of: Parameters<typeof row>) => void rows.push(await row(...of));
  const job = { repository: "kernlock/kernels", workflow: "release.yml@refs/heads/main" };
  const ci = { san: `${authorities.jobs}/${job.repository}/${job.workflow}`, issuer: authorities.jobs };
  const layout = join(stage.workshop.layouts, "liger-rmsnorm");
  const data = path("keyless-data");
  const policy = (who: Who) => `version: 1
keys: {}
${identitiesText(authorities, { ci: who })}rules:
  - match: "kernlock/*"
    publishers: [ci]
    builders: [{ id: "${builder}", keys: [ci] }]
    sources: [{ repository: "${repository}" }]
numerics: { allowDequantization: false }
`;
  const setPolicy = async (verb: "create" | "policy", who: Who) => {
    writeFileSync(path("keyless.policy.yaml"), policy(who));
    const file = path("keyless.policy.yaml");
    await kernlockOk(["registry", "namespace", verb, "kernlock", "--data", data, "--policy", file]);
  };
  await setPolicy("create", ci);
  const made = await kernlockOk([
    ...["registry", "token", "create", "--data", data, "--namespace", "kernlock", "--role", "publisher", "--json"],
  ]);
  const { token } = JSON.parse(made) as { token: string };
  const registry = await startRegistry(data);
  try {
    const bundles: string[] = [];
    mkdirSync(path("keyless-bundles"));
    for (const name of readdirSync(join(layout, "statements"))) {
      const bundle = path(join("keyless-bundles", name));
      await add("cosign, keyless", `a CI job signs ${name.replace(".json", "")} provenance`, () =>
        signs(stage, tools, authorities)(authorities.jobToken(job), join(layout, "statements", name), bundle),
      );
      bundles.push("--bundle", bundle);
    }
    const publish = (...more: string[]) =>
      stage.kernlock(
        ["publish", layout, "--registry", registry.origin, "--key", stage.workshop.privateKey, ...more],
        undefined,
        { KERNLOCK_TOKEN: token },
      );
    const nobody = /KL_BUNDLE_|KL_VERDICT_/;
    await add("registry", "publish with a key that its policy does not name", () => publish(), nobody);
    await setPolicy("policy", { ...ci, san: ci.san.replace("heads/main", "heads/other") });
    await add("registry", "publish where the policy names another workflow", () => publish(...bundles), nobody);
    await setPolicy("policy", { ...ci, issuer: alice.issuer });
    await add("registry", "publish where the policy names another issuer", () => publish(...bundles), nobody);
    await setPolicy("policy", ci);
    await add("registry", "publish on what cosign signed without a key", () => publish(...bundles));

    const project = stage.project("keyless-ci", null, registry.origin);
    writeFileSync(join(project, "kernels.policy.yaml"), policy(ci));
    await add("policy", "lock and verify --frozen of that version", async () => {
      const locked = await stage.kernlock(["lock"], project, {});
      return locked.status === 0 ? stage.kernlock(["verify", "--frozen"], project, {}) : locked;
    });
    const place = `${new URL(registry.origin).host}/${kernel}`;
    await add("cosign, keyless", "verify-attestation of its provenance, by tag", () =>
      stage.run(tools.cosign.path, [
        ...["verify-attestation", "--certificate-identity", ci.san, "--certificate-oidc-issuer", ci.issuer],
        ...["--trusted-root", authorities.trustedRoot, "--type", "slsaprovenance1", `${place}:${version}`],
      ]),
    );
  } finally {
    await registry.stop();
  }
  return rows;
}

function identitiesText({ trustedRoot }: Authorities, who: Readonly<Record<string, Who>>): string {
  const root = JSON.stringify(JSON.parse(readFileSync(trustedRoot, "utf8")));
  const lines = Object.entries(who).map(
    ([id, { san, issuer }]) => `  ${id}: { root: stack, issuer: "${issuer}", san: "${san}" }\n`,
  );
  return `roots:\n  stack: { json: '${root}' }\nidentities:\n${lines.join("")}`;
}

const parsed = (file: string): TrustedRoot => parseTrustedRoot(readFileSync(file));

/** By the verifier that loader and registry use, with a policy's identity. */
function judged(bundle: string, root: TrustedRoot, { san, issuer }: Who, artifact: string, now = new Date()): Done {
  try {
    const identities = [{ id: "who", issuer, san, root }];
    const { statement } = verifyBundle(readFileSync(bundle), { keys: [], identities, now });
    const hash = spawnSync("sha256sum", [artifact], { encoding: "utf8" }).stdout.slice(0, 64);
    const found = statement.subject.map(({ digest }) => digest.sha256);
    return found.includes(hash) ? { status: 0, output: "" } : { status: 1, output: `about ${found.join()}` };
  } catch (error) {
    return { status: 1, output: error instanceof KernlockError ? `[${error.code}] ${error.message}` : String(error) };
  }
}

function tamper(bundle: Buffer): string {
  const json = JSON.parse(bundle.toString("utf8"));
  const payload = Buffer.from(json.dsseEnvelope.payload, "base64").toString("utf8");
  json.dsseEnvelope.payload = Buffer.from(payload.replace('"pass"', '"fail"')).toString("base64");
  return JSON.stringify(json);
}

function without(bundle: Buffer, field: "rfc3161Timestamps" | "tlogEntries"): string {
  const json = JSON.parse(bundle.toString("utf8"));
  if (field === "tlogEntries") json.verificationMaterial.tlogEntries = [];
  else json.verificationMaterial.timestampVerificationData.rfc3161Timestamps = [];
  return JSON.stringify(json);
}
