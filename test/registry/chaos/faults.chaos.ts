/** Disks that fail, and descriptors that run out: the server stays, says that it is ill, and recovers. */
import { once } from "node:events";
import { Agent } from "node:http";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { putBlob } from "../../../registry-server/test/material.ts";
import { fallIll, faults, recovered, type Sick, startPlace, untilReady } from "../disk/faults.ts";
import { faultyDisk } from "../disk/library.ts";
import { report } from "./lab.ts";

test("failing disk", async () => {
  let disk: ReturnType<typeof faultyDisk> | undefined;
  const place = await startPlace((folder) => {
    disk = faultyDisk(folder);
    return { env: disk.env };
  });
  const sick: Sick[] = [];
  for (const fault of Object.keys(faults) as (keyof typeof faults)[]) sick.push(await fallIll(place, fault, disk!));
  const after = await recovered(place);
  report("failing disk", { sick, after });
  expect(after).toEqual({ crashed: false, publish: 201, readable: true, fsck_sound: true, damaged: 0 });
  for (const { redAfter, greenAfter } of sick) {
    expect(redAfter).toBeLessThan(5.5);
    expect(greenAfter).toBeLessThan(60);
  }
});

test("no descriptors left", async () => {
  const descriptors = 96;
  const place = await startPlace(() => ({ descriptors }));
  const { at, server } = place;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  await untilReady(at.origin, true, agent);
  const sockets = Array.from({ length: 2 * descriptors }, () =>
    connect(Number(new URL(at.origin).port), "127.0.0.1").on("error", () => {}),
  );
  const red_after = await untilReady(at.origin, false, agent);
  const write = await putBlob(at, at.write, "acme/norm", Buffer.from("now")).then(
    (answer) => answer.status,
    () => "connection refused",
  );
  const alive = server.process.exitCode === null;
  await Promise.all(sockets.map((socket) => (socket.destroyed ? null : once(socket.destroy(), "close"))));
  const green_after = await untilReady(at.origin, true, agent);
  agent.destroy();
  const after = await recovered(place);
  report("no descriptors left", { descriptors, red_after, green_after, write, after });
  expect([alive, after]).toEqual([
    true,
    { crashed: false, publish: 201, readable: true, fsck_sound: true, damaged: 0 },
  ]);
  expect(red_after).toBeLessThan(5.5);
});
