/** oras, skopeo and crane against the registry: nothing is lost, and what they copy is judged again where it arrives. */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { kernlockOk, startRegistry } from "../../scripts/project.ts";
import { auditType, bundleType, kernel, type Stage, version } from "./stage.ts";
import { type Done, leftOut, type Row, row } from "./table.ts";
import type { Found } from "./tools.ts";

interface Tools {
  readonly cosign: Found | null;
  readonly oras: Found | null;
  readonly skopeo: Found | null;
  readonly crane: Found | null;
}

export async function ociRows(stage: Stage, tools: Tools): Promise<Row[]> {
  return [
    ...(await orasRows(stage, tools.oras)),
    ...(await skopeoRows(stage, tools)),
    ...(await craneRows(stage, tools.crane)),
  ];
}

const wrong = (output: string): Done => ({ status: 1, output });
const fine: Done = { status: 0, output: "" };
/** Goes on with `next` where the last step went well. */
const then = async (done: Done, next: (output: string) => Done | Promise<Done>): Promise<Done> =>
  done.status === 0 ? next(done.output) : done;
const equal = (found: unknown, wanted: unknown): Done =>
  found === wanted ? fine : wrong(`${found} instead of ${wanted}`);

async function orasRows(stage: Stage, oras: Found | null): Promise<Row[]> {
  if (oras === null) return [leftOut("oras", "everything", "oras is not built: npm run interop builds it")];
  const rows: Row[] = [];
  const add = async (...of: Parameters<typeof row>) => void rows.push(await row(...of));
  const run = (args: string[], input?: string) => stage.run(oras.path, args, input === undefined ? {} : { input });
  const at = `${stage.repository}@${stage.index.digest}`;
  const { auditor, path } = stage;

  await add("oras", "login with a token as password", async () => {
    const host = new URL(stage.origin).host;
    const registryConfig = ["--registry-config", path("oras-login.json")];
    return run(
      ["login", "--plain-http", ...registryConfig, "--username", "me", "--password-stdin", host],
      stage.workshop.token,
    );
  });
  await add(
    "oras",
    "login with a wrong token",
    () =>
      run(
        [
          "login",
          "--plain-http",
          "--registry-config",
          path("oras-no.json"),
          "--username",
          "me",
          "--password-stdin",
          new URL(stage.origin).host,
        ],
        "kl_nobody",
      ),
    /unauthorized|denied|401|403/i,
  );
  await add("oras", "repo tags", async () =>
    then(await run(["repo", "tags", "--plain-http", stage.repository]), (output) => equal(output.trim(), version)),
  );
  await add("oras", "manifest fetch gives the published bytes", async () => {
    const file = path("oras-index.json");
    const got = await run(["manifest", "fetch", "--plain-http", "--output", file, `${stage.repository}:${version}`]);
    return then(got, () => equal(digestOf(file), stage.index.digest));
  });
  const bundle = path("oras-audit.json");
  const made = await stage.kernlock([
    "attest",
    "audit",
    `${kernel}@${version}`,
    "--registry",
    stage.origin,
    "--criteria",
    "reviewed",
    "--key",
    auditor.secret,
    "--output",
    bundle,
  ]);
  if (made.status !== 0) throw new Error(made.output);
  await add("oras", "attach of a bundle that `attest --output` wrote", () =>
    run([
      "attach",
      "--plain-http",
      "--disable-path-validation",
      "--artifact-type",
      bundleType,
      "--annotation",
      `dev.sigstore.bundle.predicateType=${auditType}`,
      at,
      `${bundle}:${bundleType}`,
    ]),
  );
  await add("oras", "attach of another artifact (a text)", () => {
    writeFileSync(path("note.txt"), "measured on a Tuesday\n");
    return run([
      "attach",
      "--plain-http",
      "--disable-path-validation",
      "--artifact-type",
      "text/x-note",
      at,
      `${path("note.txt")}:text/plain`,
    ]);
  });
  await add("oras", "discover lists the bundles", async () => {
    const found = await run(["discover", "--plain-http", "--artifact-type", bundleType, "--format", "json", at]);
    return then(found, (output) => (output.split(bundleType).length > 2 ? fine : wrong(output)));
  });
  await add("oras", "the attached audit is accepted by lock", () =>
    stage.kernlock(["lock"], stage.project("oras-audit", auditor)),
  );

  const layout = path("oras-layout");
  await add("oras", "cp -r into a folder", () =>
    run(["cp", "-r", "--from-plain-http", "--to-oci-layout", `${stage.repository}:${version}`, `${layout}:${version}`]),
  );
  const data = path("second-registry");
  await kernlockOk(["registry", "namespace", "create", "kernlock", "--data", data, "--policy", stage.workshop.policy]);
  const { token } = JSON.parse(
    await kernlockOk([
      "registry",
      "token",
      "create",
      "--data",
      data,
      "--namespace",
      "kernlock",
      "--scope",
      "write",
      "--label",
      "mirror",
      "--json",
    ]),
  ) as { token: string };
  const second = await startRegistry(data);
  try {
    const host = new URL(second.origin).host;
    const credentials = ["--to-username", "me", "--to-password", token];
    const to = ["--to-plain-http", ...credentials];
    await add("oras", "cp -r from the folder into another Kernlock registry, with the evidence", () =>
      run(["cp", "-r", "--from-oci-layout", ...to, `${layout}:${version}`, `${host}/${kernel}:${version}`]),
    );
    await add("oras", "lock against that copy, with the audit", () =>
      stage.kernlock(["lock"], stage.project("copy", auditor, second.origin), {}),
    );
    await add(
      "oras",
      "cp -r without the right to write",
      () =>
        run([
          "cp",
          "-r",
          "--from-oci-layout",
          "--to-plain-http",
          `${layout}:${version}`,
          `${host}/kernlock/other:${version}`,
        ]),
      /unauthorized|denied|401|403/i,
    );
  } finally {
    await second.stop();
  }
  return rows;
}

