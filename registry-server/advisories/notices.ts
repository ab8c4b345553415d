/** Filing what is known about versions, and serving the feeds that were signed elsewhere. */
import { canonicalJson, type Digest, digestOf, fail, isPackageName, parseStrictJson } from "@kernlock/kernels/format";
import {
  ecosystem,
  type Osv,
  osvSchema,
  type Revocation,
  readFeed,
  revocation,
  trustedKey,
} from "@kernlock/policies/trust";
import { z } from "zod";
import type { NoticeRow, Records, ServedFeed } from "../store/records.ts";

export const maxAdvisoryBytes = 512 << 10;
export const maxFeedBytes = 8 << 20;
const maxKeys = 16;

const instant = z.iso.datetime({ offset: true });
const strictEnough = osvSchema.extend({
  id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/, "is not an identifier"),
  modified: instant,
  withdrawn: instant.optional(),
});
/** As policies name their feeds. */
const feedId = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

export interface FiledRevocation {
  readonly id: string;
  readonly entry: Revocation;
  readonly filedAt: string;
  readonly filedBy: string;
  readonly withdrawnAt: string | null;
}

export interface FeedDescription extends Omit<ServedFeed, "keys"> {
  /** Fingerprints of the keys that may sign it. */
  readonly signers: readonly string[];
}

export interface Notices {
  /**
   * Files an OSV record, or a newer state of one. KL_REGISTRY_ADVISORY_INVALID: not a record, or it names no package of
   * a registry; KL_REGISTRY_NOTICE_OLDER: its `modified` is not above that of the one that stands.
   */
  fileAdvisory(bytes: Uint8Array): Promise<Osv>;
  /** It stays, with the time at which it was withdrawn, and concerns nothing any more. KL_REGISTRY_NOTICE_UNKNOWN. */
  withdrawAdvisory(id: string): Promise<Osv>;
  /** Oldest first, withdrawn ones among them. */
  listAdvisories(): Promise<Osv[]>;
  /** Something that the next number of a feed of revocations is to say. KL_REGISTRY_ADVISORY_INVALID. */
  fileRevocation(entry: unknown): Promise<FiledRevocation>;
  withdrawRevocation(id: string): Promise<FiledRevocation>;
  listRevocations(): Promise<FiledRevocation[]>;
  /** What is filed, and what is in quarantine, each version by the digest of its index. */
  revocationEntries(): Promise<Revocation[]>;
  /** A feed to serve, and whose signatures it takes. Throws KL_REGISTRY_FEED_EXISTS, KL_POLICY_KEY. */
  serveFeed(feed: { id: string; kind: ServedFeed["kind"]; keys: readonly string[] }): Promise<FeedDescription>;
  /** KL_REGISTRY_NO_FEED. */
  setFeedKeys(id: string, keys: readonly string[]): Promise<FeedDescription>;
  /** The next number. Throws KL_BUNDLE_*, KL_FEED_*, KL_REGISTRY_NO_FEED, KL_REGISTRY_NOTICE_OLDER. */
  putServedFeed(id: string, bundle: Uint8Array): Promise<FeedDescription>;
  listServedFeeds(): Promise<FeedDescription[]>;
}

/**
 * `permit` is asked before anything about these packages is changed; `*` is everything. `reader` (of `readerOf`) says
 * whose private versions are named.
 */
