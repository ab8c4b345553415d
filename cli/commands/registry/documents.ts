/** The documents that a namespace's policy names and does not hold: feeds, exceptions, break-glass orders. */
import { Command } from "commander";
import { readFile } from "../../attest.ts";
import { command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { table } from "../../output.ts";
import { type DataFlags, withAdmin, withData } from "./data.ts";

export function feedCommand(): Command {
  const set = command<DataFlags & { file?: string; url?: string }>(
    "set <namespace> <feed>",
    "bring a feed that the namespace's policy names; a copy that the policy does not accept changes nothing",
    (target) =>
      withData(target)
        .option("--file <file>", "this copy, until another one is brought")
        .option("--url <address>", "from here, now and from time to time while the registry serves"),
    async ({ output, options, args: [namespace = "", feed = ""] }) => {
      const { file, url } = options;
      if ((file === undefined) === (url === undefined)) usage("Give either --file or --url.");
      const from = url === undefined ? { bytes: readFile(file ?? "") } : { url };
      const taken = await withAdmin(options, (admin) => admin.setFeed({ namespace, feed, ...from }));
      output.result(taken, () => `${feed}: number ${taken.sequence ?? "none"} (${taken.outcome})\n`);
      return 0;
    },
  );
  const list = command<DataFlags>(
    "list <namespace>",
    "the feeds that the namespace's policy names, and whether they let anything be published; ends with 1 where not",
    withData,
    async ({ output, options, args: [namespace = ""] }) => {
      const feeds = await withAdmin(options, (admin) => admin.listFeeds(namespace));
      output.result(
        feeds.map(({ id, kind, maxAgeDays, held, code, reason }) => ({
          ...{ id, kind, max_age_days: maxAgeDays, ok: code === null, code, reason },
          ...{ url: held?.url ?? null, sequence: held?.sequence ?? null, digest: held?.digest ?? null },
          ...{ taken_at: held?.takenAt ?? null, tried_at: held?.triedAt ?? null, problem: held?.problem ?? null },
        })),
        () =>
          table(
            feeds.map(({ id, kind, held, code, reason }) => [
              id,
              kind,
              held?.sequence?.toString() ?? "-",
              held?.url ?? (held === null ? "-" : "file"),
              code === null ? "ok" : `${code}: ${reason}`,
              held?.problem ?? "",
            ]),
          ),
      );
      return feeds.every(({ code }) => code === null) ? 0 : 1;
    },
  );
  const refresh = command<DataFlags>(
    "refresh <namespace>",
    "look at the addresses of its feeds at once; ends with 1 when one brought nothing that holds",
    withData,
    async ({ output, options, args: [namespace = ""] }) => {
      const outcomes = await withAdmin(options, (admin) => admin.refreshFeeds(namespace));
      output.result(outcomes, () =>
        table(outcomes.map(({ id, outcome, sequence, problem }) => [id, outcome, `${sequence ?? "-"}`, problem ?? ""])),
      );
      return outcomes.every(({ outcome }) => outcome !== "failed") ? 0 : 1;
    },
  );
  const remove = command<DataFlags>(
    "remove <namespace> <feed>",
    "forget a feed and the newest number seen of it; publishes that need it are refused from then on",
    withData,
    async ({ output, options, args: [namespace = "", feed = ""] }) => {
      const removed = await withAdmin(options, (admin) => admin.removeFeed({ namespace, feed }));
      output.result({ namespace, feed, removed }, () => `${removed ? "forgotten" : "there was no such feed"}\n`);
      return removed ? 0 : 1;
    },
  );
  return group("feed", "advisories and revocations that a namespace's policy names", [set, list, refresh, remove]);
}

export function approvalCommand(): Command {
  const add = command<DataFlags>(
    "add <namespace> <file>",
    "keep the signatures of the namespace's policy (what `policy sign` wrote); `exception list` and `remove` show them too",
    withData,
    async ({ output, options, args: [namespace = "", file = ""] }) => {
      const lines = readFile(file)
        .toString("utf8")
        .split("\n")
        .filter((line) => line.trim() !== "");
      const kept = await withAdmin(options, async (admin) => {
        const done = [];
        for (const line of lines) done.push(await admin.keepException({ namespace, bundle: Buffer.from(line) }));
        return done;
      });
      output.result(kept, () => kept.map(({ digest, subject }) => `${digest} (for ${subject})\n`).join(""));
      return 0;
    },
  );
  return group("approval", "signatures of a namespace's policy, where it or the operator's demands them", [add]);
}

export function exceptionCommand(): Command {
  const add = command<DataFlags>(
    "add <namespace> <bundle>",
    "keep a signed exception or break-glass order; whether it counts is judged at each publish",
    withData,
    async ({ output, options, args: [namespace = "", file = ""] }) => {
      const bundle = readFile(file);
      const kept = await withAdmin(options, (admin) => admin.keepException({ namespace, bundle }));
      output.result(kept, () => `${kept.digest} (${kept.kind} for ${kept.subject})\n`);
      return 0;
    },
  );
  const list = command<DataFlags>("list <namespace>", "what is kept", withData, async ({ output, options, args }) => {
    const kept = await withAdmin(options, (admin) => admin.listExceptions(args[0] ?? ""));
    output.result(
      kept.map(({ digest, kind, subject, addedAt }) => ({ digest, kind, subject, added_at: addedAt })),
      () => table(kept.map(({ digest, kind, subject, addedAt }) => [digest, kind, subject, addedAt])),
    );
    return 0;
  });
  const remove = command<DataFlags>(
    "remove <namespace> <digest>",
    "keep it no longer; what was published with it stays",
    withData,
    async ({ output, options, args: [namespace = "", digest = ""] }) => {
      const removed = await withAdmin(options, (admin) => admin.removeException({ namespace, digest }));
      output.result({ namespace, digest, removed }, () => `${removed ? "removed" : "there was no such document"}\n`);
      return removed ? 0 : 1;
    },
  );
  return group("exception", "signed exceptions and break-glass orders for a namespace", [add, list, remove]);
}

function group(name: string, description: string, parts: readonly Command[]): Command {
  const root = new Command(name).description(description);
  for (const part of parts) root.addCommand(part);
  return root;
}
