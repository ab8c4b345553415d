import { Command } from "commander";
import { z } from "zod";
import { command } from "../../command.ts";
import { atPlace, type PlaceFlags, versionIn, withPlace } from "./place.ts";

const states = {
  yank: { state: "yanked", summary: "offer a version to nobody new; those who pin it still get it" },
  quarantine: { state: "quarantined", summary: "hand a version out to nobody" },
  restore: { state: "ok", summary: "take a yank or a quarantine back" },
  release: { state: "ok", summary: "the same as restore" },
} as const;
const answer = z.object({ name: z.string(), version: z.string(), state: z.string() });

export function versionCommand(): Command {
  const root = new Command("version").description("yank and quarantine versions");
  for (const [name, { state, summary }] of Object.entries(states)) {
    root.addCommand(
      command<PlaceFlags & { reason?: string }>(
        `${name} <name@version>`,
        summary,
        (target) => withPlace(target).option("--reason <text>", "shown to everybody"),
        async ({ output, options, args }) => {
          const { repository, version } = versionIn(args[0]);
          const change = { state, ...(options.reason === undefined ? {} : { reason: options.reason }) };
          await atPlace(options, {
            data: (admin) => admin.setVersionState({ repository, version, ...change }),
            async api(api) {
              const path = `/api/v1/kernels/${repository}/${encodeURIComponent(version)}/state`;
              await api.send("PUT", path, change, answer);
            },
          });
          output.result({ name: repository, version, state }, () => `${repository} ${version}: ${state}\n`);
          return 0;
        },
      ),
    );
  }
  return root;
}