export function createNotices(
  records: Records,
  now: () => Date,
  actor: string,
  permit: (packages: readonly string[]) => void = () => {},
  reader = "*",
): Notices {
  const audit = (action: string, subject: string, details: Record<string, unknown>) => ({
    at: now().toISOString(),
    actor,
    action,
    subject,
    details,
  });

  async function putAdvisory(osv: Osv, before: NoticeRow | undefined, action: string): Promise<Osv> {
    const packages = packagesOf(osv);
    const row: NoticeRow = {
      kind: "advisory",
      id: osv.id,
      body: canonicalJson(osv),
      filedAt: before?.filedAt ?? now().toISOString(),
      filedBy: before?.filedBy ?? actor,
      withdrawnAt: osv.withdrawn ?? null,
    };
    const entry = audit(action, osv.id, { packages, modified: osv.modified });
    if (!(await records.putNotice(row, before?.body ?? null, packages, entry))) olderThan(osv.id);
    return osv;
  }

  return {
    async fileAdvisory(bytes) {
      const osv = parseAdvisory(bytes);
      permit(packagesOf(osv));
      const before = await records.notice("advisory", osv.id);
      if (before === undefined) return putAdvisory(osv, undefined, "advisory.file");
      const stands = JSON.parse(before.body) as Osv;
      permit(packagesOf(stands));
      if (before.body === canonicalJson(osv)) return stands;
      if (Date.parse(osv.modified) <= Date.parse(stands.modified)) olderThan(osv.id);
      return putAdvisory(osv, before, "advisory.change");
    },
    async withdrawAdvisory(id) {
      const before = (await records.notice("advisory", id)) ?? unknown("advisory", id);
      const stands = JSON.parse(before.body) as Osv;
      permit(packagesOf(stands));
      if (stands.withdrawn !== undefined) return stands;
      // Never before the record's own time, whatever clock that was.
      const at = new Date(Math.max(now().getTime(), Date.parse(stands.modified) + 1)).toISOString();
      return putAdvisory({ ...stands, modified: at, withdrawn: at }, before, "advisory.withdraw");
    },
    listAdvisories: async () => (await records.notices("advisory")).map(({ body }) => JSON.parse(body) as Osv),

    async fileRevocation(given) {
      permit(["*"]);
      const parsed = revocation.safeParse(given);
      if (!parsed.success) return invalid(parsed.error, "The revocation");
      const body = canonicalJson(parsed.data);
      const id = digestOf(body).slice("sha256:".length, "sha256:".length + 12);
      const before = await records.notice("revocation", id);
      if (before !== undefined && before.withdrawnAt === null) return filed(before);
      const at = now().toISOString();
      const row: NoticeRow = { kind: "revocation", id, body, filedAt: at, filedBy: actor, withdrawnAt: null };
      const packages = parsed.data.kind === "kernel" ? [parsed.data.name] : [];
      await records.putNotice(row, before?.body ?? null, packages, audit("revocation.file", id, parsed.data));
      return filed(row);
    },
    async withdrawRevocation(id) {
      permit(["*"]);
      const before = (await records.notice("revocation", id)) ?? unknown("revocation", id);
      if (before.withdrawnAt !== null) return filed(before);
      const row = { ...before, withdrawnAt: now().toISOString() };
      await records.putNotice(row, before.body, [], audit("revocation.withdraw", id, {}));
      return filed(row);
    },
    listRevocations: async () => (await records.notices("revocation")).map(filed),
    async revocationEntries() {
      const standing = (await records.notices("revocation")).filter((row) => row.withdrawnAt === null);
      const withheld = (await records.flaggedVersions(reader)).filter((row) => row.state === "quarantined");
      return [
        ...standing.map((row) => JSON.parse(row.body) as Revocation),
        ...withheld.map((row) => ({
          kind: "digest" as const,
          digest: row.digest as Digest,
          reason: `${row.repository} ${row.version} is in quarantine${row.stateReason === null ? "" : `: ${line(row.stateReason)}`}`,
        })),
      ];
    },

    async serveFeed({ id, kind, keys }) {
      permit(["*"]);
      if (!feedId.test(id) || id.length > 64) {
        fail("KL_REGISTRY_NAME_INVALID", `"${id}" is not the name of a feed.`, {
          remedy: "Use lower case letters and digits, with single dots, dashes or underscores between them.",
        });
      }
      const row = { id, kind, keys: checkedKeys(keys), createdAt: now().toISOString() };
      const details = { kind, signers: fingerprints(row.keys) };
      if (!(await records.addServedFeed(row, audit("feed.create", id, details)))) {
        fail("KL_REGISTRY_FEED_EXISTS", `The registry serves a feed "${id}" already.`, {
          remedy: "Choose another name, or give that one other keys.",
        });
      }
      return described({ ...row, sequence: null, issued: null, uploadedAt: null });
    },
    async setFeedKeys(id, keys) {
      permit(["*"]);
      const checked = checkedKeys(keys);
      const entry = audit("feed.keys", id, { signers: fingerprints(checked) });
      if (!(await records.setFeedKeys(id, checked, entry))) noFeed(id);
      return described((await records.servedFeed(id))!);
    },
    async putServedFeed(id, bundle) {
      permit(["*"]);
      const feed = (await records.servedFeed(id)) ?? noFeed(id);
      const keys = keysOf(feed.keys);
      const { sequence, issued } = readFeed(bundle, { id, kind: feed.kind, keys, now: now() });
      const served = await records.feedBundle(id);
      if (served !== undefined && Buffer.compare(served, bundle) === 0) return described(feed);
      const entry = audit("feed.put", id, { sequence, issued, bundle: digestOf(bundle) });
      const row = { id, sequence, issued, bundle: Buffer.from(bundle), at: entry.at, by: actor };
      const back = feed.issued !== null && Date.parse(issued) < Date.parse(feed.issued);
      if (back || !(await records.putFeedBundle(row, entry))) {
        const stands = await records.servedFeed(id);
        fail("KL_REGISTRY_NOTICE_OLDER", `The feed "${id}" is at number ${stands?.sequence}; this is ${sequence}.`, {
          remedy: `Sign it again, now, with --sequence ${(stands?.sequence ?? 0) + 1} or above.`,
          details: { served: stands?.sequence ?? null, sequence },
        });
      }
      return described((await records.servedFeed(id))!);
    },
    listServedFeeds: async () => (await records.servedFeeds()).map(described),
  };
}

