/** What fails on the way to the disk; `npm run chaos -- -t "failing disk"` adds a slow one and takes the times. */
import { expect, test } from "vitest";
import { fallIll, recovered, startPlace } from "./disk/faults.ts";
import { faultyDisk } from "./disk/library.ts";

test.each(["native", "javascript"] as const)(
  "a server whose disk fails says so, refuses writes, hands out what it has, and recovers (%s bodies)",
  {
    timeout: 300_000,
  },
  async (transfers) => {
    let disk: ReturnType<typeof faultyDisk> | undefined;
    const place = await startPlace(
      (folder) => {
        disk = faultyDisk(folder);
        return { env: disk.env };
      },
      { transfers },
    );
    for (const fault of ["EIO when syncing", "EROFS, read-only"] as const) {
      expect(await fallIll(place, fault, disk!)).toMatchObject({ writes: [503, 503], reads: [200, 200] });
    }
    expect(await recovered(place)).toEqual({
      crashed: false,
      publish: 201,
      readable: true,
      fsck_sound: true,
      damaged: 0,
    });
  },
);
