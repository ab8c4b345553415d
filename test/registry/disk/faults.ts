/** A server on a disk that fails in one way after the other: what it says of itself, and what it keeps. */
import { Agent, request } from "node:http";
import { digestOf } from "@kernlock/kernels/format";
import { openMaintenance, type RegistryOptions } from "@kernlock/registry-server";
import {
  makePackage,
  pushAll,
  putBlob,
  putTag,
  type TestKey,
  type TestPackage,
} from "../../../registry-server/test/material.ts";
import { prepare, type Server, startServer, unlimited } from "../chaos/lab.ts";
import { newFolder } from "../drivers.ts";
import type { Faults, faultyDisk } from "./library.ts";

export const faults = {
  "EIO when writing": { write: "EIO", sync: "EIO" },
  "EIO when syncing": { sync: "EIO" },
  "EIO when reading": { read: "EIO" },
  "EROFS, read-only": { write: "EROFS", change: "EROFS" },
  "slow, 20 s a sync": { syncDelayMs: 20_000 },
} as const satisfies Record<string, Faults>;

/** How long a client waits here. */
const patienceMs = 10_000;

export interface Sick {
  readonly fault: string;
  /** Seconds until `/readyz` was red, and green again after the fault was gone. */
  readonly redAfter: number;
  readonly greenAfter: number;
  /** What writes and reads were answered meanwhile; 0 where none came within 10 s. */
  readonly writes: readonly number[];
  readonly reads: readonly number[];
}

export interface Place {
  readonly server: Server;
  readonly at: { origin: string; key: TestKey; write: string };
  readonly published: TestPackage;
  readonly dataFolder: string;
}

export async function startPlace(
  how: (dataFolder: string) => Parameters<typeof startServer>[1],
  options: Partial<RegistryOptions> = {},
): Promise<Place> {
  const dataFolder = newFolder();
  const access = await prepare(dataFolder);
  const server = await startServer({ dataFolder, limits: unlimited, ...options }, how(dataFolder));
  const at = { ...access, origin: server.origin };
  const published = makePackage();
  await pushAll(at, published);
  await putTag(at, published);
  return { server, at, published, dataFolder };
}

export async function fallIll(place: Place, fault: keyof typeof faults, disk: ReturnType<typeof faultyDisk>) {
  const { at, published } = place;
  // Large enough for whichever way bodies go.
  const bytes = Buffer.alloc(1 << 20, `while ${fault}`);
  const next = makePackage({ version: `1.${Object.keys(faults).indexOf(fault) + 1}.0` });
  await pushAll(at, next);
  disk.set(faults[fault]);
  const redAfter = await untilReady(at.origin, false);
  const writes = [
    await statusOf((signal) => putBlob(at, at.write, "acme/norm", bytes, signal)),
    await statusOf((signal) => putTag(at, next, at.write, signal)),
  ];
  const reads = [
    await statusOf((signal) => fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`, { signal })),
    await statusOf((signal) => fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(published.payload)}`, { signal })),
  ];
  disk.set({});
  const greenAfter = await untilReady(at.origin, true);
  return { fault, redAfter, greenAfter, writes, reads } satisfies Sick;
}

/** After all of it: a publish works, the first version is whole, and nothing is unsound. */
export async function recovered({ at, published, dataFolder, server }: Place): Promise<Record<string, unknown>> {
  const next = makePackage({ version: "2.0.0" });
  await pushAll(at, next);
  const { status } = await putTag(at, next);
  const blob = await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(published.payload)}`);
  const same = digestOf(new Uint8Array(await blob.arrayBuffer())) === digestOf(published.payload);
  const crashed = server.process.exitCode !== null;
  await server.kill();
  const care = await openMaintenance({ dataFolder });
  const { sound } = await care.fsck();
  const { damaged } = await care.scrub();
  await care.close();
  return { crashed, publish: status, readable: same, fsck_sound: sound, damaged: damaged.length };
}

/** Seconds until `/readyz` says so, asked as a monitor would: whoever does not answer within 5 s is not ready. */
export async function untilReady(origin: string, wanted: boolean, agent?: Agent): Promise<number> {
  const started = performance.now();
  for (;;) {
    const asked = performance.now();
    if ((await isReady(origin, agent)) === wanted) {
      // A monitor that waits for 5 s knows no earlier.
      return Number(((performance.now() - started) / 1000).toFixed(1));
    }
    if (performance.now() - started > 120_000) throw new Error(`/readyz never was ${wanted ? "green" : "red"}`);
    await new Promise((done) => setTimeout(done, Math.max(0, 200 - (performance.now() - asked))));
  }
}

/** `agent` keeps a connection, which a server without descriptors could not open anew. */
function isReady(origin: string, agent = new Agent({ keepAlive: false })): Promise<boolean> {
  return new Promise((answer) => {
    const asking = request(`${origin}/readyz`, { agent, timeout: 5000 }, (response) => {
      response.resume().on("close", () => answer(response.statusCode === 200));
    });
    asking.on("timeout", () => asking.destroy());
    asking.on("error", () => answer(false));
    asking.end();
  });
}

async function statusOf(ask: (signal: AbortSignal) => Promise<Response>): Promise<number> {
  try {
    const answer = await ask(AbortSignal.timeout(patienceMs));
    await answer.arrayBuffer();
    return answer.status;
  } catch {
    return 0;
  }
}
