import type { NamespaceKind, Visibility } from "@kernlock/registry-server";
import { Command, Option } from "commander";
import { command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { table } from "../../output.ts";
import { type DataFlags, withAdmin, withData } from "./data.ts";
import { approvalCommand, exceptionCommand, feedCommand } from "./documents.ts";
import { readText } from "./files.ts";

const deletionOption = () =>
  new Option("--deletion <rule>", "whether artifacts may be deleted").choices(["never", "allowed"]);

const reviewOption = () =>
  new Option("--review <rule>", "whether a publish waits until somebody else approves it").choices([
    "none",
    "required",
  ]);

export function namespaceCommand(): Command {
  const create = command<
    DataFlags & {
      policy?: string;
      private?: boolean;
      kind: NamespaceKind;
      deletion?: "never" | "allowed";
      review?: "none" | "required";
    }
  >(
    "create <name>",
    "make a namespace; its policy says who may publish there",
    (target) =>
      withData(target)
        .option("--policy <file>", "trust policy that every publish must pass (needed for kernels)")
        .option("--private", "readable with a token only")
        .addOption(
          new Option("--kind <kind>", "kernels: versions never move; artifacts: plain OCI, tags move")
            .choices(["kernels", "artifacts"])
            .default("kernels"),
        )
        .addOption(deletionOption())
        .addOption(reviewOption()),
    async ({ output, options, args }) => {
      const visibility: Visibility = options.private === true ? "private" : "public";
      if (options.kind === "kernels" && options.policy === undefined) usage("A namespace of kernels needs --policy.");
      const made = await withAdmin(options, (admin) =>
        admin.createNamespace({
          name: args[0] ?? "",
          visibility,
          kind: options.kind,
          ...(options.policy === undefined ? {} : { policy: readText(options.policy) }),
          ...(options.deletion === undefined ? {} : { deletion: options.deletion }),
          ...(options.review === undefined ? {} : { review: options.review }),
        }),
      );
      output.result(
        { name: made.name, visibility: made.visibility, kind: made.kind, deletion: made.deletion, review: made.review },
        () => `namespace ${made.name} (${made.visibility}, ${made.kind})\n`,
      );
      return 0;
    },
  );
  const policy = command<DataFlags & { policy: string }>(
    "policy <name>",
    "replace a namespace's policy; versions that were published stay",
    (target) => withData(target).requiredOption("--policy <file>", "the new policy"),
    async ({ output, options, args }) => {
      const made = await withAdmin(options, (admin) =>
        admin.setPolicy({ namespace: args[0] ?? "", policy: readText(options.policy) }),
      );
      output.result({ name: made.name }, () => `namespace ${made.name} has a new policy\n`);
      return 0;
    },
  );
  const set = command<
    DataFlags & { visibility?: Visibility; deletion?: "never" | "allowed"; review?: "none" | "required" }
  >(
    "set <name>",
    "change who may read a namespace, whether its artifacts may be deleted, or whether publishes wait for a review",
    (target) =>
      withData(target)
        .addOption(new Option("--visibility <who>", "who may read").choices(["public", "private"]))
        .addOption(deletionOption())
        .addOption(reviewOption()),
    async ({ output, options, args }) => {
      const made = await withAdmin(options, (admin) =>
        admin.updateNamespace({
          namespace: args[0] ?? "",
          ...(options.visibility === undefined ? {} : { visibility: options.visibility }),
          ...(options.deletion === undefined ? {} : { deletion: options.deletion }),
          ...(options.review === undefined ? {} : { review: options.review }),
        }),
      );
      output.result(
        { name: made.name, visibility: made.visibility, deletion: made.deletion, review: made.review },
        () => `namespace ${made.name}: ${made.visibility}, deletion ${made.deletion}, review ${made.review}\n`,
      );
      return 0;
    },
  );
  const list = command<DataFlags>("list", "list namespaces", withData, async ({ output, options }) => {
    const all = await withAdmin(options, (admin) => admin.listNamespaces());
    output.result(
      all.map(({ name, visibility, kind, deletion, review, createdAt }) => ({
        name,
        visibility,
        kind,
        deletion,
        review,
        created_at: createdAt,
      })),
      () => table(all.map(({ name, visibility, kind, createdAt }) => [name, visibility, kind, createdAt])),
    );
    return 0;
  });
  return new Command("namespace")
    .description("namespaces and who they trust")
    .addCommand(create)
    .addCommand(policy)
    .addCommand(set)
    .addCommand(list)
    .addCommand(feedCommand())
    .addCommand(exceptionCommand())
    .addCommand(approvalCommand());
}
