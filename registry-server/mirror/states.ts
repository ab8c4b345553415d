/**
 * What a Kernlock upstream yanks or quarantines is yanked or withheld here too. It can only be made worse from outside:
 * what an operator here decided, and what an operator here took back, stays until the upstream says something new.
 */
import { fail, parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import { createAdmin } from "../admin.ts";
import { readBody } from "../body.ts";
import type { VersionState } from "../store/records.ts";
import type { Kit } from "./kit.ts";
import { actorOf, localRepository, type Mirror } from "./mirrors.ts";

const maxBytes = 8 << 20;
const shape = z.looseObject({
  revocations: z.array(
    z.looseObject({
      name: z.string().max(128),
      version: z.string().max(128),
      state: z.enum(["yanked", "quarantined"]),
      state_reason: z.string().nullish(),
    }),
  ),
});
const severity: Readonly<Record<VersionState, number>> = { ok: 0, staged: 0, rejected: 0, yanked: 1, quarantined: 2 };

export interface UpstreamState {
  readonly repository: string;
  readonly version: string;
  readonly state: "yanked" | "quarantined";
  readonly reason: string;
}

/** What the upstream says about names of this mirror; undefined where it is no Kernlock registry. */
export async function askStates(kit: Kit, mirror: Mirror): Promise<readonly UpstreamState[] | undefined> {
  const signal = AbortSignal.timeout(kit.options.documentMs);
  const { http } = kit.upstream(mirror);
  const answer = await http.send("GET", "/api/v1/revocations", { headers: { accept: "application/json" }, signal });
  const body = await readBody(answer.body, maxBytes);
  if (answer.status >= 500 || answer.status === 429) {
    fail("KL_OCI_CONNECT", "The upstream does not say what it holds back.", { details: { status: answer.status } });
  }
  const json = answer.status === 200 && isJson(answer.headers["content-type"]) ? parseStrictJson(body) : undefined;
  const parsed = shape.safeParse(json);
  if (!parsed.success) return undefined;
  return parsed.data.revocations.flatMap(({ name, version, state, state_reason }) => {
    const repository = localRepository(mirror, name);
    const reason = (state_reason ?? "").replace(/\p{C}/gu, " ").slice(0, 900);
    return repository === undefined
      ? []
      : [{ repository, version, state, reason: `at ${mirror.origin}${reason === "" ? "" : `: ${reason}`}` }];
  });
}

/** Brings what is held here to what the upstream says. Returns how many versions changed. */
export async function applyStates(kit: Kit, mirror: Mirror, states: readonly UpstreamState[]): Promise<number> {
  const { records, now } = kit.context;
  const seen = new Map(
    (await records.upstreamStates(mirror.id)).map((row) => [`${row.repository}@${row.version}`, row]),
  );
  const admin = createAdmin(records, now, actorOf(mirror));
  let changed = 0;
  for (const { repository, version, state, reason } of states) {
    const key = `${repository}@${version}`;
    const before = seen.get(key);
    seen.delete(key);
    const held = await records.version(repository, version);
    if (held === undefined || before?.state === state) continue;
    if (severity[state] > severity[held.state]) {
      await admin.setVersionState({ repository, version, state, reason });
      changed++;
    }
    await records.noteUpstreamState({ mirror: mirror.id, repository, version, state });
  }
  // What is left was taken back there; here it is, if nobody here has said anything since.
  for (const { repository, version, state } of seen.values()) {
    const held = await records.versionStateBy(repository, version);
    if (held?.state === state && held.by === actorOf(mirror)) {
      await admin.setVersionState({ repository, version, state: "ok", reason: `taken back at ${mirror.origin}` });
      changed++;
    }
    await records.noteUpstreamState({ mirror: mirror.id, repository, version, state: null });
  }
  return changed;
}

function isJson(type: string | string[] | undefined): boolean {
  return /^application\/json\b/.test([type ?? ""].flat()[0] ?? "");
}
