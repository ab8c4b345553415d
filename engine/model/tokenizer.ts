import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { fail } from "@kernlock/kernels/format";
import { byteReader } from "./byte-level.ts";
import { isObject, type Json, shownValue } from "./fields.ts";
import { readExactly } from "./folder.ts";
import type { DecodeStream, Model, PromptPiece, Tokenizer } from "./types.ts";

const maxId = 1 << 24;

/** Null without tokenizer.json. @throws KL_TOKENIZER_INVALID, KL_TOKENIZER_UNSUPPORTED, KL_MODEL_TRUNCATED */
export function loadTokenizer(model: Pick<Model, "files" | "tokenizerFile">): Tokenizer | null {
  if (model.tokenizerFile === null) return null;
  const file = model.files[model.tokenizerFile]!;
  return parseTokenizer(new TextDecoder().decode(readExactly(file, 0, file.size)));
}

/**
 * A tokenizer from the text of a tokenizer.json. Byte-level tokenizers only: their tokens are bytes, so that any text
 * has ids and any ids have a text.
 *
 * @throws KL_TOKENIZER_INVALID, KL_TOKENIZER_UNSUPPORTED
 */
export function parseTokenizer(json: string): Tokenizer {
  const source = parse(json);
  checkByteLevel(source);
  const added = parseAdded(source.added_tokens);
  // The library never learns of special tokens: they are split off here, where it can be left out.
  const plain = added.filter((token) => !token.special);
  const encoder = build({ ...source, added_tokens: plain });
  const specials = new Map(added.filter((token) => token.special).map(({ content, id }) => [content, id]));
  const specialIds = new Set(specials.values());
  const split = splitter([...specials.keys()]);
  const bytesOf = byteReader(encoder, added);
  let size = encoder.get_vocab().size;
  for (const { id } of added) size = Math.max(size, id + 1);

  const encodeText = (text: string): number[] => {
    const ids = text === "" ? [] : encoder.encode(text, { add_special_tokens: false }).ids;
    for (const id of ids) {
      if (!Number.isInteger(id)) fail("KL_TOKENIZER_UNSUPPORTED", "The tokenizer has no token for a part of the text.");
      if (specialIds.has(id)) fail("KL_TOKENIZER_UNSUPPORTED", "The tokenizer makes special tokens out of plain text.");
    }
    return ids;
  };
  const encodePieces = (pieces: readonly PromptPiece[]): number[] => {
    const ids: number[] = [];
    for (const { text, special } of pieces) {
      // Not push(...ids): a long prompt has more ids than a call may have arguments.
      for (const id of special ? [specials.get(text)!] : encodeText(text)) ids.push(id);
    }
    return ids;
  };
  const decodeStream = (): DecodeStream => {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return {
      push: (id) => decoder.decode(bytesOf(id), { stream: true }),
      end: () => decoder.decode(),
    };
  };
  return {
    size,
    specials,
    encode: (text, { special }) => encodePieces(special ? split(text) : [{ text, special: false }]),
    encodePieces,
    decode(ids) {
      const stream = decodeStream();
      let text = "";
      for (const id of ids) text += stream.push(id);
      return text + stream.end();
    },
    decodeStream,
  };
}

/** Cuts a text at special tokens: leftmost first, of those the longest. */
export function splitter(specials: readonly string[]): (text: string) => PromptPiece[] {
  if (specials.length === 0) return (text) => [{ text, special: false }];
  const alternatives = specials.toSorted((a, b) => b.length - a.length).map((token) => RegExp.escape(token));
  const pattern = new RegExp(`(${alternatives.join("|")})`);
  return (text) =>
    text
      .split(pattern)
      .map((part, i) => ({ text: part, special: i % 2 === 1 }))
      .filter((piece) => piece.text !== "");
}

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

function parse(json: string): Json {
  let source: unknown;
  try {
    source = JSON.parse(json);
  } catch (cause) {
    return invalid("is not JSON", cause);
  }
  return isObject(source) ? source : invalid("is not an object");
}

function parseAdded(value: unknown): AddedToken[] {
  if (!Array.isArray(value)) return invalid("has no list of added tokens");
  const contents = new Set<string>();
  const ids = new Set<number>();
  return value.map((token: unknown) => {
    if (!isObject(token)) return invalid("has an added token that is no object");
    const { id, content, special } = token;
    if (typeof content !== "string" || content === "" || contents.has(content)) {
      return invalid(`has the added token ${shownValue(content)}, empty or there twice`);
    }
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= maxId || ids.has(id)) {
      return invalid(`gives ${shownValue(content)} the id ${shownValue(id)}, impossible or there twice`);
    }
    contents.add(content);
    ids.add(id);
    for (const flag of ["single_word", "lstrip", "rstrip"]) {
      if (token[flag] === true) unsupported(`the special token ${shownValue(content)} is ${flag}`);
    }
    return { ...token, id, content, special: special === true };
  });
}

/** The decoder is ByteLevel, alone or as the only step of a sequence; so is the last step of what cuts the text. */
function checkByteLevel(source: Json): void {
  const last = (value: unknown, list: string): unknown => {
    if (!isObject(value)) return null;
    const steps = value[list];
    return value.type === "Sequence" && Array.isArray(steps) ? last(steps.at(-1), list) : value.type;
  };
  const model = isObject(source.model) ? source.model.type : null;
  const steps = isObject(source.decoder) ? source.decoder.decoders : null;
  if (model !== "BPE") unsupported(`its model is ${shownValue(model)}, not BPE`);
  if (last(source.decoder, "decoders") !== "ByteLevel" || (Array.isArray(steps) && steps.length !== 1)) {
    unsupported("its decoder is not ByteLevel");
  }
  if (last(source.pre_tokenizer, "pretokenizers") !== "ByteLevel") unsupported("its pre-tokenizer is not ByteLevel");
}

function build(source: Json): HubTokenizer {
  try {
    return new HubTokenizer(source, {});
  } catch (cause) {
    return invalid(
      `cannot be read (${cause instanceof Error ? cause.message.slice(0, 200) : "no reason given"})`,
      cause,
    );
  }
}

function invalid(problem: string, cause?: unknown): never {
  return fail("KL_TOKENIZER_INVALID", `tokenizer.json ${problem}.`, { remedy: "Download the model again.", cause });
}

function unsupported(problem: string): never {
  return fail("KL_TOKENIZER_UNSUPPORTED", `tokenizer.json asks for something that is not supported: ${problem}.`, {
    remedy: "Run the model on token ids, without tokenizer.json.",
  });
}
