/** What the clients of others meet: a registry with a signed package, audits, and who may read and write it. */
import { spawn } from "node:child_process";
import { createPublicKey } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateKeyPair } from "@kernlock/cli/keys";
import {
  builder,
  kernlock,
  kernlockOk,
  makeWorkshop,
  repository,
  startRegistry,
  type Workshop,
} from "../../scripts/project.ts";
import type { Done } from "./table.ts";

export const kernel = "kernlock/liger-rmsnorm";
export const version = "0.1.0";
export const variant = "linux-x86_64-cpu-v3";
export const auditType = "https://kernlock.dev/attestation/audit/v1";
export const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json";

export interface KeyFiles {
  readonly secret: string;
  readonly public: string;
  readonly pem: string;
}

export interface Stage extends AsyncDisposable {
  readonly folder: string;
  readonly workshop: Workshop;
  readonly origin: string;
  /** `host:port/kernlock/liger-rmsnorm`. */
  readonly repository: string;
  readonly publisher: KeyFiles;
  readonly auditor: KeyFiles;
  readonly ed25519: KeyFiles;
  readonly index: Uint8Array & { readonly digest: string };
  readonly variantDigest: string;
  /** Files with the version's index, the variant's manifest, and the bundles about both. */
  readonly files: {
    readonly index: string;
    readonly variant: string;
    readonly indexBundle: string;
    readonly variantBundle: string;
  };
  run(
    program: string,
    args: readonly string[],
    more?: { readonly input?: string; readonly env?: Readonly<Record<string, string>> },
  ): Promise<Done>;
  kernlock(args: readonly string[], cwd?: string, env?: Readonly<Record<string, string>>): Promise<Done>;
  /** A project whose policy wants an audit by the key. */
  project(name: string, auditor: KeyFiles | null, origin?: string): string;
  path(name: string): string;
}

export async function makeStage(folder: string): Promise<Stage> {
  const path = (name: string): string => join(folder, name);
  const workshop = await makeWorkshop(path("workshop"));
  const layout = join(workshop.layouts, "liger-rmsnorm");
  await kernlockOk(["build", "kernels/liger-rmsnorm", "--out", layout, "--builder", builder, "--variant", variant]);
  const registry = await startRegistry(workshop.registryData);
  const token = { KERNLOCK_TOKEN: workshop.token };
  await kernlockOk(["publish", layout, "--registry", registry.origin, "--key", workshop.privateKey], { env: token });

  const host = new URL(registry.origin).host;
  const docker = path("docker");
  mkdirSync(docker);
  const auth = Buffer.from(`me:${workshop.token}`).toString("base64");
  writeFileSync(join(docker, "config.json"), JSON.stringify({ auths: { [host]: { auth } } }));
  const env = {
    ...process.env,
    ...token,
    DOCKER_CONFIG: docker,
    HOME: folder,
    TUF_ROOT: path("tuf"),
    XDG_STATE_HOME: path("state"),
    COSIGN_PASSWORD: "",
  };

  const publisherPem = createPublicKey(readFileSync(workshop.privateKey)).export({
    type: "spki",
    format: "pem",
  }) as string;
  writeFileSync(path("publisher.pub"), publisherPem);
  const publisher = { secret: workshop.privateKey, public: path("publisher.pub"), pem: publisherPem };

  const get = async (at: string): Promise<Uint8Array> => {
    const answer = await fetch(`${registry.origin}/v2/${kernel}/${at}`);
    if (!answer.ok) throw new Error(`${at}: ${answer.status}`);
    return new Uint8Array(await answer.arrayBuffer());
  };
  const json = async (at: string) => JSON.parse(Buffer.from(await get(at)).toString("utf8"));
  const bundleOf = async (digest: string): Promise<Uint8Array> => {
    const [referrer] = (await json(`referrers/${digest}`)).manifests;
    return get(`blobs/${(await json(`manifests/${referrer.digest}`)).layers[0].digest}`);
  };
  const answer = await fetch(`${registry.origin}/v2/${kernel}/manifests/${version}`);
  const digest = answer.headers.get("docker-content-digest") ?? "";
  const index = Object.assign(new Uint8Array(await answer.arrayBuffer()), { digest });
  const variantDigest: string = JSON.parse(Buffer.from(index).toString("utf8")).manifests[0].digest;
  const files = {
    index: path("index.json"),
    variant: path("variant.json"),
    indexBundle: path("index.bundle.json"),
    variantBundle: path("variant.bundle.json"),
  };
  writeFileSync(files.index, index);
  writeFileSync(files.variant, await get(`manifests/${variantDigest}`));
  writeFileSync(files.indexBundle, await bundleOf(digest));
  writeFileSync(files.variantBundle, await bundleOf(variantDigest));

  return {
    ...{
      folder,
      workshop,
      origin: registry.origin,
      repository: `${host}/${kernel}`,
      publisher,
      index,
      variantDigest,
      files,
      path,
    },
    auditor: makeKey(path("auditor"), "p256"),
    ed25519: makeKey(path("ed25519"), "ed25519"),
    run: (program, args, more = {}) =>
      new Promise((done, failed) => {
        const child = spawn(program, args, {
          cwd: folder,
          env: { ...env, ...more.env },
          stdio: ["pipe", "pipe", "pipe"],
        });
        let output = "";
        for (const stream of [child.stdout, child.stderr]) {
          stream.setEncoding("utf8").on("data", (text: string) => {
            output += text;
          });
        }
        child.stdin.on("error", () => {});
        child.stdin.end(more.input ?? "");
        child.on("error", failed);
        child.on("close", (code) => done({ status: code ?? 255, output }));
      }),
    async kernlock(args, cwd = folder, env = token) {
      const { status, stdout, stderr } = await kernlock(args, {
        cwd,
        env: { ...env, XDG_STATE_HOME: path("state") },
      });
      return { status, output: `${stdout}${stderr}` };
    },
    project(name, auditor, origin = registry.origin) {
      const project = path(name);
      mkdirSync(join(project, "cache"), { recursive: true });
      const manifest = { version: 1, registry: origin, variants: [variant], kernels: { [kernel]: version } };
      writeFileSync(join(project, "kernels.json"), JSON.stringify(manifest));
      writeFileSync(join(project, "kernels.policy.yaml"), policyText(publisherPem, auditor?.pem));
      return project;
    },
    [Symbol.asyncDispose]: () => registry.stop(),
  };
}

export function makeKey(stem: string, kind: "p256" | "ed25519"): KeyFiles {
  const { privatePem, publicPem } = generateKeyPair(kind);
  writeFileSync(`${stem}.pem`, privatePem, { mode: 0o600 });
  writeFileSync(`${stem}.pub`, publicPem);
  return { secret: `${stem}.pem`, public: `${stem}.pub`, pem: publicPem };
}

function policyText(publisher: string, auditor: string | undefined): string {
  const key = (name: string, pem: string): string =>
    `  ${name}:\n    pem: |\n${pem.trimEnd().replaceAll(/^/gm, "      ")}\n`;
  return `version: 1
keys:
${key("publisher", publisher)}${auditor === undefined ? "" : key("auditor", auditor)}criteria: { reviewed: {} }
rules:
  - match: "kernlock/*"
    publishers: [publisher]
    builders: [{ id: "${builder}", keys: [publisher] }]
    sources: [{ repository: "${repository}" }]
${auditor === undefined ? "" : "    require: { audit: { by: [auditor], criteria: [reviewed] } }\n"}numerics: { allowDequantization: false }
`;
}
