import { type Role, roles } from "@kernlock/registry-server";
import { Command, Option } from "commander";
import { collect, command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { table } from "../../output.ts";
import { type DataFlags, withAdmin, withData } from "./data.ts";

export function memberCommand(): Command {
  const add = command<
    DataFlags & { namespace: string; role: Role; account?: string; issuer?: string; claim?: string[]; label?: string }
  >(
    "add",
    "give a person, or everybody who has a claim, a role on the web pages",
    (target) =>
      withData(target)
        .requiredOption("--namespace <name>", "the namespace ('*': all of them)")
        .addOption(new Option("--role <role>", "what it may do").choices([...roles]).default("reader"))
        .option("--account <name>", "an account of this registry")
        .option("--issuer <url>", "`iss` of the identity, as the issuer's tokens have it")
        .option(
          "--claim <name=value>",
          "a claim that must be exactly so, such as groups=kernels (again for more)",
          collect,
        )
        .option("--label <text>", "who it is"),
    async ({ output, options }) => {
      const { account, issuer, claim = [] } = options;
      if ((account === undefined) === (issuer === undefined)) usage("Name either --account or --issuer.");
      const claims = account === undefined ? Object.fromEntries(claim.map(pair)) : { sub: account };
      const made = await withAdmin(options, (admin) =>
        admin.addMember({
          namespace: options.namespace,
          role: options.role,
          issuer: issuer ?? "local",
          claims,
          ...(options.label === undefined ? {} : { label: options.label }),
        }),
      );
      output.result(made, () => `${made.id}\n`);
      return 0;
    },
  );
  const list = command<DataFlags & { namespace: string }>(
    "list",
    "list who has a role",
    (target) => withData(target).requiredOption("--namespace <name>", "the namespace ('*': those of all)"),
    async ({ output, options }) => {
      const all = await withAdmin(options, (admin) => admin.listMembers(options.namespace));
      output.result(all, () =>
        table(all.map(({ id, role, issuer, claims, label }) => [id, role, issuer, JSON.stringify(claims), label])),
      );
      return 0;
    },
  );
  const remove = command<DataFlags>(
    "remove <id>",
    "take a role away, from the next request on",
    withData,
    async ({ output, options, args }) => {
      const removed = await withAdmin(options, (admin) => admin.removeMember(args[0] ?? ""));
      output.result({ removed }, () => (removed ? "removed\n" : "there is no such member\n"));
      return removed ? 0 : 1;
    },
  );
  return new Command("member")
    .description("who may do what on the web pages")
    .addCommand(add)
    .addCommand(list)
    .addCommand(remove);
}

export function accountCommand(): Command {
  const create = command<DataFlags & { namespace: string; role: Role; passwordStdin?: boolean }>(
    "create <name>",
    "make an account of this registry; prints a code that sets its password once, within a day",
    (target) =>
      withData(target)
        .option("--namespace <name>", "where it has its role", "*")
        .addOption(new Option("--role <role>", "what it may do").choices([...roles]).default("admin"))
        .option("--password-stdin", "read its password from stdin instead"),
    async ({ output, options, args }) => {
      const password = options.passwordStdin === true ? await passwordFromStdin() : undefined;
      const { name, setupCode } = await withAdmin(options, (admin) =>
        admin.createAccount({
          name: args[0] ?? "",
          namespace: options.namespace,
          role: options.role,
          ...(password === undefined ? {} : { password }),
        }),
      );
      output.result({ name, setup_code: setupCode }, () => setupText(name, setupCode));
      return 0;
    },
  );
  const reset = command<DataFlags & { passwordStdin?: boolean }>(
    "reset <name>",
    "give an account another password, or a new setup code",
    (target) => withData(target).option("--password-stdin", "read the password from stdin; its sessions end"),
    async ({ output, options, args }) => {
      const name = args[0] ?? "";
      const password = options.passwordStdin === true ? await passwordFromStdin() : undefined;
      const { setupCode } = await withAdmin(options, (admin) =>
        admin.resetAccount({ name, ...(password === undefined ? {} : { password }) }),
      );
      output.result({ name, setup_code: setupCode }, () => setupText(name, setupCode));
      return 0;
    },
  );
  const list = command<DataFlags>("list", "list accounts", withData, async ({ output, options }) => {
    const all = await withAdmin(options, (admin) => admin.listAccounts());
    output.result(
      all.map(({ name, ready, createdAt }) => ({ name, ready, created_at: createdAt })),
      () => table(all.map(({ name, ready, createdAt }) => [name, ready ? "ready" : "not set up", createdAt])),
    );
    return 0;
  });
  const remove = command<DataFlags>(
    "remove <name>",
    "remove an account with its roles; its sessions end",
    withData,
    async ({ output, options, args }) => {
      const removed = await withAdmin(options, (admin) => admin.removeAccount(args[0] ?? ""));
      output.result({ removed }, () => (removed ? "removed\n" : "there is no such account\n"));
      return removed ? 0 : 1;
    },
  );
  return new Command("account")
    .description("accounts of this registry, for its web pages")
    .addCommand(create)
    .addCommand(reset)
    .addCommand(list)
    .addCommand(remove);
}

function setupText(name: string, code: string | null): string {
  return code === null
    ? `account ${name} has its password\n`
    : `${code}\naccount ${name}: set the password with this code at <origin>/signin/setup, once and within a day\n`;
}

function pair(text: string): [string, string] {
  const at = text.indexOf("=");
  return at < 1 ? usage(`--claim takes name=value, not "${text}".`) : [text.slice(0, at), text.slice(at + 1)];
}

/** One line; a command line can be read by others. */
async function passwordFromStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
}
