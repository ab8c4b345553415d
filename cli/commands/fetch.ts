import { existsSync } from "node:fs";
import { fetchLocked, openCache } from "@kernlock/loader";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { feedNotes, fetchFeeds, missingFeed } from "../feeds.ts";
import { nothingLocked, readLock, readManifest, readPolicy } from "../locked.ts";
import { bytesText } from "../output.ts";
import { findProject, type ProjectOptions } from "../project.ts";
import { type RegistryFlags, readText, registryClient, withRegistry } from "../registry-access.ts";

export function fetchCommand(): Command {
  return command<ProjectOptions & RegistryFlags>(
    "fetch",
    "bring every file that the lock pins into the cache",
    (target) => withRegistry(withProject(target)),
    async ({ output, options }) => {
      const project = findProject(options);
      const lock = readLock(project);
      const ca = options.ca === undefined ? undefined : readText(options.ca);
      const feeds = existsSync(project.policy) ? await fetchFeeds(readPolicy(project), { now: new Date(), ca }) : [];
      for (const line of feedNotes(feeds)) output.note(line);
      const registry = registryClient(options, options.registry ?? lock.registry.origin);
      try {
        const done = await fetchLocked({
          lock,
          manifest: readManifest(project),
          cache: openCache(project.cache),
          registry,
          onProgress: (p) => output.progress(`${p.doneFiles}/${p.totalFiles} ${bytesText(p.doneBytes)} ${p.what}`),
        });
        // The files are here by now; that a feed is not says what every load would say.
        const missing = missingFeed(feeds);
        if (missing) throw missing;
        output.result(
          {
            feeds: feeds.map(({ id, url, outcome, problem }) => ({ id, url, outcome, problem: problem?.code ?? null })),
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
