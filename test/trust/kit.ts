import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Digest } from "@kernlock/kernels/format";
import type { Signer } from "@kernlock/policies/trust";
import { afterAll, vi } from "vitest";
import { builder, library, newFolder, source, TestRegistry } from "../../loader/test/kit.ts";
import { kernlock } from "../../scripts/project.ts";

export { builder, newFolder, source };

// Each of these tests starts the command many times, and a busy machine takes seconds for each.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

export interface Person extends Signer {
  readonly publicPem: string;
  readonly privateFile: string;
  readonly publicFile: string;
  readonly privateKey: KeyObject;
}

/** People with real keys in files. */
export function person(name: string, folder: string): Person {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const publicKey = createPublicKey(privateKey);
  const privateFile = join(folder, `${name}.pem`);
  const publicFile = join(folder, `${name}.pub`);
  const publicPem = publicKey.export({ type: "spki", format: "pem" }) as string;
  writeFileSync(privateFile, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  writeFileSync(publicFile, publicPem);
  return {
    ...{ privateKey, publicKey, publicPem, privateFile, publicFile },
    sign: async (data) => sign("sha256", data, privateKey),
  };
}

export function policyText(people: Readonly<Record<string, Person>>, rule = "", more = "", match = "acme/*"): string {
  const keys = Object.entries(people).map(
    ([id, { publicPem }]) => `  ${id}:\n    pem: |\n${publicPem.trimEnd().replaceAll(/^/gm, "      ")}\n`,
  );
  return `version: 1
keys:
${keys.join("")}criteria: { reviewed: {} }
rules:
  - match: "${match}"
    publishers: [publisher]
    builders: [{ id: "${builder}", keys: [publisher] }]
    sources: [{ repository: "${source.repository}" }]
${rule.replaceAll(/^(?=.)/gm, "    ")}
numerics: { allowDequantization: false }
${more}`;
}

/** A registry on a loopback port with acme/norm 1.0.0 and 1.1.0, and an empty project beside it. */
export async function scene() {
  const folder = newFolder();
  const people = {
    publisher: person("publisher", folder),
    alice: person("alice", folder),
    bob: person("bob", folder),
    officer: person("officer", folder),
  };
  const registry = new TestRegistry();
  const client = await registry.start();
  afterAll(() => registry.stop());
  const publish = (name: string, version: string, signer: Signer = people.publisher) =>
    registry.publish({ name, version, variants: { v3: { library: library(`${name} ${version}`) } } }, signer);
  await publish("acme/norm", "1.0.0");
  await publish("acme/norm", "1.1.0");
  const project = newProject(client.origin, policyText(people), { "acme/norm": "1.0.0" });
  const subjectOf = (name: string, version: string) => {
    const digest = registry.tagged.get(name)?.get(version) as Digest;
    const bytes = registry.manifests.get(digest)?.bytes as Uint8Array;
    return { bytes, mediaType: "application/vnd.oci.image.index.v1+json", digest, size: bytes.byteLength };
  };
  /** Attaches what `attest --output` wrote. */
  const attach = (file: string, name = "acme/norm", version = "1.0.0") =>
    registry.attach(readFileSync(file), subjectOf(name, version));
  return { folder, people, registry, client, publish, project, subjectOf, attach };
}

export function newProject(origin: string, policy: string, kernels: Readonly<Record<string, string>>): string {
  const project = newFolder();
  mkdirSync(join(project, "cache"));
  const manifest = { version: 1, registry: origin, variants: ["linux-x86_64-cpu-v3"], kernels };
  writeFileSync(join(project, "kernels.json"), JSON.stringify(manifest));
  writeFileSync(join(project, "kernels.policy.yaml"), policy);
  return project;
}

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** The code of the error, or null. */
  readonly code: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the command printed.
  readonly json: any;
}

/** Runs a command in a project, with its state in the project too. */
export async function run(
  project: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const { status, stdout, stderr } = await kernlock([...args, "--json"], {
    cwd: project,
    env: { XDG_STATE_HOME: join(project, "state"), ...env },
  });
  let json: Outcome["json"] = null;
  try {
    json = JSON.parse(stdout);
  } catch {
    // Said in `stdout`.
  }
  return { status, stdout, stderr, json, code: json?.error?.code ?? null };
}
