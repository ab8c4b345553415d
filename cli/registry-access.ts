import { readFileSync } from "node:fs";
import { RegistryClient } from "@kernlock/kernels/oci";
import { parseManifest } from "@kernlock/loader";
import type { Command } from "commander";
import { tokenFor } from "./credentials.ts";
import { usage } from "./errors.ts";
import { findProject, type ProjectOptions, readProjectFile } from "./project.ts";

export interface RegistryFlags {
  readonly registry?: string;
  readonly tokenFile?: string;
  readonly ca?: string;
  /** Longest wait for an answer, where it is not the usual one. */
  readonly timeoutMs?: number;
}

export function withRegistry(target: Command): Command {
  return target
    .option("--registry <url>", "origin of the registry (default: the one in kernels.json)")
    .option(
      "--token-file <file>",
      "file that holds the token (default: the variable KERNLOCK_TOKEN, else what login stored)",
    )
    .option("--ca <file>", "certificate authorities to trust (PEM), for private TLS");
}

/**
 * The token for a registry: of `--token-file`, of the variable KERNLOCK_TOKEN, or the one that `kernlock login` stored.
 * It never stands on a command line, where others could read it.
 */
export function registryToken(flags: RegistryFlags, origin: string): string | undefined {
  const given = flags.tokenFile === undefined ? process.env.KERNLOCK_TOKEN : readText(flags.tokenFile).trim();
  return given === undefined || given === "" ? tokenFor(origin) : given;
}

/** A client for the registry that the flags name. */
export function registryClient(flags: RegistryFlags, origin: string): RegistryClient {
  return new RegistryClient({
    origin,
    token: registryToken(flags, origin),
    ca: flags.ca === undefined ? undefined : readText(flags.ca),
  });
}

export function registryOrigin(flags: RegistryFlags & ProjectOptions): string {
  if (flags.registry !== undefined) return flags.registry.replace(/\/+$/, "");
  const project = findProject(flags);
  return parseManifest(readProjectFile(project.manifest, "Name a registry with --registry.")).registry;
}

export function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    return usage(`cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`);
  }
}
