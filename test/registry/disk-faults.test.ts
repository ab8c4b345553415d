/** What fails on the way to the disk; `npm run chaos -- -t "failing disk"` adds a slow one and takes the times. */
import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { digestOf } from "@kernlock/kernels/format";
import { expect, onTestFinished, test, vi } from "vitest";
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

test.each(["native", "javascript"] as const)(
  "a disk that is full in the middle of a body is told at once, and the upload goes on when there is room (%s bodies)",
  {
    timeout: 300_000,
  },
  async (transfers) => {
    let disk: ReturnType<typeof faultyDisk> | undefined;
    const { at, dataFolder } = await startPlace(
      (folder) => {
        disk = faultyDisk(folder);
        return { env: disk.env };
      },
      { transfers },
    );
    const bytes = randomBytes(20_000_000);
    const headers = { authorization: `Bearer ${at.write}` };
    const begun = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST", headers });
    const path = begun.headers.get("location")!;

    const socket = connect(Number(new URL(at.origin).port), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    let answer = "";
    socket.on("data", (part) => (answer += part.toString("latin1"))).on("error", () => {});
    socket.write(
      `PATCH ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${at.write}\r\nContent-Length: ${bytes.length}\r\n\r\n`,
    );
    socket.write(bytes.subarray(0, 3_000_000));
    const file = join(dataFolder, "uploads", path.split("/").at(-1)!);
    await vi.waitFor(() => expect(statSync(file).size).toBeGreaterThan(1_000_000), { timeout: 60_000 });
    disk!.set({ write: "ENOSPC" });
    // All of it: a connection that is reset over what nobody reads would lose the answer.
    await new Promise((written) => socket.write(bytes.subarray(3_000_000), written));
    await vi.waitFor(() => expect(answer).toMatch(/^HTTP\/1\.1 507 .*KL_REGISTRY_STORAGE_FULL/s), { timeout: 60_000 });

    disk!.set({});
    const arrived = await vi.waitFor(
      async () => {
        const status = await fetch(at.origin + path, { headers });
        expect(status.status).toBe(204);
        return Number(status.headers.get("range")!.split("-")[1]) + 1;
      },
      { timeout: 60_000 },
    );
    expect(arrived).toBeGreaterThan(1_000_000);
    expect(arrived).toBeLessThanOrEqual(3_000_000);
    const url = `${at.origin}${path}?digest=${digestOf(bytes)}`;
    const rest = await fetch(url, { method: "PUT", headers, body: new Uint8Array(bytes.subarray(arrived)) });
    expect(rest.status).toBe(201);
    const back = await fetch(`${at.origin}/v2/acme/norm/blobs/${digestOf(bytes)}`, { headers });
    expect(bytes.equals(Buffer.from(await back.arrayBuffer()))).toBe(true);
  },
);
