import { fail } from "@kernlock/kernels/format";
import { isObject, shownValue } from "./fields.ts";
import type { ChatMessage } from "./types.ts";

const roles = ["system", "developer", "user", "assistant", "tool"];

/**
 * Checks a list of chat messages that came from outside.
 *
 * @throws KL_CHAT_MESSAGE
 */
export function parseMessages(value: unknown): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) return refuse("There are no messages.");
  return value.map((message: unknown, i) => {
    if (!isObject(message)) return refuse(`Message ${i} is no object.`);
    const { role, content, ...rest } = message;
    if (typeof role !== "string" || !roles.includes(role)) {
      return refuse(`Message ${i} has the role ${shownValue(role)}, which is none of ${roles.join(", ")}.`);
    }
    if (typeof content === "string") return { ...message, role };
    // A call of a tool or a mere thought has no content. Templates look whether the key is there: null would not do.
    if ((content === undefined || content === null) && role === "assistant") return { ...rest, role };
    return refuse(`The content of message ${i} is ${shownValue(content)}, not text.`);
  });
}

function refuse(message: string): never {
  return fail("KL_CHAT_MESSAGE", message, {
    remedy: 'A message is {"role": "user", "content": "What is a harbor?"}.',
  });
}
