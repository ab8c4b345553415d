/** A floor for the rate of request bodies: who drips one byte a second holds an upload, and all that stands behind it. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { bodyEnded, bytesArrived } from "./native/arrivals.ts";

export interface BodyFloor {
  /** 0: any rate will do. */
  readonly bytesPerSecond: number;
  /** Over how many seconds it is measured, again and again. */
  readonly seconds: number;
}

export const defaultBodyFloor: BodyFloor = { bytesPerSecond: 500, seconds: 20 };

/** `cut` is called once for a request whose body is still coming and came too slowly. */
export function watchBodies(
  floor: BodyFloor,
  cut: (request: FastifyRequest, reply: FastifyReply) => void,
): { watch(request: FastifyRequest, reply: FastifyReply): void; stop(): void } {
  const watched = new Map<FastifyRequest, { reply: FastifyReply; since: number; bytes: number }>();
  const look = (request: FastifyRequest, cutting: boolean) => {
    const entry = watched.get(request);
    if (entry === undefined) return;
    const { raw } = request;
    const elapsed = performance.now() - entry.since;
    if (bodyEnded(raw)) watched.delete(request);
    else if (elapsed >= floor.seconds * 1000) {
      const moved = bytesArrived(raw) - entry.bytes;
      // Bytes that wait here for us are not the client's fault.
      const slow = raw.readableLength === 0 && moved < (floor.bytesPerSecond * elapsed) / 1000;
      if (!slow) {
        entry.since = performance.now();
        entry.bytes = bytesArrived(raw);
      } else if (cutting) {
        watched.delete(request);
        cut(request, entry.reply);
      } else {
        // Timers run before sockets are read: if it was this process that stood still, the bytes come now.
        setImmediate(() => look(request, true));
      }
    }
  };
  const timer =
    floor.bytesPerSecond > 0
      ? setInterval(() => {
          for (const request of watched.keys()) look(request, false);
        }, floor.seconds * 250).unref()
      : undefined;
  return {
    watch(request, reply) {
      const { "content-length": length, "transfer-encoding": encoding } = request.headers;
      if (timer === undefined || (encoding === undefined && (length ?? "0") === "0")) return;
      watched.set(request, { reply, since: performance.now(), bytes: request.raw.socket.bytesRead });
      request.raw.once("close", () => watched.delete(request));
    },
    stop: () => clearInterval(timer),
  };
}
