import { fail } from "@kernlock/kernels/format";
import { splitter } from "./tokenizer.ts";
import type { RenderedPrompt, Tokenizer } from "./types.ts";

/**
 * Keeps special tokens out of what users write, whatever a template does with it.
 *
 * The first character of every special token (for harmony that is `<`) is replaced by a stand-in in all data that goes
 * into the template. The template then works on the real text (it may trim it, test it, escape it as JSON), and a
 * special token in its output can only be one that the template itself wrote. Stand-ins turn back after the text has
 * been cut at special tokens, so the ids of ordinary contents are those of the whole prompt.
 */
export interface Guard {
  /** A copy of the data with every string and key guarded. */
  hide<T>(data: T): T;
  /** The template's output, cut at special tokens, the stand-ins turned back. */
  reveal(output: string): RenderedPrompt;
}

/** Code points that no text should use (noncharacters), then those of private use: one UTF-16 unit each. */
const standIns = [...range(0xfdd0, 0xfdef), ...range(0xe000, 0xf8ff)].map((code) => String.fromCharCode(code));

/**
 * @param texts everything that may reach the output: stand-ins are characters that occur in none of them
 * @throws KL_CHAT_MESSAGE when the texts use up all stand-ins
 */
export function createGuard(tokenizer: Pick<Tokenizer, "specials">, texts: readonly string[]): Guard {
  const specials = [...tokenizer.specials.keys()];
  const firsts = [...new Set(specials.map((token) => String.fromCodePoint(token.codePointAt(0)!)))];
  const used = new Set(texts.flatMap((text) => text.match(/[\ufdd0-\ufdef\ue000-\uf8ff]/g) ?? []));
  const free = standIns.filter((c) => !used.has(c));
  if (free.length < firsts.length) {
    fail("KL_CHAT_MESSAGE", "The messages use every character of the private use area.", {
      remedy: "Leave some of them out.",
    });
  }
  const pairs = firsts.map((real, i) => [real, free[i]!] as const);
  const hideText = (text: string): string => pairs.reduce((t, [real, standIn]) => t.replaceAll(real, standIn), text);
  const revealText = (text: string): string => pairs.reduce((t, [real, standIn]) => t.replaceAll(standIn, real), text);
  const split = splitter(specials);

  return {
    hide: (data) => mapStrings(data, hideText),
    reveal(output) {
      const pieces = split(output).map(({ text, special }) => ({ text: special ? text : revealText(text), special }));
      return { text: pieces.map((piece) => piece.text).join(""), pieces };
    },
  };
}

/** Every string of plain data, keys included. @throws KL_CHAT_MESSAGE for what JSON could not hold */
export function stringsOf(data: unknown): string[] {
  const strings: string[] = [];
  mapStrings(data, (text) => {
    strings.push(text);
    return text;
  });
  return strings;
}

const maxDepth = 64;

function mapStrings<T>(data: T, change: (text: string) => string): T {
  const walk = (value: unknown, depth: number): unknown => {
    if (depth > maxDepth) return refuse(`are nested deeper than ${maxDepth} levels`);
    switch (typeof value) {
      case "string":
        return value.isWellFormed() ? change(value) : refuse("hold a lone surrogate");
      case "number":
      case "boolean":
      case "undefined":
        return value;
      case "object":
        if (value === null) return null;
        if (Array.isArray(value)) return value.map((v) => walk(v, depth + 1));
        return Object.fromEntries(Object.entries(value).map(([k, v]) => [walk(k, depth), walk(v, depth + 1)]));
      default:
        return refuse(`hold a ${typeof value}`);
    }
  };
  return walk(data, 0) as T;
}

function refuse(problem: string): never {
  return fail("KL_CHAT_MESSAGE", `The messages ${problem}.`, { remedy: "Give plain text." });
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
