import { existsSync } from "node:fs";
import { fetchLocked, openCache } from "@kernlock/loader";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { fetchFeeds } from "../feeds.ts";
import { nothingLocked, readLock, readManifest, readPolicy } from "../locked.ts";
import { bytesText } from "../output.ts";
import { findProject, type ProjectOptions } from "../project.ts";
import { type RegistryFlags, registryClient, withRegistry } from "../registry-access.ts";

export function fetchCommand(): Command {
  return command<ProjectOptions & RegistryFlags>(
    "fetch",
    "bring every file that the lock pins into the cache",
    (target) => withRegistry(withProject(target)),
    async ({ output, options }) => {
      const project = findProject(options);
      const lock = readLock(project);
      const feeds = existsSync(project.policy) ? await fetchFeeds(readPolicy(project)) : 0;
      const registry = registryClient(options, options.registry ?? lock.registry.origin);
      try {
        const done = await fetchLocked({
          lock,
          manifest: readManifest(project),
          cache: openCache(project.cache),
          registry,
          onProgress: (p) => output.progress(`${p.doneFiles}/${p.totalFiles} ${bytesText(p.doneBytes)} ${p.what}`),
        });
        output.result(
          {
            feeds,
            fetched_files: done.fetchedFiles,
            fetched_bytes: done.fetchedBytes,
            present_files: done.presentFiles,
          },
          () =>
            (Object.keys(lock.kernels).length === 0 ? `${nothingLocked}\n` : "") +
            `${done.fetchedFiles} files fetched (${bytesText(done.fetchedBytes)}), ${done.presentFiles} were there\n`,
        );
      } finally {
        await registry.close();
      }
      return 0;
    },
  );
}
