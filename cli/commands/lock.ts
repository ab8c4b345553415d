import { existsSync, renameSync, writeFileSync } from "node:fs";
import { type Change, createLock, fetchLocked, openCache, parseLock, parseManifest } from "@kernlock/loader";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { exit } from "../errors.ts";
import { readPolicy } from "../locked.ts";
import { bytesText } from "../output.ts";
import { findProject, type ProjectOptions, readProjectFile } from "../project.ts";
import { type RegistryFlags, registryClient, withRegistry } from "../registry-access.ts";

interface Options extends ProjectOptions, RegistryFlags {
  readonly update?: boolean;
}

export function lockCommand(): Command {
  return command<Options>(
    "lock",
    "resolve kernels.json, verify and judge what it names, and write kernels.lock",
    (target) =>
      withRegistry(withProject(target)).option("--update", "take the newest versions that satisfy the ranges"),
    async ({ output, options }) => {
      const project = findProject(options);
      const manifest = parseManifest(readProjectFile(project.manifest, "Write a kernels.json (docs/lock.md)."));
      const previous = existsSync(project.lock) ? parseLock(readProjectFile(project.lock, "")) : undefined;
      const registry = registryClient(options, manifest.registry);
      const cache = openCache(project.cache);
      try {
        const made = await createLock({
          manifest,
          policy: readPolicy(project),
          registry,
          cache,
          now: new Date(),
          ...(previous === undefined ? {} : { previous }),
          update: options.update === true,
        });
        const fetched = await fetchLocked({
          lock: made.lock,
          cache,
          registry,
          onProgress: (p) => output.progress(`fetch ${p.doneFiles}/${p.totalFiles} ${p.what}`),
        });
        // Written beside the old one and renamed: a lock is whole or untouched.
        writeFileSync(`${project.lock}.new`, made.text);
        renameSync(`${project.lock}.new`, project.lock);
        const { changes, trustChanged, missingVariants } = made;
        output.result(
          { lock: project.lock, changes, trust_changed: trustChanged, missing_variants: missingVariants },
          () =>
            [
              `${project.lock}: ${Object.keys(made.lock.kernels).length} kernels, ${fetched.fetchedFiles} files fetched (${bytesText(fetched.fetchedBytes)})`,
              ...changes.map(changeText),
              ...missingVariants.map((text) => `  not offered: ${text}`),
              "",
            ].join("\n"),
        );
        return trustChanged && previous !== undefined ? exit.trustChanged : exit.done;
      } finally {
        await registry.close();
      }
    },
  );
}

function changeText(change: Change): string {
  const values = `${JSON.stringify(change.before)} -> ${JSON.stringify(change.after)}`;
  return `  ${change.trust ? "TRUST CHANGED " : ""}${change.kernel ?? "lock"}: ${change.what}${change.what === "added" || change.what === "removed" ? "" : ` ${values}`}`;
}
