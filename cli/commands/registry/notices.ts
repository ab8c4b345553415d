/** Advisories, revocations, and the signed feeds that a registry serves. */

import { parseStrictJson } from "@kernlock/kernels/format";
import type { FeedDescription, FiledRevocation } from "@kernlock/registry-server";
import { Command, Option } from "commander";
import { z } from "zod";
import { readFile } from "../../attest.ts";
import { collect, command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { table } from "../../output.ts";
import { readText } from "./files.ts";
import { atPlace, type PlaceFlags, withPlace } from "./place.ts";

const osv = z.looseObject({
  id: z.string(),
  modified: z.string(),
  summary: z.string().optional(),
  withdrawn: z.string().optional(),
});
const filed = z.object({
  id: z.string(),
  entry: z.looseObject({ kind: z.string(), reason: z.string() }),
  filed_at: z.string(),
  filed_by: z.string(),
  withdrawn_at: z.string().nullable(),
});
const served = z.looseObject({
  id: z.string(),
  kind: z.string(),
  sequence: z.number().int().nullable().optional(),
  issued: z.string().nullable().optional(),
  signers: z.array(z.string()).optional(),
});

export function advisoryCommand(): Command {
  const add = command<PlaceFlags>(
    "add <file>",
    "file an advisory (one OSV record), or a newer state of one",
    withPlace,
    async ({ output, options, args: [file = ""] }) => {
      const bytes = readFile(file);
      const made = await atPlace(options, {
        data: (admin) => admin.fileAdvisory(bytes),
        api: (api) => {
          const record = osv.safeParse(parseStrictJson(bytes, { what: file }));
          if (!record.success) return usage(`${file} is no OSV record.`);
          return api.send("PUT", `/api/v1/advisories/${encodeURIComponent(record.data.id)}`, record.data, osv);
        },
      });
      output.result(made, () => `${made.id} of ${made.modified}\n`);
      return 0;
    },
  );
  const list = command<PlaceFlags>(
    "list",
    "list advisories; with --json the list that `kernlock policy feed --kind advisories` signs",
    withPlace,
    async ({ output, options }) => {
      const all = await atPlace(options, {
        data: (admin) => admin.listAdvisories(),
        api: (api) => api.get("/api/v1/advisories", z.array(osv)),
      });
      output.result(all, () =>
        table(
          all.map((one) => [one.id, one.modified, one.withdrawn === undefined ? "" : "withdrawn", one.summary ?? ""]),
        ),
      );
      return 0;
    },
  );
  const withdraw = command<PlaceFlags>(
    "withdraw <id>",
    "say that an advisory holds no more; it stays on record",
    withPlace,
    async ({ output, options, args: [id = ""] }) => {
      const made = await atPlace(options, {
        data: (admin) => admin.withdrawAdvisory(id),
        api: (api) => api.send("POST", `/api/v1/advisories/${encodeURIComponent(id)}/withdraw`, undefined, osv),
      });
      output.result(made, () => `${made.id} is withdrawn\n`);
      return 0;
    },
  );
  return new Command("advisory")
    .description("what is known to be wrong with versions")
    .addCommand(add)
    .addCommand(list)
    .addCommand(withdraw);
}

export function revocationCommand(): Command {
  const document = (one: FiledRevocation): z.infer<typeof filed> => ({
    id: one.id,
    entry: one.entry,
    filed_at: one.filedAt,
    filed_by: one.filedBy,
    withdrawn_at: one.withdrawnAt,
  });
  const add = command<PlaceFlags>(
    "add <file>",
    "file what the next number of a feed of revocations is to say (one JSON entry)",
    withPlace,
    async ({ output, options, args: [file = ""] }) => {
      const entry = parseStrictJson(readFile(file), { what: file });
      const made = await atPlace(options, {
        data: async (admin) => document(await admin.fileRevocation(entry)),
        api: (api) => api.send("POST", "/api/v1/revocations/filed", entry, filed),
      });
      output.result(made, () => `${made.id}\n`);
      return 0;
    },
  );
  const list = command<PlaceFlags>("list", "list what was filed", withPlace, async ({ output, options }) => {
    const all = await atPlace(options, {
      data: async (admin) => (await admin.listRevocations()).map(document),
      api: async (api) =>
        (await api.get("/api/v1/revocations/filed", z.object({ revocations: z.array(filed) }))).revocations,
    });
    output.result(all, () =>
      table(all.map((one) => [one.id, one.entry.kind, one.withdrawn_at === null ? "" : "withdrawn", one.entry.reason])),
    );
    return 0;
  });
  const entries = command<PlaceFlags>(
    "entries",
    "what was filed and what is in quarantine; with --json what `kernlock policy feed --kind revocations` signs",
    withPlace,
    async ({ output, options }) => {
      const shape = z.array(z.looseObject({ kind: z.string(), reason: z.string() }));
      const all = await atPlace<z.infer<typeof shape>>(options, {
        data: (admin) => admin.revocationEntries(),
        api: (api) => api.get("/api/v1/revocations/entries", shape),
      });
      output.result(all, () => table(all.map((one) => [one.kind, one.reason])));
      return 0;
    },
  );
  const withdraw = command<PlaceFlags>(
    "withdraw <id>",
    "leave it out from the next number on",
    withPlace,
    async ({ output, options, args: [id = ""] }) => {
      const made = await atPlace(options, {
        data: async (admin) => document(await admin.withdrawRevocation(id)),
        api: (api) =>
          api.send("POST", `/api/v1/revocations/filed/${encodeURIComponent(id)}/withdraw`, undefined, filed),
      });
      output.result(made, () => `${made.id} is withdrawn\n`);
      return 0;
    },
  );
  return new Command("revocation")
    .description("what the next number of a signed feed of revocations is to say")
    .addCommand(add)
    .addCommand(list)
    .addCommand(entries)
    .addCommand(withdraw);
}

export function servedFeedCommand(): Command {
  const document = ({ id, kind, sequence, issued, signers }: FeedDescription): z.infer<typeof served> => ({
    ...{ id, kind, sequence, issued },
    signers: [...signers],
  });
  const line = (feed: z.infer<typeof served>) => `${feed.id}: number ${feed.sequence ?? "none yet"}\n`;
  const create = command<PlaceFlags & { kind: FeedDescription["kind"]; key: string[] }>(
    "create <id>",
    "serve a feed under this name; only these keys may sign it",
    (target) =>
      withPlace(target)
        .addOption(
          new Option("--kind <kind>", "what it holds").choices(["advisories", "revocations"]).makeOptionMandatory(),
        )
        .requiredOption("--key <file>", "public key (PEM) that may sign it (again for more)", collect),
    async ({ output, options, args: [id = ""] }) => {
      const wanted = { id, kind: options.kind, keys: options.key.map(readText) };
      const made = await atPlace<z.infer<typeof served>>(options, {
        data: async (admin) => document(await admin.serveFeed(wanted)),
        api: (api) => api.send("POST", "/api/v1/feeds", wanted, served),
      });
      output.result(made, () => line(made));
      return 0;
    },
  );
  const put = command<PlaceFlags>(
    "put <id> <bundle>",
    "bring its next number, signed by `kernlock policy feed`; it never goes back",
    withPlace,
    async ({ output, options, args: [id = "", file = ""] }) => {
      const bundle = readFile(file);
      const made = await atPlace<z.infer<typeof served>>(options, {
        data: async (admin) => document(await admin.putServedFeed(id, bundle)),
        api: (api) => api.send("PUT", `/api/v1/feeds/${encodeURIComponent(id)}`, bundle, served),
      });
      output.result(made, () => line(made));
      return 0;
    },
  );
  const keys = command<PlaceFlags & { key: string[] }>(
    "keys <id>",
    "let other keys sign it, from its next number on",
    (target) => withPlace(target).requiredOption("--key <file>", "public key (PEM) (again for more)", collect),
    async ({ output, options, args: [id = ""] }) => {
      const made = await atPlace(options, {
        data: async (admin) => document(await admin.setFeedKeys(id, options.key.map(readText))),
        api: (api) =>
          api.send("PUT", `/api/v1/feeds/${encodeURIComponent(id)}/keys`, { keys: options.key.map(readText) }, served),
      });
      output.result(made, () => line(made));
      return 0;
    },
  );
  const list = command<PlaceFlags>("list", "list the feeds that are served", withPlace, async ({ output, options }) => {
    const all = await atPlace<z.infer<typeof served>[]>(options, {
      data: async (admin) => (await admin.listServedFeeds()).map(document),
      api: async (api) => (await api.get("/api/v1/feeds", z.object({ feeds: z.array(served) }))).feeds,
    });
    output.result(all, () =>
      table(
        all.map((feed) => [
          feed.id,
          feed.kind,
          String(feed.sequence ?? "-"),
          feed.issued ?? "-",
          (feed.signers ?? []).join(" "),
        ]),
      ),
    );
    return 0;
  });
  return new Command("feed")
    .description("signed feeds that this registry serves, for policies to name")
    .addCommand(create)
    .addCommand(put)
    .addCommand(keys)
    .addCommand(list);
}
