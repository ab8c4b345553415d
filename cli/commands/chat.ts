import { createInterface } from "node:readline/promises";
import type { ChatMessage, Engine, Sampling } from "@kernlock/engine";
import type { Command } from "commander";
import { command, withProject } from "../command.ts";
import { asKernlockError, usage } from "../errors.ts";
import { type PlanFlags, withPlanFlags } from "../plan-flags.ts";
import type { ProjectOptions } from "../project.ts";
import { type GenerateFlags, requestFromFlags } from "../requests.ts";
import { recordRun, timingText, withEngine, withSampling } from "./generate.ts";

interface Options extends ProjectOptions, PlanFlags, GenerateFlags {
  readonly model: string;
  readonly hideThinking?: boolean;
}

export function chatCommand(): Command {
  return command<Options>(
    "chat",
    "talk with a model in the terminal; its thinking is shown apart from its answer",
    (target) =>
      withSampling(
        withPlanFlags(
          withProject(
            target.requiredOption(
              "--model <dir>",
              "folder of a gpt-oss checkpoint, or a name in the local Hugging Face cache",
            ),
          ),
        ),
      ).option("--hide-thinking", "show answers only"),
    async ({ output, options }) => {
      if (output.json) usage("chat is for people; `kernlock generate --json` prints results for machines.");
      return withEngine(options, output, 1, (engine) => converse(engine, options));
    },
  );
}

/** Reads lines until the end of the input. The conversation grows by the final answers; thinking is dropped. */
async function converse(engine: Engine, options: Options): Promise<number> {
  const lines = createInterface({
    input: process.stdin,
    output: process.stderr,
    terminal: process.stdin.isTTY === true,
  });
  const messages: ChatMessage[] = [];
  let running: AbortController | undefined;
  lines.on("SIGINT", () => (running === undefined ? lines.close() : running.abort()));
  if (process.stdin.isTTY) process.stderr.write("Ctrl-D ends, Ctrl-C stops an answer, /clear starts anew.\n");
  const prompt = (): void => {
    if (process.stdin.isTTY) lines.prompt();
  };
  lines.setPrompt("> ");
  prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === "/clear") messages.length = 0;
    else if (text !== "") {
      running = new AbortController();
      try {
        messages.push({ role: "user", content: text });
        messages.push({ role: "assistant", content: await answer(engine, messages, options, running.signal) });
      } catch (error) {
        messages.pop();
        const known = asKernlockError(error);
        process.stderr.write(`[${known.code}] ${known.message}\n`);
      }
      running = undefined;
    }
    prompt();
  }
  return 0;
}

async function answer(
  engine: Engine,
  messages: readonly ChatMessage[],
  options: Options,
  signal: AbortSignal,
): Promise<string> {
  const colours = process.stdout.isTTY === true;
  const dim = (text: string): string => (colours ? `\u001b[2m${text}\u001b[0m` : text);
  const request = requestFromFlags({ ...options, chat: "" }, false);
  if ("file" in request) return usage("chat takes no --requests.");
  const sampling: Sampling = request.sampling ?? { kind: "model" };
  const effort = "messages" in request.prompt ? request.prompt.reasoningEffort : undefined;
  let shown: string | null = null;
  const { result } = await engine.generate(
    { ...request, sampling, prompt: effort === undefined ? { messages } : { messages, reasoningEffort: effort } },
    {
      signal,
      onToken: ({ channel, content, text }) => {
        const piece = channel === null ? null : content;
        if (piece === null || piece === "") return;
        const thinking = channel === "analysis";
        if (thinking && options.hideThinking === true) return;
        if (shown !== channel)
          process.stdout.write(`${shown === null ? "" : "\n"}${thinking ? dim("thinking: ") : ""}`);
        shown = channel;
        process.stdout.write(thinking ? dim(piece) : piece);
        void text;
      },
    },
  );
  recordRun(result);
  process.stdout.write("\n");
  process.stderr.write(`${dim(timingText(result))}\n`);
  return result.channels.final ?? result.text ?? "";
}