function parseAdvisory(bytes: Uint8Array): Osv {
  const parsed = strictEnough.safeParse(
    parseStrictJson(bytes, { maxBytes: maxAdvisoryBytes, maxDepth: 32, what: "The advisory" }),
  );
  if (!parsed.success) return invalid(parsed.error, "The advisory");
  const named = parsed.data.affected.filter((entry) => entry.package?.ecosystem === ecosystem);
  if (named.length === 0 || !named.every((entry) => isPackageName(entry.package?.name ?? ""))) {
    fail("KL_REGISTRY_ADVISORY_INVALID", "The advisory names no kernel package.", {
      remedy: `Under \`affected\`, give packages of the ecosystem "${ecosystem}" by namespace/name.`,
    });
  }
  return parsed.data;
}

/** A reason in one line of a feed. */
const line = (text: string): string => text.replaceAll(/\s+/g, " ").slice(0, 300);

/** The kernel packages that a record names. */
export function packagesOf(osv: Osv): string[] {
  const names = osv.affected.flatMap((entry) => (entry.package?.ecosystem === ecosystem ? entry.package.name : []));
  return [...new Set(names)].sort();
}

function filed({ id, body, filedAt, filedBy, withdrawnAt }: NoticeRow): FiledRevocation {
  return { id, entry: JSON.parse(body) as Revocation, filedAt, filedBy, withdrawnAt };
}

function described({ keys, ...feed }: ServedFeed): FeedDescription {
  return { ...feed, signers: fingerprints(keys) };
}

function checkedKeys(keys: readonly string[]): string {
  if (keys.length === 0 || keys.length > maxKeys) {
    fail("KL_REGISTRY_BAD_REQUEST", `A feed has 1 to ${maxKeys} keys.`, { remedy: "Give the keys that sign it." });
  }
  const text = JSON.stringify(keys);
  keysOf(text);
  return text;
}

const keysOf = (keys: string) => (JSON.parse(keys) as string[]).map((pem, i) => trustedKey(`key-${i + 1}`, pem));
const fingerprints = (keys: string) => keysOf(keys).map((key) => key.fingerprint);

function invalid(error: z.ZodError, what: string): never {
  const issue = error.issues[0]!;
  return fail("KL_REGISTRY_ADVISORY_INVALID", `${what}'s ${issue.path.join(".") || "form"}: ${issue.message}.`, {
    remedy: "docs/operations.md shows one.",
  });
}

function olderThan(id: string): never {
  return fail("KL_REGISTRY_NOTICE_OLDER", `The advisory ${id} stands here in a state that is as new or newer.`, {
    remedy: "Take that one as the base, and give it a later `modified`.",
    details: { id },
  });
}

function unknown(kind: "advisory" | "revocation", id: string): never {
  return fail("KL_REGISTRY_NOTICE_UNKNOWN", `There is no ${kind} ${id.slice(0, 128)}.`, {
    remedy: `List them with \`kernlock registry ${kind} list\`.`,
  });
}

export function noFeed(id: string): never {
  return fail("KL_REGISTRY_NO_FEED", `The registry serves no feed "${id.slice(0, 64)}", or none yet.`, {
    remedy: "List feeds with `kernlock registry feed list`.",
  });
}
