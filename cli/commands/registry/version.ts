import { Command } from "commander";
import { command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { type DataFlags, withAdmin, withData } from "./data.ts";

const states = {
  yank: { state: "yanked", summary: "offer a version to nobody new; those who pin it still get it" },
  quarantine: { state: "quarantined", summary: "hand a version out to nobody" },
  restore: { state: "ok", summary: "take a yank or a quarantine back" },
} as const;

export function versionCommand(): Command {
  const root = new Command("version").description("yank and quarantine versions");
  for (const [name, { state, summary }] of Object.entries(states)) {
    root.addCommand(
      command<DataFlags & { reason?: string }>(
        `${name} <name@version>`,
        summary,
        (target) => withData(target).option("--reason <text>", "shown to everybody"),
        async ({ output, options, args }) => {
          const [repository = "", version = ""] = (args[0] ?? "").split("@");
          if (version === "") usage(`Name a version as namespace/name@version, not "${args[0]}".`);
          await withAdmin(options, (admin) =>
            admin.setVersionState({
              repository,
              version,
              state,
              ...(options.reason === undefined ? {} : { reason: options.reason }),
            }),
          );
          output.result({ name: repository, version, state }, () => `${repository} ${version}: ${state}\n`);
          return 0;
        },
      ),
    );
  }
  return root;
}
