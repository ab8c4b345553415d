/** How a registry is. */
import type { Health } from "@kernlock/registry-server";
import { z } from "zod";
import { command } from "../../command.ts";
import { usage } from "../../errors.ts";
import { bytesText, table } from "../../output.ts";
import { withMaintenance } from "./care.ts";
import { apiOf, type PlaceFlags, withPlace } from "./place.ts";

const shape = z.custom<Health>((value) => typeof value === "object" && value !== null && "problems" in value);

export function healthCommand() {
  return command<PlaceFlags>(
    "health",
    "storage, database, disk, last care and versions; ends with 1 where something cannot be written to or is damaged",
    withPlace,
    async ({ output, options }) => {
      const { data, registry } = options;
      if ((data === undefined) === (registry === undefined)) usage("Give either --data or --registry.");
      const health =
        data === undefined
          ? await apiOf(options).get("/api/v1/health", shape)
          : await withMaintenance({ ...options, data }, (it) => it.health());
      output.result(health, () => text(health));
      const { database, storage } = health.problems;
      return database === null && storage === null && health.storage.damaged === 0 ? 0 : 1;
    },
  );
}

function text(health: Health): string {
  const { database, storage, problems, counts, last } = health;
  const { disk } = storage;
  return table([
    ["database", problems.database ?? "takes writes", `${database.kind}, ${bytesText(database.bytes)}`],
    ["storage", problems.storage ?? "takes writes", `${storage.kind}, ${bytesText(storage.bytes)}`],
    ["blobs", storage.damaged === 0 ? "none damaged" : `${storage.damaged} damaged`, `${storage.blobs} in all`],
    ["disk", disk === null ? "elsewhere" : `${bytesText(disk.free)} free`, disk === null ? "" : bytesText(disk.total)],
    ...Object.entries(last).map(([name, done]) => [
      name,
      done === null ? "never" : done.at,
      done === null ? "" : JSON.stringify(done.outcome),
    ]),
    ["versions", String(counts.versions), `${counts.kernels} kernels, ${counts.namespaces} namespaces`],
    ["reviews", `${health.waiting} wait`, ""],
    ["audit head", String(health.audit.seq), health.audit.hash],
    ["kernlock", health.versions.kernlock, `node ${health.versions.node}, schema ${database.schema}`],
  ]);
}
