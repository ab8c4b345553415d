import type { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import type { AddedToken } from "./tokenizer.ts";

/**
 * The bytes of a token. Byte-level vocabularies write each byte as one printable character: those that are printable
 * in Latin-1 stand for themselves, the others follow from U+0100 on, in order.
 */
export function byteReader(vocabulary: HubTokenizer, added: readonly AddedToken[]): (id: number) => Uint8Array {
  const literal = new Map(added.map(({ id, content }) => [id, new TextEncoder().encode(content)]));
  const none = new Uint8Array(0);
  return (id) => {
    const known = literal.get(id);
    if (known !== undefined) return known;
    const token = vocabulary.id_to_token(id);
    if (token === undefined || token === null) return none;
    const bytes = Uint8Array.from([...token], (c) => byteOf.get(c) ?? 256);
    return [...token].every((c) => byteOf.has(c)) ? bytes : new TextEncoder().encode(token);
  };
}

const byteOf: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    map.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return map;
})();
