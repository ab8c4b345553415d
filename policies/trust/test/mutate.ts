/** Random changes of JSON, one at a time, from a seed: the same seed makes the same changes. */
export type Random = (below: number) => number;

/** xorshift32: enough to choose places and values. */
export function newRandom(seed: number): Random {
  let state = seed | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

// biome-ignore lint/suspicious/noExplicitAny: any JSON at all
type Json = any;

const pick = <T>(random: Random, list: readonly T[]): T => list[random(list.length)] as T;

/** One byte changed, added or removed, or a stretch copied elsewhere. */
export function mutateBytes(bytes: Buffer, random: Random): Buffer {
  const at = random(bytes.length + 1);
  const copy = Buffer.from(bytes);
  switch (random(5)) {
    case 0:
      if (at < copy.length) copy[at]! ^= 1 << random(8);
      return copy;
    case 1:
      return Buffer.concat([copy.subarray(0, at), Buffer.from([random(256)]), copy.subarray(at)]);
    case 2:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + random(4))]);
    case 3:
      return copy.subarray(0, at);
    default: {
      const from = random(bytes.length + 1);
      return Buffer.concat([copy.subarray(0, at), copy.subarray(from, from + random(64)), copy.subarray(at)]);
    }
  }
}

const oddStrings = [
  "",
  "0",
  "-1",
  "1",
  "9223372036854775807",
  "__proto__",
  "constructor",
  "\u0000",
  "AAAA",
  "x".repeat(300),
];
const oddValues: readonly Json[] = [null, true, 0, -1, 1e300, "", [], {}, [[]], { a: 1 }];

/** One field changed, removed, doubled, renamed, or replaced with another one's value. */
export function mutateField(root: Json, random: Random): Json {
  const copy = structuredClone(root);
  const places: { holder: Json; key: string | number }[] = [];
  const walk = (holder: Json) => {
    for (const key of Array.isArray(holder) ? holder.keys() : Object.keys(holder)) {
      places.push({ holder, key });
      if (typeof holder[key] === "object" && holder[key] !== null) walk(holder[key]);
    }
  };
  walk(copy);
  if (places.length === 0) return copy;
  const { holder, key } = pick(random, places);
  const value = holder[key];
  switch (random(typeof value === "string" ? 10 : 6)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(key as number, 1);
      else delete holder[key];
      break;
    case 1:
      if (Array.isArray(holder)) holder.push(structuredClone(value));
      else holder[`${key}x`] = structuredClone(value);
      break;
    case 2:
      holder[key] = structuredClone(pick(random, oddValues));
      break;
    case 3: {
      const other = pick(random, places);
      holder[key] = structuredClone(other.holder[other.key]);
      break;
    }
    case 4:
      holder[key] = typeof value === "object" ? [value] : { [key]: value };
      break;
    case 5:
      holder[key] = typeof value === "string" ? pick(random, oddStrings) : pick(random, oddValues);
      break;
    case 6:
      holder[key] = pick(random, oddStrings);
      break;
    default:
      holder[key] = mutateText(value, random);
  }
  return copy;
}

/** Inside of base64 the bytes are changed, so that the change gets past the check of its spelling. */
function mutateText(text: string, random: Random): string {
  const bytes = Buffer.from(text, "base64");
  if (text.length > 8 && bytes.toString("base64") === text) return mutateBytes(bytes, random).toString("base64");
  if (/^[0-9]+$/.test(text)) return String(BigInt(text) + BigInt(random(3) - 1));
  return mutateBytes(Buffer.from(text), random).toString();
}
