/**
 * Asking an upstream, for many at once and never in vain: one question about one thing at a time, pauses after
 * failures, and a short memory of what is not there or was refused.
 */
import { KernlockError } from "@kernlock/kernels/format";
import { createMemory, within } from "./flights.ts";
import type { Kit } from "./kit.ts";
import type { Mirror } from "./mirrors.ts";
import { failureOf, unavailable } from "./upstream.ts";
import { asking, goesRound } from "./via.ts";

/** `held`: nobody had to be asked; `stale`: nobody could be, and what is held is as old as it is. */
export type Outcome = "held" | "fresh" | "stale" | "absent";

/** What one attempt came to. */
export type Attempt =
  | { readonly kind: "fetched" }
  | { readonly kind: "absent" }
  | { readonly kind: "unavailable" | "refused"; readonly error: KernlockError };

export interface Question {
  readonly mirror: Mirror;
  readonly repository: string;
  /** What is asked for: `version:1.0.0`, `tag:latest`, `sha256:…`. */
  readonly what: string;
  /** Whether there is an answer without asking. */
  readonly held: boolean;
  /** For whom it is asked. */
  readonly via: readonly string[];
  /** False: it turned out that there is no such thing. */
  readonly work: () => Promise<boolean>;
}

const longestPauseMs = 60_000;
/** Our own trouble, which may be over in a moment. */
const passing = /^KL_REGISTRY_(?:STORAGE_FULL|INTERNAL|NOT_READY)$|^KL_MIRROR_(?:BUSY|SECRET)$/;

export interface Health {
  readonly askedAt: string | null;
  readonly ok: boolean | null;
  readonly code: string | null;
  readonly pausedUntil: string | null;
}

export function createAsking(kit: Omit<Kit, "upstream">) {
  const { now, records, metrics } = kit.context;
  const { options, flights } = kit;
  const absent = createMemory<true>(now);
  const refusals = createMemory<KernlockError>(now);
  const fresh = createMemory<true>(now, 100_000);
  const own = createMemory<boolean>(now);
  const health = new Map<string, Health & { failures: number; until: number }>();

  const keyOf = ({ mirror, repository, what }: Pick<Question, "mirror" | "repository" | "what">) =>
    `${mirror.id} ${repository} ${what}`;

  /** Only a repository that is the mirror's own, or empty, is anything the upstream hears of. */
  async function isOwn({ mirror, repository }: Pick<Question, "mirror" | "repository">): Promise<boolean> {
    const key = `${mirror.id} ${repository}`;
    const known = own.get(key, 60);
    if (known !== undefined) return known;
    const claimed = await records.claimRepository(repository, mirror.id, now().toISOString());
    if (!claimed) kit.log.warn({ mirror: mirror.id, repository }, "a local package under a mirrored name");
    own.set(key, claimed);
    return claimed;
  }

  async function attempt(question: Question): Promise<Attempt> {
    const { mirror } = question;
    const key = keyOf(question);
    const count = (outcome: string) => metrics.count("kernlock_mirror_fetches_total", { mirror: mirror.id, outcome });
    try {
      const found = await question.work();
      note(mirror, undefined);
      fresh.set(key, true);
      if (!found) absent.set(key, true);
      count(found ? "fetched" : "absent");
      return { kind: found ? "fetched" : "absent" };
    } catch (thrown) {
      const failure = failureOf(thrown);
      count(failure.kind);
      if (failure.kind === "absent") {
        note(mirror, undefined);
        absent.set(key, true);
        return failure;
      }
      const { error } = failure;
      kit.log.warn(
        { mirror: mirror.id, repository: question.repository, what: question.what, code: error.code, err: thrown },
        "the upstream gave nothing",
      );
      if (failure.kind === "unavailable") note(mirror, error, failure.retryAfter);
      else if (!passing.test(error.code) && error instanceof KernlockError) refusals.set(key, error);
      return { kind: failure.kind, error };
    }
  }

  function note(mirror: Mirror, error: KernlockError | undefined, retryAfter?: number): void {
    const time = now();
    const failures = error === undefined ? 0 : (health.get(mirror.id)?.failures ?? 0) + 1;
    const pause =
      retryAfter === undefined ? Math.min(options.pauseMs * 2 ** (failures - 1), longestPauseMs) : retryAfter * 1000;
    const until = failures === 0 ? 0 : time.getTime() + pause;
    health.set(mirror.id, {
      askedAt: time.toISOString(),
      ok: error === undefined,
      code: error?.code ?? null,
      pausedUntil: failures === 0 ? null : new Date(until).toISOString(),
      failures,
      until,
    });
  }

  function pausedFor(mirror: Mirror): number {
    const left = (health.get(mirror.id)?.until ?? 0) - now().getTime();
    // A clock that jumped must not make a pause of days.
    return left > 0 && left <= 3600_000 ? left : 0;
  }

  /** One attempt, shared by all who ask; without any of the memory that `ask` looks at first. */
  function once(question: Question): Promise<Attempt> {
    return flights.share(keyOf(question), () => asking(question.via, () => attempt(question)));
  }

  return {
    once,
    isOwn,
    /** Whether this was asked a short time ago, as long as the mirror lets answers count. */
    isFresh: (question: Pick<Question, "mirror" | "repository" | "what">) =>
      fresh.get(keyOf(question), question.mirror.settings.freshSeconds) === true,
    refusalOf: (question: Pick<Question, "mirror" | "repository" | "what">) =>
      refusals.get(keyOf(question), options.refusedSeconds),
    forget(mirror: Mirror, repository?: string): void {
      const prefix = repository === undefined ? `${mirror.id} ` : `${mirror.id} ${repository} `;
      for (const memory of [absent, refusals, fresh]) memory.forget(prefix);
      own.forget(prefix.trimEnd());
      health.delete(mirror.id);
    },
    health: ({ id }: Mirror): Health => {
      const { askedAt = null, ok = null, code = null, pausedUntil = null } = health.get(id) ?? {};
      return { askedAt, ok, code, pausedUntil };
    },
    /** Throws why there is nothing to answer with. */
    async ask(question: Question): Promise<Outcome> {
      const { mirror, held } = question;
      const key = keyOf(question);
      if (goesRound(question.via, mirror)) return held ? "stale" : "absent";
      if (absent.get(key, options.absentSeconds)) return held ? "held" : "absent";
      const refusal = refusals.get(key, options.refusedSeconds);
      if (refusal !== undefined && !held) throw refusal;
      if (refusal !== undefined) return "stale";
      const pause = pausedFor(mirror);
      if (pause > 0 && !held) throw unavailable(Math.ceil(pause / 1000));
      if (pause > 0) return "stale";
      if (!(await isOwn(question))) return "held";
      const outcome = await within(options.patienceMs, once(question));
      if (outcome === undefined) {
        if (held) return "stale";
        throw new KernlockError("KL_MIRROR_FETCHING", "It is still being fetched from the upstream.", {
          remedy: "Ask again in a moment; the fetch goes on.",
          details: { retry_after: 5 },
        });
      }
      switch (outcome.kind) {
        case "fetched":
          return "fresh";
        case "absent":
          return "absent";
        case "unavailable":
        case "refused":
          if (held) return "stale";
          throw outcome.error;
      }
    },
  };
}

export type Asking = ReturnType<typeof createAsking>;
