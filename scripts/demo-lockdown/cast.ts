/** Who plays: people with their keys, a registry with one published kernel, policies, projects. */
import { createHash, createPublicKey } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateKeyPair } from "@kernlock/cli/keys";
import { builder, kernlockOk, makeWorkshop, repository, startRegistry } from "../project.ts";
import type { Stage } from "./stage.ts";

export const kernel = "kernlock/liger-rmsnorm";
const cpu = "linux-x86_64-cpu-v3";

export interface Key {
  readonly file: string;
  readonly pem: string;
  /** As policies, locks and revocations name it. */
  readonly signer: string;
}

const people = ["alice-laptop", "alice-token", "bob", "security", "officer"] as const;
export type Keys = Readonly<Record<(typeof people)[number] | "publisher", Key>>;

export interface Cast {
  readonly keys: Keys;
  readonly origin: string;
  /** For whoever may write to the registry. */
  readonly token: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** Keys for everybody, and a registry that has the kernel, signed by its publisher. */
export async function gather({ folder }: Stage): Promise<Cast> {
  const workshop = await makeWorkshop(join(folder, "workshop"));
  const pem = createPublicKey(readFileSync(workshop.privateKey)).export({ type: "spki", format: "pem" }) as string;
  const keys = {
    publisher: keyOf(workshop.privateKey, pem),
    ...(Object.fromEntries(people.map((name) => [name, makeKey(folder, name)])) as Omit<Keys, "publisher">),
  };
  const layout = join(workshop.layouts, "liger-rmsnorm");
  await kernlockOk(["build", "kernels/liger-rmsnorm", "--out", layout, "--builder", builder, "--variant", cpu]);
  const registry = await startRegistry(workshop.registryData);
  const token = { KERNLOCK_TOKEN: workshop.token };
  try {
    await kernlockOk(["publish", layout, "--registry", registry.origin, "--key", workshop.privateKey], { env: token });
  } catch (error) {
    await registry.stop();
    throw error;
  }
  return { keys, origin: registry.origin, token, stop: () => registry.stop() };
}

function makeKey(folder: string, name: string): Key {
  const { privatePem, publicPem } = generateKeyPair("p256");
  const file = join(folder, `${name}.pem`);
  writeFileSync(file, privatePem, { mode: 0o600 });
  return keyOf(file, publicPem);
}

function keyOf(file: string, pem: string): Key {
  const der = createPublicKey(pem).export({ type: "spki", format: "der" });
  return { file, pem, signer: `sha256:${createHash("sha256").update(der).digest("hex")}` };
}

export const auditRule = "require: { audit: { by: [alice, bob], criteria: [reviewed], atLeast: 2 } }";

/** Two reviews by different people, and fresh feeds of the security team. */
export function strictPolicy(keys: Keys): string {
  return `${loosePolicy(keys, auditRule)}advisories: [{ id: advisories, file: advisories.json, by: [security], maxAgeDays: 7 }]
revocations: [{ id: revocations, file: revocations.json, by: [security], maxAgeDays: 7 }]
exceptions: { by: [security, officer], atLeast: 2, maxDays: 30 }
breakGlass: { by: [officer], maxDays: 3 }
`;
}

/** The publisher's signature, and what `rule` adds. */
export function loosePolicy(keys: Keys, rule = ""): string {
  const pems = Object.entries(keys).map(
    ([name, { pem }]) => `  ${name}:\n    pem: |\n${pem.trimEnd().replaceAll(/^/gm, "      ")}\n`,
  );
  return `version: 1
keys:
${pems.join("")}principals:
  alice: { keys: [alice-laptop, alice-token] }
criteria:
  reviewed: { description: "Read line by line." }
rules:
  - match: "kernlock/*"
    publishers: [publisher]
    builders: [{ id: "${builder}", keys: [publisher] }]
    sources: [{ repository: "${repository}" }]
${rule === "" ? "" : `    ${rule}\n`}numerics: { allowDequantization: false }
`;
}

export function makeProject(folder: string, origin: string, policy: string): string {
  mkdirSync(join(folder, "cache"), { recursive: true });
  const manifest = { version: 1, registry: origin, variants: [cpu], kernels: { [kernel]: "^0.1.0" } };
  writeFileSync(join(folder, "kernels.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(join(folder, "kernels.policy.yaml"), policy);
  return folder;
}

export const advisory = {
  id: "KSA-2026-0001",
  modified: "2026-11-01T00:00:00Z",
  summary: "Wrong sums for rows longer than 4096",
  affected: [
    {
      package: { ecosystem: "Kernlock", name: kernel },
      ranges: [{ type: "SEMVER", events: [{ introduced: "0" }, { fixed: "0.2.0" }] }],
    },
  ],
};
