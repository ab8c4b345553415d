import type { DecodeStream, HarmonyEvent, HarmonyMessage, HarmonyParser, Tokenizer } from "./types.ts";

type Mark = "start" | "channel" | "message" | "end" | "return" | "call" | "constrain";
const marks: readonly Mark[] = ["start", "channel", "message", "end", "return", "call", "constrain"];

/**
 * A parser for what a model says after `promptIds`; null if the tokenizer has no harmony tokens.
 * Without `promptIds` the answer begins inside the assistant's header, as after `<|start|>assistant`.
 *
 * A message is `<|start|>ROLE[ to=WHO]<|channel|>NAME[ to=WHO][<|constrain|>TYPE]<|message|>TEXT`, ended by `<|end|>`,
 * `<|return|>` or `<|call|>`. Whatever comes is taken: text outside of any message is reported without a channel.
 */
export function createHarmonyParser(tokenizer: Tokenizer, promptIds?: readonly number[]): HarmonyParser | null {
  const byId = new Map<number, Mark>();
  for (const mark of marks) {
    const id = tokenizer.specials.get(`<|${mark}|>`);
    if (id !== undefined) byId.set(id, mark);
    else if (mark === "start" || mark === "channel" || mark === "message" || mark === "end") return null;
  }
  const special = new Set(tokenizer.specials.values());
  const parser = new Parser(tokenizer.decodeStream(), byId, special);
  if (promptIds === undefined) parser.beginHeader("assistant");
  else {
    // Everything before the last start is history; what counts is where it leaves the parser.
    const start = tokenizer.specials.get("<|start|>")!;
    for (const id of promptIds.slice(Math.max(promptIds.lastIndexOf(start), 0))) parser.push(id);
    parser.forget();
  }
  return parser;
}

/** Where the parser stands: outside of any message, in a part of a header, or in a message's text. */
type State = "outside" | "role" | "channel" | "constrain" | "text";

interface Open {
  role: string;
  channel: string | null;
  recipient: string | null;
  text: string;
  complete: boolean;
}

class Parser implements HarmonyParser {
  readonly #stream: DecodeStream;
  readonly #marks: ReadonlyMap<number, Mark>;
  readonly #special: ReadonlySet<number>;
  #state: State = "outside";
  #header: Record<"role" | "channel" | "constrain", string> = { role: "", channel: "", constrain: "" };
  #message: Open | null = null;
  #messages: Open[] = [];

  constructor(stream: DecodeStream, byId: ReadonlyMap<number, Mark>, special: ReadonlySet<number>) {
    this.#stream = stream;
    this.#marks = byId;
    this.#special = special;
  }

  get messages(): readonly HarmonyMessage[] {
    return this.#messages;
  }

  get channels(): Record<string, string> {
    const texts = new Map<string, string>();
    for (const { channel, text } of this.#messages) {
      if (channel === null) continue;
      const before = texts.get(channel);
      texts.set(channel, before === undefined ? text : `${before}\n${text}`);
    }
    return Object.fromEntries(texts);
  }

  beginHeader(role: string): void {
    this.#header = { role, channel: "", constrain: "" };
    this.#state = "role";
  }

  /** Keeps the state, drops what was collected: a message that the prompt has begun goes on empty. */
  forget(): void {
    if (this.#message !== null) this.#message.text = "";
    this.#messages = this.#message === null ? [] : [this.#message];
  }

  push(id: number): HarmonyEvent[] {
    const mark = this.#marks.get(id);
    if (mark !== undefined) return [...this.#take(this.#stream.end()), ...this.#mark(mark)];
    return this.#special.has(id) ? this.#take(this.#stream.end()) : this.#take(this.#stream.push(id));
  }

  end(): HarmonyEvent[] {
    return this.#take(this.#stream.end());
  }

  #take(text: string): HarmonyEvent[] {
    if (text === "") return [];
    switch (this.#state) {
      case "role":
      case "channel":
      case "constrain":
        this.#header[this.#state] += text;
        return [];
      case "text":
        this.#message!.text += text;
        return [{ kind: "text", channel: this.#message!.channel, text }];
      case "outside":
        return [{ kind: "text", channel: null, text }];
      default:
        return this.#state satisfies never;
    }
  }

  #mark(mark: Mark): HarmonyEvent[] {
    switch (mark) {
      case "start": {
        const events = this.#close(false);
        this.beginHeader("");
        return events;
      }
      case "channel":
      case "constrain":
        // Inside a text it would be a stray mark; a header is where it means something.
        if (this.#state !== "text") this.#state = mark;
        return [];
      case "message":
        return this.#state === "text" ? [] : [this.#open()];
      case "end":
      case "return":
      case "call":
        return this.#close(true);
      default:
        return mark satisfies never;
    }
  }

  #open(): HarmonyEvent {
    const { role, channel } = this.#header;
    const recipient = /(?:^|\s)to=(\S+)/.exec(`${role} ${channel}`)?.[1] ?? null;
    const name = channel.trim().split(/\s+/)[0] ?? "";
    this.#message = {
      role: role.trim().split(/\s+/)[0] || "assistant",
      channel: name === "" || name.startsWith("to=") ? null : name,
      recipient,
      text: "",
      complete: false,
    };
    this.#messages.push(this.#message);
    this.#state = "text";
    const { role: from, channel: to } = this.#message;
    return { kind: "begin", channel: to, role: from, recipient };
  }

  #close(complete: boolean): HarmonyEvent[] {
    const message = this.#message;
    this.#message = null;
    this.#state = "outside";
    this.#header = { role: "", channel: "", constrain: "" };
    if (message === null) return [];
    message.complete = complete;
    return [{ kind: "end", channel: message.channel }];
  }
}
