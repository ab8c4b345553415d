import { type IssuerKind, type Role, roles } from "@kernlock/registry-server";
import { Command, Option } from "commander";
import { collect, command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { table } from "../../output.ts";
import { type DataFlags, withAdmin, withData } from "./data.ts";

/** Older words for two of the roles. */
const scopes: Readonly<Record<string, Role>> = { read: "reader", write: "publisher" };

export function tokenCommand(): Command {
  const create = command<
    DataFlags & { namespace: string; role?: Role; scope?: string; package?: string; label?: string; expires?: string }
  >(
    "create",
    "make a token; it is shown once and stored as a hash",
    (target) =>
      withData(target)
        .requiredOption("--namespace <name>", "the namespace it opens ('*': all)")
        .addOption(new Option("--role <role>", "what it may do (default: reader)").choices(roles))
        .addOption(new Option("--scope <scope>").choices(Object.keys(scopes)).hideHelp())
        .option("--package <name>", "the only namespace/name it may write to")
        .option("--label <text>", "what it is for")
        .option("--expires <time>", "RFC 3339 time after which it is refused"),
    async ({ output, options }) => {
      const expiresAt = options.expires === undefined ? undefined : new Date(options.expires);
      if (expiresAt !== undefined && Number.isNaN(expiresAt.getTime()))
        usage(`--expires takes a time like 2030-01-31T12:00:00Z, not "${options.expires}".`);
      const made = await withAdmin(options, (admin) =>
        admin.createToken({
          namespace: options.namespace,
          role: options.role ?? scopes[options.scope ?? "read"] ?? "reader",
          ...(options.package === undefined ? {} : { package: options.package }),
          ...(options.label === undefined ? {} : { label: options.label }),
          ...(expiresAt === undefined ? {} : { expiresAt }),
        }),
      );
      output.result(
        { id: made.id, token: made.token, namespace: made.namespace, role: made.role, expires_at: made.expiresAt },
        () => `${made.token}\n`,
      );
      return 0;
    },
  );
  const list = command<DataFlags & { namespace: string }>(
    "list",
    "list a namespace's tokens, without their secrets",
    (target) => withData(target).requiredOption("--namespace <name>", "the namespace ('*': those for all)"),
    async ({ output, options }) => {
      const all = await withAdmin(options, (admin) => admin.listTokens(options.namespace));
      output.result(all, () =>
        table(
          all.map(({ id, role, label, createdAt, expiresAt }) => [id, role, label, createdAt, expiresAt ?? "never"]),
        ),
      );
      return 0;
    },
  );
  const revoke = command<DataFlags>(
    "revoke <id>",
    "revoke a token, from the next request on",
    withData,
    async ({ output, options, args }) => {
      const revoked = await withAdmin(options, (admin) => admin.revokeToken(args[0] ?? ""));
      output.result({ revoked }, () => (revoked ? "revoked\n" : "there is no such token\n"));
      return revoked ? 0 : 1;
    },
  );
  return new Command("token")
    .description("tokens for reading and writing")
    .addCommand(create)
    .addCommand(list)
    .addCommand(revoke);
}

const knownIssuers: Partial<Record<IssuerKind, string>> = {
  github: "https://token.actions.githubusercontent.com",
  gitlab: "https://gitlab.com",
};

export function publisherCommand(): Command {
  const add = command<
    DataFlags & {
      namespace: string;
      kind: IssuerKind;
      issuer?: string;
      claim: string[];
      package?: string;
      label?: string;
    }
  >(
    "add",
    "trust a CI system's identity to publish, without any stored token",
    (target) =>
      withData(target)
        .requiredOption("--namespace <name>", "the namespace it may publish to")
        .option("--package <name>", "the only namespace/name it may publish")
        .addOption(
          new Option("--kind <kind>", "whose claims they are")
            .choices(["github", "gitlab", "generic"])
            .default("generic"),
        )
        .option("--issuer <url>", "`iss` of its tokens (known for github and gitlab)")
        .requiredOption("--claim <name=value>", "a claim that must be exactly so (again for more)", collect)
        .option("--label <text>", "what it is"),
    async ({ output, options }) => {
      const issuer = options.issuer ?? knownIssuers[options.kind] ?? usage("Name the --issuer.");
      const claims = Object.fromEntries(
        options.claim.map((text) => {
          const at = text.indexOf("=");
          return at < 1 ? usage(`--claim takes name=value, not "${text}".`) : [text.slice(0, at), text.slice(at + 1)];
        }),
      );
      const made = await withAdmin(options, (admin) =>
        admin.addTrustedPublisher({
          namespace: options.namespace,
          kind: options.kind,
          issuer,
          claims,
          ...(options.package === undefined ? {} : { package: options.package }),
          ...(options.label === undefined ? {} : { label: options.label }),
        }),
      );
      output.result(made, () => `${made.id}\n`);
      return 0;
    },
  );
  const list = command<DataFlags & { namespace: string }>(
    "list",
    "list the identities that a namespace trusts",
    (target) => withData(target).requiredOption("--namespace <name>", "the namespace"),
    async ({ output, options }) => {
      const all = await withAdmin(options, (admin) => admin.listTrustedPublishers(options.namespace));
      output.result(all, () =>
        table(all.map((row) => [row.id, row.kind, row.issuer, row.package ?? "*", JSON.stringify(row.claims)])),
      );
      return 0;
    },
  );
  const remove = command<DataFlags>(
    "remove <id>",
    "trust an identity no more; tokens it got live on for at most 15 minutes",
    withData,
    async ({ output, options, args }) => {
      const removed = await withAdmin(options, (admin) => admin.removeTrustedPublisher(args[0] ?? ""));
      output.result({ removed }, () => (removed ? "removed\n" : "there is no such identity\n"));
      return removed ? 0 : 1;
    },
  );
  return new Command("publisher")
    .description("identities of CI systems that may publish")
    .addCommand(add)
    .addCommand(list)
    .addCommand(remove);
}
