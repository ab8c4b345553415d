import { writeFileSync } from "node:fs";
import { fail, isPackageName, isVersion } from "@kernlock/kernels/format";
import { formatManifest, parseManifest } from "@kernlock/loader";
import type { Command } from "commander";
import semver from "semver";
import { command, withProject } from "../command.ts";
import { usage } from "../errors.ts";
import { findProject, type ProjectOptions, readProjectFile } from "../project.ts";
import { type RegistryFlags, registryClient, withRegistry } from "../registry-access.ts";
import { versionNotes } from "../version-states.ts";

export function addCommand(): Command {
  return command<ProjectOptions & RegistryFlags>(
    "add <kernel...>",
    "add kernels (namespace/name, or namespace/name@range) to kernels.json; `kernlock lock` then locks them",
    (target) => withRegistry(withProject(target)),
    async ({ output, options, args }) => {
      const project = findProject(options);
      let manifest = parseManifest(readProjectFile(project.manifest, "Write a kernels.json (docs/lock.md)."));
      const registry = registryClient(options, manifest.registry);
      const added: Record<string, string> = {};
      try {
        for (const arg of args) {
          const [name = "", range] = arg.split("@");
          if (!isPackageName(name)) usage(`"${name}" is not a package name.`);
          if (range !== undefined && (range === "" || semver.validRange(range) === null))
            usage(`"${range}" is not a semver range.`);
          const notes = await versionNotes(manifest.registry, name, options);
          const versions = (await registry.tags(name)).filter((version) => isVersion(version) && !notes.has(version));
          const newest = semver.maxSatisfying(versions, range ?? "*");
          if (newest === null) {
            fail("KL_LOCK_NO_VERSION", `${manifest.registry} has no version of ${name} in ${range ?? "*"}.`, {
              remedy: "Check the name and range with `kernlock info`.",
            });
          }
          added[name] = range ?? `^${newest}`;
        }
      } finally {
        await registry.close();
      }
      manifest = { ...manifest, kernels: { ...manifest.kernels, ...added } };
      writeFileSync(project.manifest, formatManifest(manifest));
      output.result({ manifest: project.manifest, added }, () =>
        [
          ...Object.entries(added).map(([name, range]) => `added ${name} ${range}\n`),
          "run `kernlock lock` to lock\n",
        ].join(""),
      );
      return 0;
    },
  );
}