async function skopeoRows(stage: Stage, { skopeo, cosign }: Tools): Promise<Row[]> {
  if (skopeo === null) return [leftOut("skopeo", "everything", "skopeo is not installed")];
  const rows: Row[] = [];
  const add = async (...of: Parameters<typeof row>) => void rows.push(await row(...of));
  const run = (...args: string[]) => stage.run(skopeo.path, args);
  const source = `docker://${stage.repository}:${version}`;
  const folder = stage.path("skopeo-layout");
  await add("skopeo", "list-tags", async () =>
    then(await run("list-tags", "--tls-verify=false", `docker://${stage.repository}`), (output) =>
      equal(JSON.parse(output).Tags.join(), version),
    ),
  );
  await add("skopeo", "copy --all into a folder keeps the digest", async () =>
    then(await run("copy", "--all", "--src-tls-verify=false", source, `oci:${folder}:${version}`), () =>
      equal(JSON.parse(readFileSync(join(folder, "index.json"), "utf8")).manifests[0].digest, stage.index.digest),
    ),
  );
  const index = join(folder, "blobs", "sha256", stage.index.digest.slice("sha256:".length));
  if (cosign !== null) {
    await add("cosign, files", "provenance against the index in skopeo's folder", () =>
      stage.run(cosign.path, [
        "verify-blob-attestation",
        "--key",
        stage.publisher.public,
        "--insecure-ignore-tlog",
        "--type",
        "slsaprovenance1",
        "--bundle",
        stage.files.indexBundle,
        index,
      ]),
    );
  }
  return rows;
}

async function craneRows(stage: Stage, crane: Found | null): Promise<Row[]> {
  if (crane === null) return [leftOut("crane", "everything", "crane is not built: npm run interop builds it")];
  const rows: Row[] = [];
  const add = async (...of: Parameters<typeof row>) => void rows.push(await row(...of));
  const run = (...args: string[]) => stage.run(crane.path, args);
  await add("crane", "digest of the tag", async () =>
    then(await run("digest", "--insecure", `${stage.repository}:${version}`), (output) =>
      equal(output.trim(), stage.index.digest),
    ),
  );
  await add("crane", "ls", async () =>
    then(await run("ls", "--insecure", stage.repository), (output) => equal(output.trim(), version)),
  );
  await add("crane", "manifest of the variant, byte for byte", async () =>
    then(await run("manifest", "--insecure", `${stage.repository}@${stage.variantDigest}`), (output) =>
      equal(`sha256:${createHash("sha256").update(output).digest("hex")}`, stage.variantDigest),
    ),
  );
  return rows;
}

const digestOf = (file: string): string => `sha256:${createHash("sha256").update(readFileSync(file)).digest("hex")}`;
