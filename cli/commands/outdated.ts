import { isVersion } from "@kernlock/kernels/format";
import { parseManifest } from "@kernlock/loader";
import type { Command } from "commander";
import semver from "semver";
import { command, withProject } from "../command.ts";
import { readAnyLock } from "../locked.ts";
import { table } from "../output.ts";
import { findProject, type ProjectOptions, readProjectFile } from "../project.ts";
import { type RegistryFlags, registryClient, withRegistry } from "../registry-access.ts";
import { noteText, type VersionNote, versionNotes } from "../version-states.ts";

function withdrawnText(name: string, locked: string, instead: string | null, note: VersionNote): string {
  const how = instead === null ? "no version in its range is offered" : `\`kernlock lock --update\` takes ${instead}`;
  return `${name} ${locked} ${noteText(note)}; ${how}\n`;
}

export function outdatedCommand(): Command {
  return command<ProjectOptions & RegistryFlags>(
    "outdated",
    "which locked kernels have newer versions, inside their ranges and beyond, or were withdrawn; changes nothing",
    (target) => withRegistry(withProject(target)),
    async ({ output, options }) => {
      const project = findProject(options);
      const manifest = parseManifest(readProjectFile(project.manifest, "Write a kernels.json (docs/lock.md)."));
      const lock = readAnyLock(project);
      const registry = registryClient(options, manifest.registry);
      try {
        const kernels = [];
        for (const [name, range] of Object.entries(manifest.kernels)) {
          const notes = await versionNotes(manifest.registry, name, options);
          const versions = (await registry.tags(name)).filter((version) => isVersion(version) && !notes.has(version));
          const locked = lock.kernels[name]?.version ?? null;
          const note = locked === null ? undefined : notes.get(locked);
          kernels.push({
            name,
            locked,
            in_range: semver.maxSatisfying(versions, range),
            newest: semver.maxSatisfying(versions, "*"),
            ...(note === undefined ? {} : { withdrawn: note }),
          });
        }
        const outdated = kernels.filter(({ locked, in_range, newest }) => locked !== in_range || locked !== newest);
        output.result({ kernels: outdated }, () =>
          outdated.length === 0
            ? "every kernel is locked at its newest version\n"
            : [
                ...outdated.flatMap(({ name, locked, in_range, withdrawn }) =>
                  withdrawn === undefined ? [] : [withdrawnText(name, locked ?? "", in_range, withdrawn)],
                ),
                table([
                  ["kernel", "locked", "in range", "newest"],
                  ...outdated.map((k) => [k.name, k.locked ?? "-", k.in_range ?? "-", k.newest ?? "-"]),
                ]),
              ].join(""),
        );
      } finally {
        await registry.close();
      }
      return 0;
    },
  );
}
