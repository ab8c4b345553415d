/** Chat templates are rendered for the host by a process of its caller: the host may start none. */
import { type FromHost, fromWireError, type ToHost } from "../client/protocol.ts";
import type { RawRenderer } from "../model/index.ts";

export interface RemoteTemplates extends RawRenderer {
  receive(message: Extract<ToHost, { type: "rendered" | "unrendered" }>): void;
}

export function remoteTemplates(send: (message: FromHost) => unknown): RemoteTemplates {
  const waiting = new Map<number, PromiseWithResolvers<string>>();
  let nextId = 0;
  return {
    render(variables) {
      const answer = Promise.withResolvers<string>();
      waiting.set(nextId, answer);
      send({ type: "render", id: nextId++, variables });
      return answer.promise;
    },
    receive(message) {
      const answer = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.type === "rendered") answer?.resolve(message.text);
      else answer?.reject(fromWireError(message.error));
    },
    close: async () => {},
  };
}
