import type { Command } from "commander";
import { z } from "zod";
import { command, withProject } from "../command.ts";
import { table } from "../output.ts";
import type { ProjectOptions } from "../project.ts";
import { type RegistryFlags, registryOrigin, withRegistry } from "../registry-access.ts";
import { apiGet } from "../registry-api.ts";

const answer = z.object({
  kernels: z.array(z.object({ name: z.string(), latest: z.string(), description: z.string(), license: z.string() })),
});

export function searchCommand(): Command {
  return command<RegistryFlags & ProjectOptions>(
    "search [text]",
    "find kernels in a registry",
    (target) => withRegistry(withProject(target)),
    async ({ output, options, args }) => {
      const query = new URLSearchParams({ q: args[0] ?? "" });
      const { kernels } = await apiGet(registryOrigin(options), `/api/v1/search?${query}`, answer, options);
      output.result(kernels, () =>
        kernels.length === 0
          ? "nothing found\n"
          : table(kernels.map((k) => [k.name, k.latest, k.license, k.description])),
      );
      return 0;
    },
  );
}
