import { type ErrorCode, fail } from "./errors.ts";

export interface StrictJsonOptions {
  /** Longest input in bytes (UTF-16 units for a string). Default 4 MiB. */
  readonly maxBytes?: number;
  /** Deepest nesting of arrays and objects. Default 64. */
  readonly maxDepth?: number;
  /** What is parsed, for messages: `kernels.lock`. */
  readonly what?: string;
  /** Take numbers that a double holds only roughly (10^30 in some tokenizer files). Default false. */
  readonly allowInexact?: boolean;
}

/**
 * JSON by RFC 8259 and not a byte more: no duplicate keys, no `__proto__` key, no byte order mark, no trailing data, no
 * invalid UTF-8, no lone surrogates, and no number that a double would change. One text has one meaning, for us and for
 * every other reader. Throws `KL_JSON_*`.
 */
export function parseStrictJson(input: Uint8Array | string, options: StrictJsonOptions = {}): unknown {
  const what = options.what ?? "JSON";
  const maxBytes = options.maxBytes ?? 4 << 20;
  const length = typeof input === "string" ? input.length : input.byteLength;
  if (length > maxBytes) fail("KL_JSON_SIZE", `${what} is larger than ${maxBytes} bytes.`);
  return new Parser(decode(input, what), what, options.maxDepth ?? 64, options.allowInexact ?? false).parse();
}

function decode(input: Uint8Array | string, what: string): string {
  if (typeof input === "string") {
    if (!input.isWellFormed()) fail("KL_JSON_UTF8", `${what} holds a lone surrogate.`);
    return input;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(input);
  } catch (cause) {
    return fail("KL_JSON_UTF8", `${what} is not valid UTF-8.`, { cause });
  }
}

const numberPattern = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const escapes: Readonly<Record<string, string>> = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
};

class Parser {
  readonly #text: string;
  readonly #what: string;
  readonly #maxDepth: number;
  readonly #allowInexact: boolean;
  #at = 0;

  constructor(text: string, what: string, maxDepth: number, allowInexact: boolean) {
    this.#text = text;
    this.#what = what;
    this.#maxDepth = maxDepth;
    this.#allowInexact = allowInexact;
  }

  parse(): unknown {
    this.#space();
    const value = this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) this.#fail("KL_JSON_TRAILING", "has data after its end");
    return value;
  }

  #value(depth: number): unknown {
    const c = this.#text[this.#at];
    switch (c) {
      case "{":
        return this.#object(depth + 1);
      case "[":
        return this.#array(depth + 1);
      case '"':
        return this.#string();
      case "t":
        return this.#word("true", true);
      case "f":
        return this.#word("false", false);
      case "n":
        return this.#word("null", null);
      case undefined:
        return this.#fail("KL_JSON_SYNTAX", "ends too early");
      default:
        return this.#number();
    }
  }

  #object(depth: number): Record<string, unknown> {
    this.#enter(depth);
    const object: Record<string, unknown> = {};
    if (this.#closes("}")) return object;
    for (;;) {
      if (this.#text[this.#at] !== '"') this.#fail("KL_JSON_SYNTAX", "lacks a key");
      const key = this.#string();
      // Assigning to it would set the prototype; no format of ours has such a key.
      if (key === "__proto__") this.#fail("KL_JSON_KEY", "has a key named __proto__");
      if (Object.hasOwn(object, key))
        this.#fail("KL_JSON_DUPLICATE_KEY", `names ${JSON.stringify(key.slice(0, 80))} twice`);
      this.#space();
      this.#expect(":");
      this.#space();
      object[key] = this.#value(depth);
      if (this.#ends("}")) return object;
    }
  }

  #array(depth: number): unknown[] {
    this.#enter(depth);
    const array: unknown[] = [];
    if (this.#closes("]")) return array;
    for (;;) {
      array.push(this.#value(depth));
      if (this.#ends("]")) return array;
    }
  }

  #string(): string {
    const text = this.#text;
    let result = "";
    let start = ++this.#at;
    for (;;) {
      const c = text.charCodeAt(this.#at);
      if (Number.isNaN(c)) this.#fail("KL_JSON_SYNTAX", "ends inside a string");
      if (c < 0x20) this.#fail("KL_JSON_SYNTAX", "has a control character in a string");
      if (c === 0x22) {
        result += text.slice(start, this.#at++);
        // Only escapes can smuggle a lone surrogate in here: the text itself is well formed.
        if (!result.isWellFormed()) this.#fail("KL_JSON_UTF8", "has a lone surrogate in a string");
        return result;
      }
      if (c !== 0x5c) {
        this.#at++;
        continue;
      }
      result += text.slice(start, this.#at) + this.#escape();
      start = this.#at;
    }
  }

  #escape(): string {
    const c = this.#text[this.#at + 1] ?? "";
    if (c === "u") {
      const hex = this.#text.slice(this.#at + 2, this.#at + 6);
      if (!/^[0-9a-fA-F]{4}$/.test(hex)) this.#fail("KL_JSON_SYNTAX", "has a broken escape");
      this.#at += 6;
      return String.fromCharCode(Number.parseInt(hex, 16));
    }
    const plain = Object.hasOwn(escapes, c) ? escapes[c] : undefined;
    if (plain === undefined) return this.#fail("KL_JSON_SYNTAX", "has a broken escape");
    this.#at += 2;
    return plain;
  }

  #number(): number {
    numberPattern.lastIndex = this.#at;
    const literal = numberPattern.exec(this.#text)?.[0];
    if (literal === undefined) return this.#fail("KL_JSON_SYNTAX", "has an unexpected character");
    const value = Number(literal);
    const lost =
      (Number.isInteger(value) && !Number.isSafeInteger(value)) || (value === 0 && /[1-9]/.test(mantissa(literal)));
    if (!Number.isFinite(value) || (lost && !this.#allowInexact)) {
      this.#fail("KL_JSON_NUMBER", "has a number that a double cannot hold");
    }
    this.#at += literal.length;
    return value;
  }

  #word<T>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.#fail("KL_JSON_SYNTAX", "has an unexpected character");
    this.#at += word.length;
    return value;
  }

  #enter(depth: number): void {
    if (depth > this.#maxDepth) this.#fail("KL_JSON_DEPTH", `is nested deeper than ${this.#maxDepth} levels`);
    this.#at++;
    this.#space();
  }

  #closes(end: "}" | "]"): boolean {
    if (this.#text[this.#at] !== end) return false;
    this.#at++;
    return true;
  }

  /** After a member: true at the end of the container, false after a comma. */
  #ends(end: "}" | "]"): boolean {
    this.#space();
    if (this.#closes(end)) return true;
    this.#expect(",");
    this.#space();
    return false;
  }

  #expect(c: string): void {
    if (this.#text[this.#at] !== c) {
      this.#fail("KL_JSON_SYNTAX", this.#at < this.#text.length ? `lacks a ${JSON.stringify(c)}` : "ends too early");
    }
    this.#at++;
  }

  #space(): void {
    for (;;) {
      const c = this.#text.charCodeAt(this.#at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      this.#at++;
    }
  }

  #fail(code: ErrorCode, problem: string): never {
    return fail(code, `${this.#what} ${problem} (at character ${this.#at}).`);
  }
}

function mantissa(literal: string): string {
  return literal.split(/[eE]/, 1)[0]!;
}
