/**
 * Makes a whole Kernlock project from this repository's sources: builds the five packages, starts a registry, publishes
 * them signed, and writes kernels.json, kernels.policy.yaml and kernels.lock with a filled cache. The quickstart shows
 * it; tests use it. Every step is a `kernlock` command, run as a user would run it.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { generateKeyPair } from "@kernlock/cli/keys";

export const root = resolve(import.meta.dirname, "..");
export const packages = ["transformer-core", "liger-rmsnorm", "fa3-sinks", "megablocks-moe", "mxfp4"] as const;
export const builder = "https://kernlock.example/builders/local";
export const repository = "https://git.kernlock.example/kernlock";

export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** Let the command write to this process's own terminal. */
  readonly show?: boolean;
}

/** Runs the `kernlock` command of this repository. */
export function kernlock(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, [join(root, "cli", "bin", "kernlock.cjs"), ...args], {
      cwd: options.cwd ?? root,
      env: { ...process.env, ...options.env },
      stdio: options.show === true ? ["ignore", "inherit", "inherit"] : ["pipe", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input ?? "");
    child.on("error", failed);
    child.on("close", (code) => done({ status: code ?? 1, stdout, stderr }));
  });
}

export async function kernlockOk(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await kernlock(args, options);
  if (ran.status !== 0)
    throw new Error(`kernlock ${args.join(" ")} ended with ${ran.status}\n${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

export interface RunningRegistry {
  readonly origin: string;
  readonly port: number;
  stop(): Promise<void>;
}

/** Starts `kernlock registry serve` and waits until it listens. */
export async function startRegistry(dataFolder: string, port = 0): Promise<RunningRegistry> {
  const child: ChildProcess = spawn(
    process.execPath,
    [
      join(root, "cli", "bin", "kernlock.cjs"),
      "registry",
      "serve",
      "--data",
      dataFolder,
      "--port",
      `${port}`,
      "--json",
    ],
    { cwd: root, stdio: ["ignore", "pipe", "inherit"] },
  );
  const ended = new Promise<void>((done) => child.on("close", () => done()));
  const listening = await new Promise<{ origin: string; port: number }>((done, failed) => {
    createInterface({ input: child.stdout! }).once("line", (line) => {
      const answer = JSON.parse(line) as { origin?: string; port?: number; error?: { message: string } };
      if (answer.origin === undefined || answer.port === undefined) failed(new Error(answer.error?.message ?? line));
      else done({ origin: answer.origin, port: answer.port });
    });
    child.on("error", failed);
    child.on("exit", (code) => failed(new Error(`the registry ended with ${code}`)));
  });
  return {
    ...listening,
    async stop() {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

export interface Workshop {
  /** Layouts, keys and the registry's data; nothing that a user of the project needs. */
  readonly folder: string;
  readonly layouts: string;
  readonly registryData: string;
  readonly privateKey: string;
  readonly policy: string;
  readonly token: string;
}

/** Keys, policy and a registry with one namespace that trusts them. */
export async function makeWorkshop(folder: string, options: { untestedVariants?: boolean } = {}): Promise<Workshop> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const keys = generateKeyPair("p256");
  const privateKey = join(folder, "publisher.pem");
  writeFileSync(privateKey, keys.privatePem, { mode: 0o600 });
  const policy = join(folder, "policy.yaml");
  writeFileSync(policy, policyText(keys.publicPem, options));
  const registryData = join(folder, "registry");
  await kernlockOk(["registry", "namespace", "create", "kernlock", "--data", registryData, "--policy", policy]);
  const made = await kernlockOk([
    ...["registry", "token", "create", "--data", registryData],
    ...["--namespace", "kernlock", "--scope", "write", "--label", "publisher", "--json"],
  ]);
  const { token } = JSON.parse(made) as { token: string };
  return { folder, layouts: join(folder, "layouts"), registryData, privateKey, policy, token };
}

/** Who may publish what, and whether MXFP4 experts may grow to bf16 when a user asks for it. */
export function policyText(publicPem: string, { untestedVariants = false } = {}): string {
  const pem = publicPem.trim().split("\n").join("\n      ");
  return `# Who this project trusts, and for what. Everything that no rule allows is refused.
version: 1
keys:
  publisher:
    pem: |
      ${pem}
rules:
  - match: "kernlock/*"
    publishers: [publisher]
    builders:
      - id: ${builder}
        keys: [publisher]
    sources:
      - repository: ${repository}
${untestedVariants ? "    untestedVariants: true\n" : ""}numerics:
  # Lets --allow-dequant turn MXFP4 experts into bf16. Without the flag nothing is converted.
  allowDequantization: true
`;
}

/** The variants that a project here is made of, unless said otherwise; those for GPUs want a CUDA toolchain. */
const cpuVariants = ["linux-x86_64-cpu-v3"] as const;
export const gpuVariants = ["linux-x86_64-cpu-v3", "linux-x86_64-cuda-sm90a"] as const;

/** Builds all packages, two at a time. */
export async function buildPackages(
  workshop: Pick<Workshop, "layouts">,
  onBuilt: (line: string) => void = () => {},
  variants: readonly string[] = cpuVariants,
): Promise<void> {
  const waiting = [...packages];
  const worker = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const out = join(workshop.layouts, name);
      const only = variants.flatMap((key) => ["--variant", key]);
      const args = ["build", `kernels/${name}`, "--out", out, "--builder", builder, ...only];
      onBuilt((await kernlockOk(args)).trimEnd());
    }
  };
  await Promise.all([worker(), worker()]);
}

export async function publishPackages(
  workshop: Workshop,
  origin: string,
  onPublished: (line: string) => void = () => {},
): Promise<void> {
  for (const name of packages) {
    const args = ["publish", join(workshop.layouts, name), "--registry", origin, "--key", workshop.privateKey];
    onPublished((await kernlockOk(args, { env: { KERNLOCK_TOKEN: workshop.token } })).trimEnd());
  }
}

/** A project folder: kernels.json, kernels.policy.yaml, kernels.lock and a filled cache. Nothing in it is absolute. */
export async function makeProject(
  folder: string,
  policy: string,
  origin: string,
  variants: readonly string[] = cpuVariants,
): Promise<string> {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "cache"), { recursive: true });
  const kernels = Object.fromEntries(packages.map((name) => [`kernlock/${name}`, "^0.1.0"]));
  const manifest = { version: 1, registry: origin, variants, kernels };
  writeFileSync(join(folder, "kernels.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(join(folder, "kernels.policy.yaml"), policy);
  return kernlockOk(["lock"], { cwd: folder });
}
