/** The mirrors of a registry: what they bring when something is asked for that is not here, or may have changed. */
import { type Digest, fail, isDigest, isVersion } from "@kernlock/kernels/format";
import type { FastifyBaseLogger } from "fastify";
import type { Context } from "../context.ts";
import type { Publisher } from "../publish/publish.ts";
import type { ContentDigest } from "../store/digests.ts";
import { bringBlob, bringManifest, bringReferrers, bringTag, listTags } from "./artifacts.ts";
import { createAsking, type Health, type Outcome, type Question } from "./asking.ts";
import { refreshEvidence } from "./evidence.ts";
import type { Subject } from "./fetched.ts";
import { createFlights, createMemory, createSlots, within } from "./flights.ts";
import { admit, fetchIndex, versionOf } from "./kernels.ts";
import { defaultOptions, type Kit, type MirrorOptions } from "./kit.ts";
import { covers, type Mirror } from "./mirrors.ts";
import { createRefresh, type Refreshed } from "./refresh.ts";
import { applyStates, askStates, type UpstreamState } from "./states.ts";
import { inTurn } from "./turns.ts";
import { openUpstream, type Upstream } from "./upstream.ts";
import { linesOf } from "./versions.ts";

/** How long a declaration that was made elsewhere may go unnoticed. */
const declarationsMs = 1000;
const choreMs = 60_000;
const triesInLine = 5;
const notKernlockSeconds = 3600;

export interface Mirrors {
  of(repository: string): Promise<Mirror | undefined>;
  all(): Promise<readonly Mirror[]>;
  health(mirror: Mirror): Health;
  /** Before a manifest is served, by tag or digest. */
  manifest(subject: Subject, reference: string, via: readonly string[]): Promise<Outcome>;
  blob(subject: Subject, digest: ContentDigest, via: readonly string[]): Promise<Outcome>;
  /** Before the versions of a kernel are listed. */
  versions(subject: Subject, via: readonly string[]): Promise<Outcome>;
  /** Tags of the upstream, of plain OCI. */
  tags(subject: Subject, via: readonly string[]): Promise<{ outcome: Outcome; tags: readonly string[] }>;
  referrers(subject: Subject, digest: ContentDigest, via: readonly string[]): Promise<Outcome>;
  /** Forgets what it remembers, and asks for everything that can change. KL_MIRROR_NAME for a name of no mirror. */
  refresh(mirror: Mirror, only?: { readonly repository: string; readonly version?: string }): Promise<Refreshed>;
  close(): Promise<void>;
}

