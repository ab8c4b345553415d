/** Versions that wait for a second person. */
import { Command } from "commander";
import { z } from "zod";
import { command } from "../../command.ts";
import { table } from "../../output.ts";
import type { RegistryFlags } from "../../registry-access.ts";
import { apiOf, versionIn, withServer } from "./place.ts";

const review = z.object({
  name: z.string(),
  version: z.string(),
  digest: z.string(),
  state: z.string(),
  asked_at: z.string(),
  asked_by: z.string(),
  decided_at: z.string().nullable(),
  decided_by: z.string().nullable(),
  reason: z.string().nullable(),
  approvable: z.boolean().optional(),
});
const reviews = z.object({ waiting: z.array(review), decided: z.array(review) });

export function reviewCommand(): Command {
  const list = command<RegistryFlags & { decided?: boolean }>(
    "list",
    "what waits in the namespaces of which the token is a member",
    (target) => withServer(target).option("--decided", "what was decided last, too"),
    async ({ output, options }) => {
      const { waiting, decided } = await apiOf(options).get("/api/v1/reviews", reviews);
      const shown = options.decided === true ? [...waiting, ...decided] : waiting;
      output.result(shown, () =>
        shown.length === 0
          ? "nothing waits\n"
          : table(
              shown.map((row) => [
                `${row.name}@${row.version}`,
                row.state,
                row.asked_by,
                row.asked_at,
                row.state === "staged" ? (row.approvable === true ? "you can approve it" : "-") : (row.reason ?? "-"),
              ]),
            ),
      );
      return 0;
    },
  );
  const decision = (name: "approve" | "reject", summary: string) =>
    command<RegistryFlags & { reason?: string }>(
      `${name} <name@version>`,
      summary,
      (target) =>
        name === "reject"
          ? withServer(target).requiredOption("--reason <text>", "why; its members see it")
          : withServer(target).option("--reason <text>", "a word on it"),
      async ({ output, options, args }) => {
        const { repository, version } = versionIn(args[0]);
        const body = { decision: name, ...(options.reason === undefined ? {} : { reason: options.reason }) };
        const path = `/api/v1/kernels/${repository}/${encodeURIComponent(version)}/review`;
        const made = await apiOf(options).send("PUT", path, body, review);
        output.result(made, () => `${made.name} ${made.version}: ${made.state}\n`);
        return 0;
      },
    );
  return new Command("review")
    .description("versions that somebody else than their publisher has to approve")
    .addCommand(list)
    .addCommand(decision("approve", "publish what waits; judged again, and never by who published it"))
    .addCommand(decision("reject", "let it never be published; its number is not used again"));
}
