/** What is known of bodies that the HTTP parser does not see arrive. */
import type { IncomingMessage } from "node:http";

interface Arrival {
  /** Bytes that came past the parser. */
  bytes(): number;
  /** Nothing more is waited for. */
  ended: boolean;
}

export const arrivals = new WeakMap<IncomingMessage, Arrival>();

/** All bytes that came on the connection of a request. */
export const bytesArrived = (request: IncomingMessage): number =>
  request.socket.bytesRead + (arrivals.get(request)?.bytes() ?? 0);

export const bodyEnded = (request: IncomingMessage): boolean =>
  request.complete || request.destroyed || arrivals.get(request)?.ended === true;
