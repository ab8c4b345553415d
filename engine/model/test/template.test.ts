import { join } from "node:path";
import {
  type ChatMessage,
  type Conversation,
  createTemplateRenderer,
  loadTokenizer,
  openModel,
  startRenderProcess,
} from "@kernlock/engine/model";
import { KernlockError } from "@kernlock/kernels/format";
import { afterAll, describe, expect, it } from "vitest";
import type { TemplateLimits } from "../template.ts";

const model = openModel(join(import.meta.dirname, "../../../models/dictionary"));
const tokenizer = loadTokenizer(model)!;
afterAll(() => model.close());

const hello: ChatMessage[] = [{ role: "user", content: "hello" }];

/** Renders once, in a renderer of its own. */
async function render(
  template: string,
  conversation: Partial<Conversation> = {},
  limits: Partial<TemplateLimits> = {},
) {
  await using renderer = await createTemplateRenderer({ ...model, template }, tokenizer, limits);
  return await renderer.render({ messages: hello, ...conversation });
}

async function refusal(promise: Promise<unknown>): Promise<KernlockError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof KernlockError) return error;
  throw new Error("not a coded refusal", { cause: error });
}

describe("limits", () => {
  it.each([
    ["counts to a thousand million", "{% for i in range(1000000000) %}{% endfor %}", "KL_TEMPLATE_LIMIT"],
    ["confuses the lexer", `${" ".repeat(300_000)}{`, "KL_TEMPLATE_LIMIT"],
    [
      "fills memory with text",
      "{% set ns = namespace(s='x') %}{% for i in range(28) %}{% set ns.s = (ns.s + ns.s) | upper %}{% endfor %}",
      "KL_TEMPLATE_LIMIT",
    ],
    [
      "fills memory with lists",
      "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "KL_TEMPLATE_LIMIT",
    ],
    ["writes too much", `{% for i in range(60000) %}${"x".repeat(40)}{% endfor %}`, "KL_TEMPLATE_LIMIT"],
    ["nests without end", `{{ ${"(".repeat(20_000)}1${")".repeat(20_000)} }}`, "KL_TEMPLATE_LIMIT"],
    ["is broken", "{% if %}", "KL_TEMPLATE_ERROR"],
    ["includes a file", "{% include '/etc/passwd' %}", "KL_TEMPLATE_ERROR"],
    ["reaches for the host", "{{ messages.constructor.constructor('return process')() }}", "KL_TEMPLATE_ERROR"],
    ["refuses", "{{ raise_exception('no,\nthank you') }}", "KL_TEMPLATE_ERROR"],
  ])("a template that %s", async (_what, template, code) => {
    expect((await refusal(render(template))).code).toBe(code);
  });

  it("a template that loops is stopped after the time given, and the renderer lives on", async () => {
    const template =
      "{% if effort is defined %}{% set ns = namespace(n=0) %}{% for a in range(40000) %}{% for b in list %}" +
      "{% for c in list %}{% for d in list %}{% set ns.n = ns.n + 1 %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}" +
      "{% endif %}done";
    await using renderer = await createTemplateRenderer({ ...model, template }, tokenizer, { milliseconds: 200 });
    const list = Array(1000).fill(0);
    const started = performance.now();
    const loop = renderer.render({ messages: hello, variables: { effort: 1, list } });
    const next = renderer.render({ messages: hello });
    expect((await refusal(loop)).code).toBe("KL_TEMPLATE_LIMIT");
    expect(performance.now() - started).toBeLessThan(10_000);
    expect((await next).text).toBe("done");
  });

  it("a template that takes its process down is followed by a new process", async () => {
    const template =
      "{% set ns = namespace(s='x') %}{% for i in range(times) %}{% set ns.s = (ns.s + ns.s) | upper %}{% endfor %}done";
    await using renderer = await createTemplateRenderer({ ...model, template }, tokenizer);
    const rendering = (times: number) => renderer.render({ messages: hello, variables: { times } });
    expect((await refusal(rendering(28))).code).toBe("KL_TEMPLATE_LIMIT");
    expect((await rendering(2)).text).toBe("done");
  });

  it("a rendering that comes while the process starts waits for it", async () => {
    const process = startRenderProcess({ template: "{{ greeting }}" });
    const starting = process.start();
    const texts = await Promise.all([process.render({ greeting: "hello" }), process.render({ greeting: "again" })]);
    expect(texts).toEqual(["hello", "again"]);
    await starting;
    await process.close();
  });

  it("a refusal is one line", async () => {
    expect((await refusal(render("{{ raise_exception('no,\nthank you') }}"))).message).toContain("no, thank you");
  });

  it("a closed renderer renders nothing", async () => {
    const renderer = await createTemplateRenderer(model, tokenizer);
    await renderer.close();
    await renderer.close();
    expect((await refusal(renderer.render({ messages: hello }))).code).toBe("KL_TEMPLATE_ERROR");
  });

  it("a model without a template has no renderer", async () => {
    const none = createTemplateRenderer({ template: null, templateTokens: {} }, tokenizer);
    expect((await refusal(none)).code).toBe("KL_TEMPLATE_ABSENT");
  });
});

