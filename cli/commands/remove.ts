import { writeFileSync } from "node:fs";
import { fail } from "@kernlock/kernels/format";
import { formatManifest, parseManifest } from "@kernlock/loader";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { findProject, type ProjectOptions, readProjectFile } from "../project.ts";

export function removeCommand(): Command {
  return command<ProjectOptions>(
    "remove <kernel...>",
    "take kernels out of kernels.json; `kernlock lock` then takes them out of the lock",
    (target) => withProject(target),
    async ({ output, options, args }) => {
      const project = findProject(options);
      const manifest = parseManifest(readProjectFile(project.manifest, "Write a kernels.json (docs/lock.md)."));
      const kernels = { ...manifest.kernels };
      for (const name of args) {
        if (!Object.hasOwn(kernels, name)) {
          fail("KL_MANIFEST_KERNEL", `kernels.json has no kernel ${name}.`, { remedy: "Name one that it has." });
        }
        delete kernels[name];
      }
      writeFileSync(project.manifest, formatManifest({ ...manifest, kernels }));
      output.result({ manifest: project.manifest, removed: args }, () =>
        [...args.map((name) => `removed ${name}\n`), "run `kernlock lock` to lock\n"].join(""),
      );
      return 0;
    },
  );
}
