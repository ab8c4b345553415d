/** `npm run quickstart`: the whole product once, from sources to an answer, and three refusals. */
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildPackages, kernlock, makeProject, makeWorkshop, publishPackages, root, startRegistry } from "./project.ts";

const started = Date.now();
const project = join(root, "quickstart");
const model = join(root, "models", "dictionary");

function step(title: string): void {
  console.log(`\n== ${title}  [${((Date.now() - started) / 1000).toFixed(1)} s]`);
}

step("Make publisher keys, a policy that trusts them, and a registry with a namespace");
const workshop = await makeWorkshop(join(root, ".build", "quickstart"));
console.log(`policy  ${join("quickstart", "kernels.policy.yaml")}`);

step("Build the CPU variants of the five packages");
await buildPackages(workshop, (line) => console.log(line));

step("Start the registry, sign and publish");
const registry = await startRegistry(workshop.registryData);
console.log(`registry on ${registry.origin}`);
try {
  await publishPackages(workshop, registry.origin, (line) => console.log(line));

  step("Write kernels.lock, fetch what it pins, verify it");
  process.stdout.write(await makeProject(project, readFileSync(workshop.policy, "utf8"), registry.origin));
  await must(["verify", "--frozen"]);

  step("Ask the dictionary model, with verified kernels only");
  await must([
    "generate",
    "--model",
    model,
    "--chat",
    "What is a harbor?",
    "--reasoning",
    "medium",
    "--greedy",
    "--record",
  ]);

  step("One flipped byte is refused: in the cache");
  const victim = payloadBlob();
  await onCopy(async (copy) => {
    flip(join(copy, "cache", "blobs", "sha256", victim));
    await refused(["generate", "--model", model, "--chat", "What is a harbor?", "--greedy"], copy, "KL_CACHE_DIGEST");
  });

  step("One flipped byte is refused: in the registry");
  const stored = join(workshop.registryData, "blobs", "sha256", victim);
  const original = readFileSync(stored);
  await onCopy(async (copy) => {
    rmSync(join(copy, "cache", "blobs", "sha256", victim));
    flip(stored);
    await refused(["fetch"], copy, "KL_OCI_DIGEST_MISMATCH");
    replace(stored, original);
  });

  step("One changed digit is refused: in a digest of the lock");
  await onCopy(async (copy) => {
    const lock = join(copy, "kernels.lock");
    const text = readFileSync(lock, "utf8");
    const changed = `${victim[0] === "0" ? "1" : "0"}${victim.slice(1)}`;
    writeFileSync(lock, text.replaceAll(`sha256:${victim}`, `sha256:${changed}`));
    await refused(["verify", "--frozen"], copy, null);
  });
} finally {
  await registry.stop();
}

step("Done");
console.log(`The project is in quickstart/; no registry is needed to use it:
  cd quickstart
  npx kernlock chat --model ../models/dictionary
  npx kernlock plan --model ../models/dictionary
To see the packages in a browser, serve the registry again from the repository's root:
  npx kernlock registry serve --data .build/quickstart/registry --port ${registry.port}`);

async function must(args: readonly string[]): Promise<void> {
  console.log(
    `$ kernlock ${args.map((arg) => (arg === model ? "../models/dictionary" : /\s|\?/.test(arg) ? `"${arg}"` : arg)).join(" ")}`,
  );
  const { status } = await kernlock(args, { cwd: project, show: true });
  if (status !== 0) throw new Error(`kernlock ${args[0]} ended with ${status}`);
}

/** The command must refuse, and with this code; otherwise the quickstart fails. */
async function refused(args: readonly string[], cwd: string, code: string | null): Promise<void> {
  const { status, stdout } = await kernlock([...args, "--json"], { cwd });
  const error = (JSON.parse(stdout) as { error?: { code: string; message: string } }).error;
  if (status === 0 || error === undefined || (code !== null && error.code !== code))
    throw new Error(`kernlock ${args[0]} should have refused with ${code}: ${status} ${stdout}`);
  console.log(`$ kernlock ${args[0]}\nrefused: [${error.code}] ${error.message}`);
}

async function onCopy(use: (copy: string) => Promise<void>): Promise<void> {
  const copy = mkdtempSync(join(tmpdir(), "kernlock-quickstart-"));
  try {
    cpSync(project, copy, { recursive: true });
    await use(copy);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** The shared object of the attention kernel: any byte of it is code that would run. */
function payloadBlob(): string {
  const lock = JSON.parse(readFileSync(join(project, "kernels.lock"), "utf8")) as {
    kernels: Record<string, { variants: { files: { kind: string; digest: string }[] }[] }>;
  };
  const file = lock.kernels["kernlock/fa3-sinks"]?.variants[0]?.files.find(({ kind }) => kind === "shared-object");
  if (file === undefined) throw new Error("the lock pins no shared object of kernlock/fa3-sinks");
  return file.digest.slice("sha256:".length);
}

function flip(path: string): void {
  const bytes = readFileSync(path);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  replace(path, bytes);
}

function replace(path: string, bytes: Uint8Array): void {
  const { mode } = statSync(path);
  writeFileSync(`${path}.new`, bytes, { mode });
  renameSync(`${path}.new`, path);
}
