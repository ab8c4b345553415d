import type { SignedEntity } from "@sigstore/verify";
import { refuse } from "./refusal.ts";
import type { Window } from "./root.ts";
import type { TrustedTime } from "./types.ts";

type Stamp = SignedEntity["timestamps"][number];

/** The times that the library will prove. An entry without a promise has no time: its field is signed by nobody (G10). */
export function timesOf(entity: SignedEntity): TrustedTime[] {
  return entity.timestamps.flatMap((stamp): TrustedTime[] => {
    switch (stamp.$case) {
      case "timestamp-authority": {
        const { signerSerialNumber, signerIssuer, signingTime } = stamp.timestamp;
        const authority = `${signerSerialNumber.toString("hex")}:${signerIssuer.toString("hex")}`;
        return [{ source: "timestamp", authority, time: signingTime }];
      }
      case "transparency-log": {
        const { inclusionPromise, logId, integratedTime } = stamp.tlogEntry;
        const time = new Date(Number(integratedTime) * 1000);
        return inclusionPromise ? [{ source: "log", authority: logId.keyId.toString("hex"), time }] : [];
      }
      default:
        throw new TypeError(`unknown timestamp ${stamp satisfies never}`);
    }
  });
}

/** The caller's clock in the form in which the library takes a time; it proves nothing and counts for no threshold. */
export function clockStamp(now: Date): Stamp {
  const tlogEntry = {
    inclusionPromise: {},
    logId: { keyId: Buffer.from("clock") },
    integratedTime: String(Math.floor(now.getTime() / 1000)),
  };
  return { $case: "transparency-log", tlogEntry } as unknown as Stamp;
}

/** Sources count once, however often they speak. */
export function checkTimes(times: readonly TrustedTime[], demanded: number): void {
  if (times.some(({ time }) => Number.isNaN(time.getTime()))) {
    refuse("KL_BUNDLE_TIMESTAMP", "A timestamp of the bundle holds no time.");
  }
  const sources = new Set(times.map(({ source, authority }) => `${source} ${authority}`)).size;
  if (sources < demanded) {
    refuse("KL_BUNDLE_TIME", `The bundle proves its time by ${sources} sources; ${demanded} are demanded.`, {
      found: sources,
      demanded,
    });
  }
}

export function contains({ start, end }: Window, time: Date): boolean {
  return start <= time && (end === undefined || time <= end);
}
