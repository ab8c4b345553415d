import { readFileSync } from "node:fs";
import { openAdmin, serve, type TokenScope, type Visibility } from "@kernlock/registry-server";
import { Command, Option } from "commander";
import { command } from "../command.ts";
import { usage } from "../errors.ts";
import { table } from "../output.ts";

const dataOption = (target: Command): Command =>
  target.requiredOption("--data <folder>", "folder of the registry's data");

export function registryCommand(): Command {
  return new Command("registry")
    .description("run and administer a registry")
    .addCommand(serveCommand())
    .addCommand(namespaceCommand())
    .addCommand(tokenCommand());
}

function serveCommand(): Command {
  return command<{ data: string; host: string; port: string; origin?: string; policy?: string; log: string }>(
    "serve",
    "serve a registry until it is told to stop",
    (target) =>
      dataOption(target)
        .option("--host <address>", "address to listen on", "127.0.0.1")
        .option("--port <n>", "port to listen on (0: a free one)", "7420")
        .option("--origin <url>", "public origin, where a proxy stands in front")
        .option("--policy <file>", "the operator's policy, above those of the namespaces")
        .addOption(
          new Option("--log <level>", "structured logs on stdout")
            .choices(["debug", "info", "warn", "error", "off"])
            .default("off"),
        ),
    async ({ output, options }) => {
      const port = Number(options.port);
      if (!Number.isInteger(port) || port < 0 || port > 65535) usage(`--port takes 0 to 65535, not "${options.port}".`);
      const registry = await serve({
        dataFolder: options.data,
        host: options.host,
        port,
        ...(options.origin === undefined ? {} : { origin: options.origin }),
        ...(options.policy === undefined ? {} : { policy: readText(options.policy) }),
        log: options.log === "off" ? false : (options.log as "debug" | "info" | "warn" | "error"),
      });
      output.result(
        { origin: registry.origin, port: registry.port },
        () => `registry on ${registry.origin} (Ctrl-C stops it)\n`,
      );
      return 0;
    },
  );
}

function namespaceCommand(): Command {
  const create = command<{ data: string; policy: string; private?: boolean }>(
    "create <name>",
    "make a namespace; its policy says who may publish there",
    (target) =>
      dataOption(target)
        .requiredOption("--policy <file>", "trust policy that every publish must pass")
        .option("--private", "readable with a token only"),
    async ({ output, options, args }) => {
      const visibility: Visibility = options.private === true ? "private" : "public";
      const made = withAdmin(options.data, (admin) =>
        admin.createNamespace({ name: args[0] ?? "", visibility, policy: readText(options.policy) }),
      );
      output.result(
        { name: made.name, visibility: made.visibility },
        () => `namespace ${made.name} (${made.visibility})\n`,
      );
      return 0;
    },
  );
  const policy = command<{ data: string; policy: string }>(
    "policy <name>",
    "replace a namespace's policy; versions that were published stay",
    (target) => dataOption(target).requiredOption("--policy <file>", "the new policy"),
    async ({ output, options, args }) => {
      const made = withAdmin(options.data, (admin) =>
        admin.setPolicy({ namespace: args[0] ?? "", policy: readText(options.policy) }),
      );
      output.result({ name: made.name }, () => `namespace ${made.name} has a new policy\n`);
      return 0;
    },
  );
  const list = command<{ data: string }>("list", "list namespaces", dataOption, async ({ output, options }) => {
    const all = withAdmin(options.data, (admin) => admin.listNamespaces());
    output.result(
      all.map(({ name, visibility, createdAt }) => ({ name, visibility, created_at: createdAt })),
      () => table(all.map(({ name, visibility, createdAt }) => [name, visibility, createdAt])),
    );
    return 0;
  });
  return new Command("namespace")
    .description("namespaces and who they trust")
    .addCommand(create)
    .addCommand(policy)
    .addCommand(list);
}

function tokenCommand(): Command {
  const create = command<{ data: string; namespace: string; scope: string; label?: string; expires?: string }>(
    "create",
    "make a token; it is shown once and stored as a hash",
    (target) =>
      dataOption(target)
        .requiredOption("--namespace <name>", "the namespace it opens")
        .addOption(new Option("--scope <scope>", "what it may do").choices(["read", "write"]).default("read"))
        .option("--label <text>", "what it is for")
        .option("--expires <time>", "RFC 3339 time after which it is refused"),
    async ({ output, options }) => {
      const expiresAt = options.expires === undefined ? undefined : new Date(options.expires);
      if (expiresAt !== undefined && Number.isNaN(expiresAt.getTime()))
        usage(`--expires takes a time like 2030-01-31T12:00:00Z, not "${options.expires}".`);
      const made = withAdmin(options.data, (admin) =>
        admin.createToken({
          namespace: options.namespace,
          scope: options.scope as TokenScope,
          ...(options.label === undefined ? {} : { label: options.label }),
          ...(expiresAt === undefined ? {} : { expiresAt }),
        }),
      );
      output.result(
        { id: made.id, token: made.token, namespace: made.namespace, scope: made.scope },
        () => `${made.token}\n`,
      );
      return 0;
    },
  );
  const list = command<{ data: string; namespace: string }>(
    "list",
    "list a namespace's tokens, without their secrets",
    (target) => dataOption(target).requiredOption("--namespace <name>", "the namespace"),
    async ({ output, options }) => {
      const all = withAdmin(options.data, (admin) => admin.listTokens(options.namespace));
      output.result(all, () =>
        table(
          all.map(({ id, scope, label, createdAt, expiresAt }) => [id, scope, label, createdAt, expiresAt ?? "never"]),
        ),
      );
      return 0;
    },
  );
  const revoke = command<{ data: string }>(
    "revoke <id>",
    "revoke a token, from the next request on",
    dataOption,
    async ({ output, options, args }) => {
      const revoked = withAdmin(options.data, (admin) => admin.revokeToken(args[0] ?? ""));
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

function withAdmin<T>(dataFolder: string, use: (admin: ReturnType<typeof openAdmin>) => T): T {
  const admin = openAdmin({ dataFolder });
  try {
    return use(admin);
  } finally {
    admin.close();
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    return usage(`cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`);
  }
}
