import { type ErrorCode, fail } from "../format/index.ts";

/** What a reader says of which kind of file. */
export interface ReaderWords {
  readonly noun: string;
  readonly truncated: ErrorCode;
  /** A number that no file has. */
  readonly number: ErrorCode;
  /** A name without end or of strange characters. */
  readonly text: ErrorCode;
}
const elf: ReaderWords = {
  noun: "ELF file",
  truncated: "KL_ELF_TRUNCATED",
  number: "KL_ELF_SEGMENT",
  text: "KL_ELF_DYNAMIC",
};

/** Little-endian reads inside some bytes. Throws `KL_ELF_TRUNCATED`, or what `words` say, outside them. */
export class Reader {
  readonly size: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #words: ReaderWords;

  constructor(bytes: Uint8Array, words: ReaderWords = elf) {
    this.#words = words;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.size = bytes.byteLength;
  }

  /** Throws unless [at, at + length) lies inside. */
  range(at: number, length: number, what: string): void {
    if (at < 0 || length < 0 || at + length > this.size)
      fail(this.#words.truncated, `The ${this.#words.noun} ends inside its ${what}.`);
  }

  u8(at: number): number {
    this.range(at, 1, "data");
    return this.#view.getUint8(at);
  }

  u16(at: number): number {
    this.range(at, 2, "data");
    return this.#view.getUint16(at, true);
  }

  u32(at: number): number {
    this.range(at, 4, "data");
    return this.#view.getUint32(at, true);
  }

  /** A number that a double holds; larger ones are out of range for every use there is. */
  u64(at: number): number {
    this.range(at, 8, "data");
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 1 << 20) fail(this.#words.number, `The ${this.#words.noun} holds an address or size beyond any file.`);
    return high * 2 ** 32 + this.#view.getUint32(at, true);
  }

  /** All 64 bits. */
  bits64(at: number): bigint {
    this.range(at, 8, "data");
    return this.#view.getBigUint64(at, true);
  }

  bytes(at: number, length: number): Uint8Array {
    this.range(at, length, "data");
    return this.#bytes.subarray(at, at + length);
  }

  /** A zero-terminated string of printable ASCII that ends before `end`. */
  text(at: number, end: number): string {
    const limit = Math.min(end, this.size, at + 4096);
    const stop = at < limit ? this.#bytes.subarray(at, limit).indexOf(0) : -1;
    if (stop < 0) fail(this.#words.text, `A name in the ${this.#words.noun} has no end.`);
    const text = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + at, stop).toString("latin1");
    if (!/^[ -~]*$/.test(text))
      fail(this.#words.text, `A name in the ${this.#words.noun} holds characters that no name has.`);
    return text;
  }
}