export function createMirrors(
  context: Context,
  publisher: Publisher,
  log: FastifyBaseLogger,
  given: MirrorOptions = {},
): Mirrors {
  const { records, now } = context;
  const { lookup, ...rest } = given;
  const options = { ...defaultOptions, ...rest };
  const closing = new AbortController();
  const upstreams = new Map<string, { declared: string; upstream: Upstream }>();
  const kit: Kit = {
    context,
    publisher,
    log,
    options,
    flights: createFlights(options.flights),
    slot: createSlots(options.transfers),
    closing: closing.signal,
    upstream(mirror) {
      const declared = JSON.stringify(mirror);
      const found = upstreams.get(mirror.id);
      if (found?.declared === declared) return found.upstream;
      void found?.upstream.close();
      const upstream = openUpstream(mirror, { ...options, lookup });
      upstreams.set(mirror.id, { declared, upstream });
      return upstream;
    },
  };
  const asking = createAsking(kit);
  const lists = createMemory<readonly string[]>(now, 1000);
  const states = createMemory<readonly UpstreamState[] | "none">(now, 1000);

  let declared: { at: number; mirrors: Promise<readonly Mirror[]> } | undefined;
  function all(): Promise<readonly Mirror[]> {
    const time = performance.now();
    if (declared === undefined || time - declared.at > declarationsMs) {
      declared = { at: time, mirrors: records.mirrors() };
      declared.mirrors.catch(() => {
        declared = undefined;
      });
    }
    return declared.mirrors;
  }

  /** Null where the upstream is no Kernlock registry. */
  async function statesOf(mirror: Mirror, anew = false): Promise<readonly UpstreamState[] | null> {
    if (states.get(mirror.id, notKernlockSeconds) === "none") return null;
    const known = anew ? undefined : states.get(mirror.id, mirror.settings.freshSeconds);
    if (known !== undefined && known !== "none") return known;
    const found = await askStates(kit, mirror);
    states.set(mirror.id, found ?? "none");
    return found ?? null;
  }

  /** Fetches, judges and publishes one version, whoever of the nodes does it. */
  async function bringVersion(subject: Subject, version: string, expected?: Digest): Promise<boolean> {
    const { repository, mirror } = subject;
    const held = async () => (await records.version(repository, version)) !== undefined;
    // It waits for a person here, or was turned down.
    if (!(await held()) && (await records.review(repository, version)) !== undefined) return false;
    let published = true;
    await inTurn(kit, repository, held, async () => {
      // What they are is a help, and no condition: a manifest in quarantine is not handed out there in any case.
      const flagged = (await statesOf(mirror).catch(() => null))?.filter(
        (row) => row.repository === repository && row.version === version,
      );
      if (flagged?.some(({ state }) => state === "quarantined")) {
        fail("KL_REGISTRY_QUARANTINED", "Its upstream holds this version in quarantine.", {
          remedy: "Use another version.",
        });
      }
      const index = await fetchIndex(kit, subject, version);
      if (expected !== undefined && index.digest !== expected) {
        fail("KL_MIRROR_UPSTREAM", "The upstream's tag names another index than the one that was asked for.", {
          remedy: "Compare the lock with the upstream; a version never changes.",
          details: { wanted: expected, is: index.digest },
        });
      }
      published = (await admit(kit, subject, index, version)).published;
      if (published && flagged !== undefined && flagged.length > 0) await applyStates(kit, mirror, flagged);
    });
    return published;
  }

  const versionQuestion = (subject: Subject, version: string, via: readonly string[], expected?: Digest): Question => ({
    ...subject,
    what: expected === undefined ? `version:${version}` : `version:${version}@${expected}`,
    held: false,
    via,
    work: () => bringVersion(subject, version, expected),
  });

  /** The highest version of each line that can be had. */
  async function catchUp(subject: Subject, via: readonly string[]) {
    const { repository, mirror } = subject;
    const admitted: string[] = [];
    const refused: { version: string; code: string; message: string }[] = [];
    const tags = await kit.upstream(mirror).registry.tags(repository, 10_000);
    for (const line of linesOf(tags)) {
      let tries = 0;
      for (const version of line) {
        if ((await records.version(repository, version)) !== undefined) break;
        const question = versionQuestion(subject, version, via);
        const known = asking.refusalOf(question);
        if (known !== undefined) {
          refused.push({ version, code: known.code, message: known.message });
          continue;
        }
        if (tries++ === triesInLine) break;
        const outcome = await asking.once(question);
        if (outcome.kind === "unavailable") throw outcome.error;
        if (outcome.kind === "refused") {
          refused.push({ version, code: outcome.error.code, message: outcome.error.message });
        }
        if (outcome.kind !== "fetched") continue;
        admitted.push(version);
        break;
      }
    }
    return { admitted, refused };
  }

  async function askAgain(question: Question): Promise<Outcome> {
    return question.held && asking.isFresh(question) ? "fresh" : asking.ask(question);
  }

  const mirrors: Mirrors = {
    all,
    health: asking.health,
    async of(repository) {
      return (await all()).find(({ pattern }) => covers(pattern, repository));
    },
    async manifest(subject, reference, via) {
      const { repository, owner } = subject;
      if (isDigest(reference)) {
        const row = await records.manifest(repository, reference);
        if (row !== undefined && row.visible !== 0) return "held";
        const work =
          owner.kind === "artifacts"
            ? () => bringManifest(kit, subject, reference).then(() => true)
            : async () => {
                const found = await versionOf(kit, subject, reference);
                if (found === undefined) return false;
                const refusal = asking.refusalOf(versionQuestion(subject, found.version, via));
                if (refusal !== undefined) throw refusal;
                return bringVersion(subject, found.version, found.index === undefined ? undefined : reference);
              };
        return asking.ask({ ...subject, what: reference, held: false, via, work });
      }
      if (owner.kind === "artifacts") {
        if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(reference)) return "held";
        const held = (await records.tag(repository, reference)) !== undefined;
        const work = () => bringTag(kit, subject, reference).then(() => true);
        return askAgain({ ...subject, what: `tag:${reference}`, held, via, work });
      }
      // Versions never change, whatever the upstream says of them today.
      if (!isVersion(reference) || (await records.version(repository, reference)) !== undefined) return "held";
      return asking.ask(versionQuestion(subject, reference, via));
    },
    async blob(subject, digest, via) {
      const { repository, mirror, owner } = subject;
      const there = async () => {
        const row = await records.blob(repository, digest);
        // What was fetched and then refused is as good as not there.
        if (row?.state !== "present" || (row.visible === 0 && owner.kind === "kernels")) return false;
        // It came, and the node died before it said so.
        if (row.visible === 0 && owner.kind === "artifacts") await records.showNamedBlob(repository, digest);
        return true;
      };
      if (await there()) return "held";
      // Who has a lock asks for a version's documents and files at once.
      await within(options.patienceMs, kit.flights.settled(`${mirror.id} ${repository} `));
      if (await there()) return "held";
      // Only what a manifest names that is served here.
      if ((await records.naming(repository, digest)).length === 0) return "absent";
      return asking.ask({ ...subject, what: digest, held: false, via, work: () => bringBlob(kit, subject, digest) });
    },
    async versions(subject, via) {
      const held = (await records.kernel(subject.repository)) !== undefined;
      const work = () => catchUp(subject, via).then(() => true);
      return askAgain({ ...subject, what: "versions", held, via, work });
    },
    async tags(subject, via) {
      const key = `${subject.mirror.id} ${subject.repository}`;
      const known = () => lists.get(key, Number.POSITIVE_INFINITY) ?? [];
      const held = known().length > 0 || (await records.hasRepository(subject.repository));
      const work = async () => {
        lists.set(key, await listTags(kit, subject));
        return true;
      };
      const outcome = await askAgain({ ...subject, what: "tags", held, via, work });
      return { outcome, tags: outcome === "absent" ? [] : known() };
    },
    async referrers(subject, digest, via) {
      const row = await records.manifest(subject.repository, digest);
      if (row?.visible !== 1 || !isDigest(digest)) return "held";
      const bring = subject.owner.kind === "kernels" ? refreshEvidence : bringReferrers;
      const work = () => bring(kit, subject, digest).then(() => true);
      return askAgain({ ...subject, what: `referrers:${digest}`, held: true, via, work });
    },
    refresh: createRefresh({ kit, asking, statesOf, catchUp, versionQuestion }),
    async close() {
      closing.abort();
      clearInterval(chore);
      await Promise.all([...upstreams.values()].map(({ upstream }) => upstream.close()));
      await kit.flights.settled("");
      await running;
    },
  };

  // States change without anybody asking for a version; one of the nodes looks.
  let running: Promise<unknown> = Promise.resolve();
  const chore = setInterval(() => {
    running = lookAtStates().catch((error: Error) => log.error({ err: error }, "asking for states failed"));
  }, choreMs).unref();
  async function lookAtStates(): Promise<void> {
    for (const mirror of await all()) {
      if (states.get(mirror.id, mirror.settings.freshSeconds) !== undefined || closing.signal.aborted) continue;
      const owner = await records.namespace(mirror.namespace);
      if (owner?.kind !== "kernels" || (await records.mirroredRepositories(mirror.id)).length === 0) continue;
      const found = await statesOf(mirror).catch(() => null);
      if (found !== null) await lockedStates(mirror, found);
    }
  }
  async function lockedStates(mirror: Mirror, found: readonly UpstreamState[]): Promise<void> {
    await inTurn(
      kit,
      `${mirror.id} states`,
      async () => false,
      () => applyStates(kit, mirror, found),
    );
  }
  return mirrors;
}
