/** Upload sessions: bytes on their way to becoming a blob of a repository. They die with the process, or when idle. */
import { fail } from "@kernlock/kernels/format";
import type { BlobStore, Incoming } from "../store/blobs.ts";

export interface Session {
  readonly incoming: Incoming;
  readonly repository: string;
  readonly tokenId: string;
}

export interface Uploads {
  begin(repository: string, tokenId: string): Promise<Session>;
  /** Runs `work` with nobody else on the session. KL_REGISTRY_UPLOAD_UNKNOWN, KL_REGISTRY_UPLOAD_BUSY. */
  use<T>(
    id: string,
    owner: { repository: string; tokenId: string },
    work: (session: Session) => Promise<T>,
  ): Promise<T>;
  /** Forgets the session and removes its bytes; harmless after a commit. */
  end(session: Session): Promise<void>;
  /** How many are open. */
  count(): number;
  close(): Promise<void>;
}

const idleMs = 60 * 60 * 1000;
const maxSessions = 1000;

export function createUploads(blobs: BlobStore): Uploads {
  const sessions = new Map<string, { session: Session; busy: boolean; touched: number }>();
  const end = async (session: Session) => {
    sessions.delete(session.incoming.id);
    await session.incoming.abort();
  };
  const sweep = setInterval(() => {
    const limit = performance.now() - idleMs;
    for (const { session, busy, touched } of sessions.values()) if (!busy && touched < limit) void end(session);
  }, 60_000).unref();

  return {
    async begin(repository, tokenId) {
      if (sessions.size >= maxSessions) {
        fail("KL_REGISTRY_UPLOAD_LIMIT", `${maxSessions} uploads are open already.`, { remedy: "Try again later." });
      }
      const session = { incoming: await blobs.begin(), repository, tokenId };
      sessions.set(session.incoming.id, { session, busy: false, touched: performance.now() });
      return session;
    },
    async use(id, owner, work) {
      const entry = sessions.get(id);
      // Another token's session is as good as none.
      if (entry?.session.repository !== owner.repository || entry.session.tokenId !== owner.tokenId) {
        return fail("KL_REGISTRY_UPLOAD_UNKNOWN", "There is no such upload; it was finished, cancelled or left idle.", {
          remedy: "Start the upload again.",
        });
      }
      if (entry.busy) {
        fail("KL_REGISTRY_UPLOAD_BUSY", "Another request is writing to this upload.", {
          remedy: "Send chunks in turn.",
        });
      }
      entry.busy = true;
      try {
        return await work(entry.session);
      } finally {
        entry.busy = false;
        entry.touched = performance.now();
      }
    },
    end,
    count: () => sessions.size,
    async close() {
      clearInterval(sweep);
      await Promise.all([...sessions.values()].map(({ session }) => end(session)));
    },
  };
}