describe("what a template sees", () => {
  it("reasoning_effort, only when given", async () => {
    const template = "{{ reasoning_effort if reasoning_effort is defined else 'own' }}";
    expect((await render(template)).text).toBe("own");
    expect((await render(template, { reasoningEffort: "high" })).text).toBe("high");
  });

  it("add_generation_prompt, true unless told otherwise", async () => {
    const template = "{{ 'yes' if add_generation_prompt else 'no' }}";
    expect((await render(template)).text).toBe("yes");
    expect((await render(template, { addGenerationPrompt: false })).text).toBe("no");
  });

  it("special tokens by name", async () => {
    expect((await render("{{ bos_token }}{{ eos_token }}{{ pad_token }}")).pieces).toEqual([
      { text: "<|startoftext|>", special: true },
      { text: "<|return|>", special: true },
      { text: "<|endoftext|>", special: true },
    ]);
  });

  it("the date", async () => {
    const { text } = await render("{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%B %%') }}");
    const now = new Date();
    const month = now.toLocaleString("en-US", { month: "long" });
    const iso = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((n) => String(n).padStart(2, "0")).join("-");
    expect(text).toBe(`${iso} ${month} %`);
  });

  it("what harmony templates with tools need: macros, namespaces, slices, tests, JSON", async () => {
    const template = [
      "{%- macro call(c) -%}<|start|>assistant to=functions.{{ c.name }}<|channel|>commentary json<|message|>",
      "{{- c.arguments|tojson -}}<|call|>{%- endmacro -%}",
      "{%- set last = namespace(name=none) -%}",
      "{%- for m in messages[1:] -%}",
      "{%- if 'tool_calls' in m and 'content' not in m -%}{{ call(m.tool_calls[0].function) }}",
      "{%- set last.name = m.tool_calls[0].function.name -%}",
      "{%- elif m.role == 'tool' -%}<|start|>functions.{{ last.name }} to=assistant<|message|>{{ m.content|tojson }}<|end|>",
      "{%- elif '<|channel|>' in m.content -%}{{ raise_exception('markup') }}{%- endif -%}",
      "{%- endfor -%}",
    ].join("\n");
    const messages: ChatMessage[] = [
      { role: "user", content: "weather?" },
      {
        role: "assistant",
        content: null,
        tool_calls: [{ function: { name: "weather", arguments: { city: "Zürich <b>" } } }],
      },
      { role: "tool", content: 'say "hi" <|end|>\n' },
    ];
    const { text, pieces } = await render(template, { messages });
    expect(text).toBe(
      '<|start|>assistant to=functions.weather<|channel|>commentary json<|message|>{"city": "Zürich <b>"}<|call|>' +
        '<|start|>functions.weather to=assistant<|message|>"say \\"hi\\" <|end|>\\n"<|end|>',
    );
    expect(pieces.filter((piece) => piece.special).map((piece) => piece.text)).toEqual(
      ["start", "channel", "message", "call", "start", "message", "end"].map((mark) => `<|${mark}|>`),
    );
  });
});

describe("messages that are refused", () => {
  it.each([
    [[]],
    ["hello"],
    [["hello"]],
    [[{ role: "root", content: "x" }]],
    [[{ content: "x" }]],
    [[{ role: "user" }]],
    [[{ role: "user", content: 7 }]],
    [[{ role: "user", content: "\ud800" }]],
    [[{ role: "user", content: "x", more: () => 1 }]],
  ])("%j", async (messages) => {
    const conversation = { messages: messages as unknown as ChatMessage[] };
    expect((await refusal(render("x", conversation))).code).toBe("KL_CHAT_MESSAGE");
  });
});
