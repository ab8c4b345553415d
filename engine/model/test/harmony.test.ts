import { join } from "node:path";
import { createHarmonyParser, type HarmonyEvent, loadTokenizer, openModel } from "@kernlock/engine/model";
import { describe, expect, it } from "vitest";

const model = openModel(join(import.meta.dirname, "../../../models/dictionary"));
const tokenizer = loadTokenizer(model)!;
model.close();
const ids = (text: string): number[] => tokenizer.encode(text, { special: true });

function parse(answer: string | readonly number[], prompt?: string) {
  const parser = createHarmonyParser(tokenizer, prompt === undefined ? undefined : ids(prompt))!;
  const events: HarmonyEvent[] = [];
  for (const id of typeof answer === "string" ? ids(answer) : answer) events.push(...parser.push(id));
  events.push(...parser.end());
  return { channels: parser.channels, messages: parser.messages, events };
}

const thought =
  "<|channel|>analysis<|message|>Let me think.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>";

describe("an answer", () => {
  it("is told apart by channel", () => {
    const { channels, messages } = parse(thought);
    expect(channels).toEqual({ analysis: "Let me think.", final: "Yes." });
    expect(messages.map(({ role, complete }) => ({ role, complete }))).toEqual([
      { role: "assistant", complete: true },
      { role: "assistant", complete: true },
    ]);
  });

  it("comes as events in order", () => {
    const { events } = parse(thought);
    const kinds = events.map((event) => `${event.kind} ${event.channel}`);
    expect(kinds.filter((kind, i) => kind !== kinds[i - 1])).toEqual([
      "begin analysis",
      "text analysis",
      "end analysis",
      "begin final",
      "text final",
      "end final",
    ]);
    const texts = events.map((event) => (event.kind === "text" ? event.text : ""));
    expect(texts.join("")).toBe("Let me think.Yes.");
  });

  it("that is cut short has the channels that occurred", () => {
    expect(parse("<|channel|>analysis<|message|>Let").channels).toEqual({ analysis: "Let" });
    expect(parse("<|channel|>analysis").channels).toEqual({});
    expect(parse("<|channel|>final<|message|>").channels).toEqual({ final: "" });
    expect(parse("<|channel|>final<|message|>x").messages[0]!.complete).toBe(false);
  });

  it("calls a tool", () => {
    const call = ' to=functions.weather<|channel|>commentary <|constrain|>json<|message|>{"city":"Bern"}<|call|>';
    expect(parse(call).messages).toEqual([
      {
        role: "assistant",
        channel: "commentary",
        recipient: "functions.weather",
        text: '{"city":"Bern"}',
        complete: true,
      },
    ]);
    const other = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{}<|call|>";
    expect(parse(other).messages[0]).toMatchObject({ channel: "commentary", recipient: "functions.weather" });
  });

  it("with two messages in one channel joins them by a line feed", () => {
    const twice = "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>";
    expect(parse(twice).channels).toEqual({ analysis: "a\nb" });
  });

  it("holds back incomplete characters, and gives them up at the end of the message", () => {
    const unicorn = tokenizer.encode("🦄", { special: false });
    const head = ids("<|channel|>final<|message|>");
    const texts = (events: readonly HarmonyEvent[]) =>
      events.flatMap((event) => (event.kind === "text" ? [event.text] : []));
    expect(texts(parse([...head, ...unicorn]).events)).toEqual(["🦄"]);
    expect(texts(parse([...head, ...unicorn.slice(0, 2), ...ids("<|end|>")]).events)).toEqual(["\ufffd"]);
    expect(parse([...head, ...unicorn.slice(0, 2)]).channels).toEqual({ final: "\ufffd" });
  });
});

describe("what is not harmony", () => {
  it("is text without a channel", () => {
    const { events, channels } = parse(" and so on", "Once upon a time");
    expect(channels).toEqual({});
    expect(events.every((event) => event.kind === "text" && event.channel === null)).toBe(true);
  });

  it("never throws, whatever ids come", () => {
    let seed = 7;
    const random = (n: number): number => {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      return seed % n;
    };
    const noise = Array.from({ length: 5000 }, () => (random(3) === 0 ? 4086 + random(12) : random(4086)));
    expect(() => parse(noise)).not.toThrow();
  });

  it("marks inside a text are dropped, other special tokens too", () => {
    const { channels } = parse(
      "<|channel|>final<|message|>a<|channel|>b<|message|>c<|constrain|>d<|endofprompt|>e<|return|>",
    );
    expect(channels).toEqual({ final: "abcde" });
  });

  it("a channel of any name is just a name", () => {
    expect(Object.keys(parse("<|channel|>__proto__<|message|>x<|end|>").channels)).toEqual(["__proto__"]);
  });
});

describe("after a prompt", () => {
  it("that ends inside a message, the answer goes on in it", () => {
    const prompt = "<|start|>user<|message|>Hi<|end|><|start|>assistant<|channel|>final<|message|>Well,";
    expect(parse(" yes.<|return|>", prompt).channels).toEqual({ final: " yes." });
  });

  it("that ends in a header", () => {
    const prompt = "<|start|>assistant<|channel|>analysis";
    expect(parse("<|message|>Hm.<|end|>", prompt).channels).toEqual({ analysis: "Hm." });
  });
});

it("a tokenizer without harmony tokens has no parser", () => {
  expect(createHarmonyParser({ ...tokenizer, specials: new Map() })).toBeNull();
});
