/**
 * Docker's credential file (`config.json` in $DOCKER_CONFIG or ~/.docker), which oras, cosign, crane and skopeo read
 * too. Entries are `auths[host].auth`, base64 of `user:token`; where the file names a credential helper, the helper is
 * asked instead.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fail } from "@kernlock/kernels/format";

interface Config {
  auths?: Record<string, { auth?: string; [key: string]: unknown }>;
  credsStore?: string;
  credHelpers?: Record<string, string>;
  [key: string]: unknown;
}

const user = "kernlock";

export function credentialFile(environment = process.env): string {
  return join(environment.DOCKER_CONFIG || join(homedir(), ".docker"), "config.json");
}

/** Returns where it was stored. KL_CLI_CREDENTIALS. */
export function storeToken(origin: string, token: string, file = credentialFile()): string {
  const config = readConfig(file);
  const host = hostOf(origin);
  const helper = helperFor(config, host);
  if (helper !== undefined) {
    ask(helper, "store", JSON.stringify({ ServerURL: host, Username: user, Secret: token }));
    return helper;
  }
  const auth = Buffer.from(`${user}:${token}`).toString("base64");
  writeConfig(file, { ...config, auths: { ...config.auths, [host]: { auth } } });
  return file;
}

/** False when there was none. */
export function removeToken(origin: string, file = credentialFile()): boolean {
  const config = readConfig(file);
  const host = hostOf(origin);
  const helper = helperFor(config, host);
  if (helper !== undefined) {
    if (tokenFor(origin, file) === undefined) return false;
    ask(helper, "erase", host);
    return true;
  }
  if (config.auths?.[host] === undefined) return false;
  const { [host]: _, ...auths } = config.auths;
  writeConfig(file, { ...config, auths });
  return true;
}

/** The token stored for a registry, if there is one. */
export function tokenFor(origin: string, file = credentialFile()): string | undefined {
  const config = readConfig(file);
  const host = hostOf(origin);
  const helper = helperFor(config, host);
  if (helper !== undefined) {
    const answer = spawnSync(helper, ["get"], { input: host, encoding: "utf8" });
    if (answer.status !== 0) return undefined;
    return (JSON.parse(answer.stdout) as { Secret?: string }).Secret;
  }
  const auth = config.auths?.[host]?.auth;
  if (typeof auth !== "string") return undefined;
  const text = Buffer.from(auth, "base64").toString("utf8");
  return text.slice(text.indexOf(":") + 1);
}

function hostOf(origin: string): string {
  return new URL(origin).host;
}

function helperFor(config: Config, host: string): string | undefined {
  const name = config.credHelpers?.[host] ?? config.credsStore;
  return name === undefined || name === "" ? undefined : `docker-credential-${name}`;
}

function ask(helper: string, verb: "store" | "erase", input: string): void {
  const answer = spawnSync(helper, [verb], { input, encoding: "utf8" });
  if (answer.status === 0) return;
  fail("KL_CLI_CREDENTIALS", `The credential helper ${helper} refused.`, {
    remedy: "Check that it is installed and unlocked.",
  });
}

function readConfig(file: string): Config {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    return unreadable(file);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Config;
  } catch {
    // Said below.
  }
  return unreadable(file);
}

function unreadable(file: string): never {
  return fail("KL_CLI_CREDENTIALS", `The credential file ${file} cannot be read.`, {
    remedy: "Repair it, or name another folder with DOCKER_CONFIG.",
  });
}

/** Whole or not at all, and for its owner alone. */
function writeConfig(file: string, config: Config): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const next = `${file}.${process.pid}.new`;
  writeFileSync(next, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600, flush: true });
  chmodSync(next, 0o600);
  renameSync(next, file);
}
