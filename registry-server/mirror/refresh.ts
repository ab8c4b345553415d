/** An operator wants it now: forgets what a mirror remembers, and asks for everything that can change. */
import { type Digest, fail, KernlockError } from "@kernlock/kernels/format";
import { bringTag } from "./artifacts.ts";
import type { Asking, Question } from "./asking.ts";
import { refreshEvidence } from "./evidence.ts";
import type { Subject } from "./fetched.ts";
import type { Kit } from "./kit.ts";
import type { Mirror } from "./mirrors.ts";
import { applyStates, type UpstreamState } from "./states.ts";
import { failureOf } from "./upstream.ts";

export interface Brought {
  readonly name: string;
  readonly admitted: readonly string[];
  readonly refused: readonly { readonly version: string; readonly code: string; readonly message: string }[];
  /** Versions that the upstream now has with other bytes than it had; those that are here stay. */
  readonly changed: readonly string[];
  /** Statements about versions that were here before. */
  readonly statements: number;
}

export interface Refreshed {
  readonly mirror: string;
  readonly packages: readonly Brought[];
  /** Versions whose state the upstream changed. */
  readonly states: number;
  /** Why the upstream could not be asked, or null. */
  readonly problem: { readonly code: string; readonly message: string } | null;
}

export type Refresh = (
  mirror: Mirror,
  only?: { readonly repository: string; readonly version?: string },
) => Promise<Refreshed>;

export function createRefresh(parts: {
  readonly kit: Kit;
  readonly asking: Asking;
  readonly statesOf: (mirror: Mirror, anew: boolean) => Promise<readonly UpstreamState[] | null>;
  readonly catchUp: (subject: Subject, via: readonly string[]) => Promise<Pick<Brought, "admitted" | "refused">>;
  readonly versionQuestion: (subject: Subject, version: string, via: readonly string[]) => Question;
}): Refresh {
  const { kit, asking, statesOf, catchUp, versionQuestion } = parts;
  const { records } = kit.context;

  return async (mirror, only) => {
    asking.forget(mirror, only?.repository);
    const owner = await records.namespace(mirror.namespace);
    const names = only === undefined ? await records.mirroredRepositories(mirror.id) : [only.repository];
    const packages: Brought[] = [];
    let changedStates = 0;
    let problem: Refreshed["problem"] = null;
    let away = false;
    // One package that cannot be had keeps nobody from the others; an upstream that is away is not asked for each.
    const attempt = async (work: () => Promise<void>) => {
      if (away) return;
      try {
        await work();
      } catch (thrown) {
        const failure = failureOf(thrown);
        if (failure.kind === "absent") return;
        away = failure.kind === "unavailable" || failure.error.code === "KL_MIRROR_UNAVAILABLE";
        if (!(failure.error instanceof KernlockError)) throw thrown;
        problem ??= { code: failure.error.code, message: failure.error.message };
      }
    };
    await attempt(async () => {
      const found = owner?.kind === "kernels" ? await statesOf(mirror, true) : null;
      if (found !== null) changedStates = await applyStates(kit, mirror, found);
    });
    for (const repository of names) {
      await attempt(async () => {
        packages.push(await refreshOne({ repository, mirror, owner: owner! }, only?.version));
      });
    }
    return { mirror: mirror.id, packages, states: changedStates, problem };
  };

  async function refreshOne(subject: Subject, version: string | undefined): Promise<Brought> {
    const { repository, mirror, owner } = subject;
    const nothing = { name: repository, admitted: [], refused: [], changed: [], statements: 0 };
    if (!(await asking.isOwn(subject))) {
      return fail("KL_MIRROR_LOCAL", `${repository} holds packages that did not come from the mirror.`, {
        remedy: "It is served as it is; the upstream is not asked.",
      });
    }
    if (owner.kind === "artifacts") {
      const tags = version === undefined ? await records.movingTags(repository, "", 1000) : [version];
      for (const tag of tags) await orThrow(subject, `tag:${tag}`, () => bringTag(kit, subject, tag).then(() => true));
      return { ...nothing, admitted: tags };
    }
    if (version !== undefined && (await records.version(repository, version)) === undefined) {
      const outcome = await asking.once(versionQuestion(subject, version, []));
      if (outcome.kind === "unavailable") throw outcome.error;
      if (outcome.kind === "fetched") return { ...nothing, admitted: [version] };
      const { code, message } =
        outcome.kind === "refused"
          ? outcome.error
          : { code: "KL_OCI_NOT_FOUND", message: "The upstream has no such version, or it waits for a review here." };
      return { ...nothing, refused: [{ version, code, message }] };
    }
    const held = (await records.versions(repository)).filter((row) => version === undefined || row.version === version);
    const changed: string[] = [];
    let statements = 0;
    await orThrow(subject, "held", async () => {
      const { registry } = kit.upstream(mirror);
      for (const row of held) {
        const other = await registry.newerManifest(repository, row.version, row.digest).catch(() => undefined);
        if (other !== undefined) changed.push(row.version);
        const document = JSON.parse((await records.version(repository, row.version))!.document);
        const variants = (document.variants ?? []) as { manifest: { digest: Digest } }[];
        for (const digest of [row.digest as Digest, ...variants.map(({ manifest }) => manifest.digest)]) {
          if (row.state !== "quarantined") statements += await refreshEvidence(kit, subject, digest);
        }
      }
      return true;
    });
    if (changed.length > 0) kit.log.error({ mirror: mirror.id, repository, changed }, "the upstream changed versions");
    if (version !== undefined) return { ...nothing, changed, statements };
    let caught: Awaited<ReturnType<typeof catchUp>> = { admitted: [], refused: [] };
    await orThrow(subject, "versions", async () => {
      caught = await catchUp(subject, []);
      return true;
    });
    return { ...nothing, ...caught, changed, statements };
  }

  async function orThrow(subject: Subject, what: string, work: () => Promise<boolean>): Promise<void> {
    const outcome = await asking.once({ ...subject, what, held: true, via: [], work });
    if (outcome.kind === "unavailable" || outcome.kind === "refused") throw outcome.error;
  }
}
