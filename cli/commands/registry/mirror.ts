import { parsePolicy } from "@kernlock/policies/trust";
import { type Mirror, mirrorCovers } from "@kernlock/registry-server";
import { Command } from "commander";
import { z } from "zod";
import { collect, command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { table } from "../../output.ts";
import type { RegistryFlags } from "../../registry-access.ts";
import { type DataFlags, seconds, withAdmin, withData } from "./data.ts";
import { apiOf, withServer } from "./place.ts";

interface DeclareFlags extends DataFlags {
  readonly from: string;
  readonly prefix?: string;
  readonly credentials?: string;
  readonly upstreamCa?: string;
  readonly host?: readonly string[];
  readonly privateAddresses?: boolean;
  readonly coolDown?: string;
  readonly fresh?: string;
  readonly adopt?: boolean;
}

/** Longer than a registry lets it take. */
const refreshMs = 115_000;
const listed = z.looseObject({ mirrors: z.array(z.looseObject({ id: z.string(), pattern: z.string() })) });
const refreshed = z.looseObject({
  packages: z.array(
    z.looseObject({
      name: z.string(),
      admitted: z.array(z.string()),
      refused: z.array(z.looseObject({ version: z.string(), code: z.string(), message: z.string() })),
      changed: z.array(z.string()),
      statements: z.number(),
    }),
  ),
  states: z.number(),
  problem: z.looseObject({ code: z.string(), message: z.string() }).nullable(),
});

export function mirrorCommand(): Command {
  const declare = command<DeclareFlags>(
    "declare <pattern>",
    "fill names of a namespace from another registry (namespace/name, namespace/begin*, namespace/*), or say so anew",
    (target) =>
      withData(target)
        .requiredOption("--from <url>", "origin of the upstream, e.g. https://kernels.example.org")
        .option("--prefix <folders/>", "what stands before the name there in place of `namespace/` ('': nothing)")
        .option(
          "--credentials <where>",
          "env:KERNLOCK_UPSTREAM_… or file:/path, of the server: a token, or user:password",
        )
        .option("--upstream-ca <file>", "certificate authorities to trust there (PEM; full path on the server)")
        .option("--host <host[:port]>", "where the upstream may redirect, or have its tokens (again for more)", collect)
        .option("--private-addresses", "the upstream's names lead to addresses of a private network")
        .option("--cool-down <days>", "show a version only this long after a trusted time, e.g. 14d")
        .option("--fresh <time>", "how long tags, lists and states count before they are asked for again (5m)")
        .option("--adopt", "what lies under these names came from this upstream"),
    async ({ output, options, args: [pattern = ""] }) => {
      const { coolDown, fresh, host, credentials, upstreamCa } = options;
      const days = coolDown === undefined ? 0 : seconds("--cool-down", coolDown) / 86_400;
      if (!Number.isInteger(days)) usage("--cool-down takes whole days, like 14d.");
      const made = await withAdmin(options, async (admin) => {
        const mirror = await admin.declareMirror({
          pattern,
          origin: options.from,
          adopt: options.adopt === true,
          ...(options.prefix === undefined ? {} : { prefix: options.prefix }),
          settings: {
            coolDownDays: days,
            privateAddresses: options.privateAddresses === true,
            ...(host === undefined ? {} : { hosts: [...host] }),
            ...(credentials === undefined ? {} : { credentials }),
            ...(upstreamCa === undefined ? {} : { ca: upstreamCa }),
            ...(fresh === undefined ? {} : { freshSeconds: seconds("--fresh", fresh) }),
          },
        });
        const owner = await admin.getNamespace(mirror.namespace);
        const policy = days > 0 && owner !== undefined ? parsePolicy(owner.policy) : undefined;
        if (policy !== undefined && policy.times === undefined && policy.identities.size === 0) {
          output.note(
            "The policy trusts no clock, so with a cool-down nothing will ever be shown: name one in `times`.",
          );
        }
        return mirror;
      });
      output.result(document(made), () => `${made.pattern} is mirrored from ${made.origin} (${made.id})\n`);
      return 0;
    },
  );
  const list = command<DataFlags>("list", "list mirrors and the packages they filled", withData, async (given) => {
    const all = await withAdmin(given.options, (admin) => admin.listMirrors());
    given.output.result(
      all.map((mirror) => ({ ...document(mirror), packages: mirror.packages })),
      () =>
        table(
          all.map(({ id, pattern, origin, prefix, settings, packages }) => [
            id,
            pattern,
            `${origin}/${prefix}`,
            settings.coolDownDays === 0 ? "" : `${settings.coolDownDays}d`,
            `${packages.length} packages`,
          ]),
        ),
    );
    return 0;
  });
  const refresh = command<RegistryFlags>(
    "refresh <what>",
    "have a running registry ask upstream now: a mirror's pattern, namespace/name, or namespace/name@version; ends with 1 when something was refused",
    withServer,
    async ({ output, options, args: [what = ""] }) => {
      const api = apiOf({ ...options, timeoutMs: refreshMs });
      const [name = "", version] = what.split("@", 2);
      const { mirrors } = await api.get("/api/v1/mirrors", listed);
      const mirror =
        mirrors.find(({ pattern }) => pattern === name) ?? mirrors.find(({ pattern }) => mirrorCovers(pattern, name));
      if (mirror === undefined) usage(`No mirror that this token administers has the name "${name}".`);
      const only = name.endsWith("*") ? {} : { name, ...(version === undefined ? {} : { version }) };
      const found = await api.send("POST", `/api/v1/mirrors/${mirror.id}/refresh`, only, refreshed);
      output.result(found, () =>
        [
          ...found.packages.map(
            (one) =>
              `${one.name}: ${one.admitted.length === 0 ? "nothing new" : one.admitted.join(" ")}, ${one.statements} statements\n${[
                ...one.refused.map((refusal) => `  ${refusal.version} refused: [${refusal.code}] ${refusal.message}\n`),
                ...one.changed.map((changed) => `  ${changed} has other bytes upstream now; ours stay\n`),
              ].join("")}`,
          ),
          `${found.states} versions changed their state\n`,
          found.problem === null ? "" : `[${found.problem.code}] ${found.problem.message}\n`,
        ].join(""),
      );
      const refused = found.packages.some((one) => one.refused.length + one.changed.length > 0);
      return found.problem !== null || refused ? 1 : 0;
    },
  );
  const drop = command<DataFlags>(
    "drop <pattern>",
    "ask the upstream no more; what came from it stays, and is the namespace's own",
    withData,
    async ({ output, options, args: [pattern = ""] }) => {
      const dropped = await withAdmin(options, (admin) => admin.dropMirror(pattern));
      output.result({ dropped }, () => (dropped ? "dropped\n" : "there is no such mirror\n"));
      return dropped ? 0 : 1;
    },
  );
  return new Command("mirror")
    .description("names that are filled from other registries")
    .addCommand(declare)
    .addCommand(list)
    .addCommand(refresh)
    .addCommand(drop);
}

function document({ id, pattern, origin, prefix, settings, createdAt }: Mirror) {
  return {
    ...{ id, pattern, origin, prefix, credentials: settings.credentials, ca: settings.ca, hosts: settings.hosts },
    private_addresses: settings.privateAddresses,
    cool_down_days: settings.coolDownDays,
    fresh_seconds: settings.freshSeconds,
    created_at: createdAt,
  };
}
