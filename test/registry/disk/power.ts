/** One trace: a server publishes while its files are written down; then the power goes, at every moment that differs. */
import { once } from "node:events";
import { cpSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { createRegistry, openMaintenance, type RegistryOptions } from "@kernlock/registry-server";
import {
  bearer,
  makePackage,
  pushAll,
  putTag,
  type TestKey,
  type TestPackage,
} from "../../../registry-server/test/material.ts";
import { type Random, random } from "../../fuzz/random.ts";
import { startServer, unlimited } from "../chaos/lab.ts";
import { newFolder } from "../drivers.ts";
import { recording } from "./library.ts";
import { type Entry, openDisk, readRecord } from "./model.ts";

export interface Trace {
  readonly packs: readonly TestPackage[];
  readonly folder: string;
  readonly entries: readonly Entry[];
}

interface Access {
  readonly key: TestKey;
  readonly write: string;
}

/** Some packages are published at once on a copy of `prepared`, a data folder that is closed and durable. */
export async function record(
  prepared: string,
  access: Access,
  packs: readonly TestPackage[],
  more: Partial<RegistryOptions> = {},
): Promise<Trace> {
  const folder = join(newFolder(), "data");
  cpSync(prepared, folder, { recursive: true });
  const log = join(newFolder(), "record");
  const options = { dataFolder: folder, limits: unlimited, gcEverySeconds: 1, gcGraceSeconds: 3600, ...more };
  const server = await startServer(options, { env: recording(folder, log) });
  const at = { ...access, origin: server.origin };
  await Promise.all(packs.map((pack) => pushAll(at, pack).then(() => putTag(at, pack))));
  const gone = once(server.process, "exit");
  server.process.kill("SIGTERM");
  await gone;
  const entries = readRecord(readFileSync(log));
  rmSync(log);
  return { packs, folder, entries };
}

export interface Outcome {
  points: number;
  states: number;
  acknowledged: number;
  lost: string[];
  partial: string[];
  unsound: number;
}

export const nothingYet = (): Outcome => ({
  points: 0,
  states: 0,
  acknowledged: 0,
  lost: [],
  partial: [],
  unsound: 0,
});

/**
 * The state after a prefix, with everything unsynced dropped, changes only where a sync ends or an answer goes out: these
 * are the points. `take` of them are tried, each with all that is unsynced dropped, and once with some of it kept.
 */
export async function tryPowerLoss(
  prepared: string,
  access: Access,
  { packs, folder, entries }: Trace,
  options: { take: number; seed: number },
  outcome: Outcome,
): Promise<void> {
  const r = random(options.seed);
  const disk = openDisk(prepared, folder);
  const points = entries.flatMap(({ kind }, i) => (kind === "synced" || kind === "answer" ? [i] : []));
  const taken = new Set(points.length <= options.take ? points : sample(points, options.take, r));
  const acknowledged = new Set<string>();
  for (const [i, entry] of entries.entries()) {
    disk.apply(entry);
    const location = entry.kind === "answer" ? acknowledgement(entry.data.toString("latin1")) : undefined;
    if (location !== undefined) acknowledged.add(location);
    if (!taken.has(i)) continue;
    outcome.points++;
    for (const lucky of [undefined, () => r.below(2) === 0]) {
      const left = newFolder();
      disk.losePower(left, lucky);
      await judge(left, access, packs, acknowledged, outcome);
      rmSync(left, { recursive: true, force: true });
    }
  }
}

/** What a 201 said there now is. */
function acknowledgement(head: string): string | undefined {
  return head.startsWith("HTTP/1.1 201 ") ? /^location: (\S+)\r$/im.exec(head)?.[1] : undefined;
}

async function judge(
  left: string,
  { write }: Access,
  packs: readonly TestPackage[],
  acknowledged: ReadonlySet<string>,
  outcome: Outcome,
): Promise<void> {
  outcome.states++;
  const registry = await createRegistry({ dataFolder: left, limits: unlimited });
  try {
    const { origin } = await registry.listen();
    const matches = async (path: string, digest: string, headers: Record<string, string> = {}) => {
      const answer = await fetch(`${origin}${path}`, { headers });
      return digestOf(new Uint8Array(await answer.arrayBuffer())) === digest ? 200 : answer.status;
    };
    for (const location of acknowledged) {
      outcome.acknowledged++;
      const digest = /sha256:[0-9a-f]{64}$/.exec(location)?.[0];
      if (digest !== undefined && (await matches(location, digest, bearer(write))) !== 200) {
        outcome.lost.push(location);
      }
    }
    for (const pack of packs) {
      const path = `/v2/${pack.name}/manifests/${pack.version}`;
      const found = await matches(path, pack.digest);
      if (found === 404 && acknowledged.has(path)) outcome.lost.push(path);
      if (found === 404) continue;
      const parts = await Promise.all([
        ...pack.blobs.map((bytes) => matches(`/v2/${pack.name}/blobs/${digestOf(bytes)}`, digestOf(bytes))),
        ...pack.variants.map(({ manifest }) =>
          matches(`/v2/${pack.name}/manifests/${digestOf(manifest)}`, digestOf(manifest)),
        ),
      ]);
      if ([found, ...parts].some((status) => status !== 200)) outcome.partial.push(path);
    }
  } finally {
    await registry.close();
  }
  // A collection may have been running when the power went; its lease ends after a minute.
  const care = await openMaintenance({ dataFolder: left, now: () => new Date(Date.now() + 120_000) });
  try {
    if (!(await care.fsck()).sound || (await care.scrub()).damaged.length > 0) outcome.unsound++;
  } finally {
    await care.close();
  }
}

/** Packages of one trace; which and how many the seed says. The first has a blob that is large enough for whichever way bodies go. */
export function packagesOf(seed: number): TestPackage[] {
  const r = random(seed);
  return Array.from({ length: 1 + r.below(3) }, (_, i) =>
    makePackage({
      version: `1.${i}.0`,
      card: `# ${seed} ${i}\n${"x".repeat(r.below(20_000) + (i === 0 ? 1 << 18 : 0))}`,
    }),
  );
}

/** Files in which the record, replayed without any loss, gives other bytes than lie there: none, unless it has a gap. */
export function gaps(prepared: string, { folder, entries }: Trace): string[] {
  const disk = openDisk(prepared, folder);
  for (const entry of entries) disk.apply(entry);
  return disk.differences();
}

function sample(values: readonly number[], count: number, r: Random): number[] {
  const rest = [...values];
  return Array.from({ length: count }, () => rest.splice(r.below(rest.length), 1)[0]!);
}
