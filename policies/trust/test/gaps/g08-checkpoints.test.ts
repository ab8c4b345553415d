import { describe, expect, test } from "vitest";
import { parseCheckpoint, parseNote, parseWitnessKey, witnessKeyId } from "../../verify/note.ts";
import { verifyBundle } from "../../verify.ts";
import {
  bytesOf,
  identity,
  type Loose,
  newBundle,
  newLeaf,
  newWorld,
  signedAt,
  trustedRoot,
} from "../authorities/index.ts";
import { newWitness, raw } from "../authorities/logs.ts";
import { codeOf, now } from "../material.ts";

const world = newWorld();
const root = trustedRoot(world);
const leaf = newLeaf(world);
const [one, two, stranger] = [newWitness("w.example/1"), newWitness("w.example/2"), newWitness("w.example/3")];

function cosigned(extra: (note: string) => string) {
  return newBundle({
    leaf,
    stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
    entries: (signed) => [world.log.entry(signed, { extra })],
  });
}

const judged = (bundle: Loose, threshold: number) => {
  const witnesses = { threshold, keys: [one, two] };
  const identities = [identity(root, { demand: { witnesses } })];
  return codeOf(() => verifyBundle(bytesOf(bundle), { keys: [], identities, now }));
};

describe("G8: cosignatures of witnesses are demanded and counted", () => {
  test.each<[string, (note: string) => string, string]>([
    ["two witnesses", (note) => one.cosign(note, now) + two.cosign(note, now), "no refusal"],
    [
      "two and a stranger",
      (note) => stranger.cosign(note, now) + two.cosign(note, now) + one.cosign(note, now),
      "no refusal",
    ],
    ["none", () => "", "KL_BUNDLE_WITNESSES"],
    ["one of two", (note) => one.cosign(note, now), "KL_BUNDLE_WITNESSES"],
    ["one twice", (note) => one.cosign(note, now) + one.cosign(note, signedAt), "KL_BUNDLE_WITNESSES"],
    ["one and a stranger", (note) => one.cosign(note, now) + stranger.cosign(note, now), "KL_BUNDLE_WITNESSES"],
    [
      "one that signed something else",
      (note) => one.cosign(note, now) + two.cosign(`${note}x\n`, now),
      "KL_BUNDLE_WITNESSES",
    ],
    [
      "one under a stranger's name",
      (note) => one.cosign(note, now).replace("/1", "/3") + two.cosign(note, now),
      "KL_BUNDLE_WITNESSES",
    ],
    [
      "one under the other's name",
      (note) => one.cosign(note, now) + one.cosign(note, now).replace("/1", "/2"),
      "KL_BUNDLE_WITNESSES",
    ],
  ])("%s", (_, extra, code) => {
    expect(judged(cosigned(extra), 2)).toBe(code);
  });

  test("a witness that is listed twice, or under two names, counts once", () => {
    const alias = newWitness("w.example/alias", one);
    for (const keys of [
      [one, one],
      [one, alias],
    ]) {
      const identities = [identity(root, { demand: { witnesses: { threshold: 2, keys } } })];
      const bytes = bytesOf(cosigned((note) => one.cosign(note, now) + alias.cosign(note, now)));
      expect(codeOf(() => verifyBundle(bytes, { keys: [], identities, now }))).toBe("KL_BUNDLE_WITNESSES");
    }
  });

  test("who demands witnesses demands an entry for them to sign", () => {
    const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];
    const demand = { logEntries: 0, witnesses: { threshold: 1, keys: [one] } };
    const identities = [identity(root, { demand })];
    const bytes = bytesOf(newBundle({ leaf, stamps }));
    expect(codeOf(() => verifyBundle(bytes, { keys: [], identities, now }))).toBe("KL_BUNDLE_LOG_MISSING");
  });

  test("and signatures by unknown keys are passed over where no witness is demanded", () => {
    const identities = [identity(root)];
    const bytes = bytesOf(cosigned((note) => stranger.cosign(note, now)));
    expect(codeOf(() => verifyBundle(bytes, { keys: [], identities, now }))).toBe("no refusal");
  });

  test("a witness's key is read as C2SP writes it", () => {
    const bytes = Buffer.concat([Buffer.from([4]), raw(one.publicKey)]).toString("base64");
    const id = witnessKeyId(one).toString("hex");
    const read = parseWitnessKey(`${one.name}+${id}+${bytes}`);
    expect(read.name).toBe(one.name);
    expect(read.publicKey.equals(one.publicKey)).toBe(true);
    const otherType = Buffer.concat([Buffer.from([1]), raw(one.publicKey)]).toString("base64");
    for (const text of [
      "",
      "a+b",
      `${one.name}+00000000+${bytes}`,
      `x+${id}+${bytes}`,
      `${one.name}+${id}+${otherType}`,
    ]) {
      expect(codeOf(() => parseWitnessKey(text))).toBe("KL_POLICY_KEY");
    }
  });

  test("a second signature in the log's name that does not hold spoils the checkpoint", () => {
    const bundle = cosigned(() => "");
    const { checkpoint } = bundle.verificationMaterial.tlogEntries[0].inclusionProof;
    const [line = ""] = /\u2014 .*\n/.exec(checkpoint.envelope) ?? [];
    const broken = line.replace(/(?<=example )(.{8}).{4}/, "$1AAAA");
    checkpoint.envelope += broken;
    const identities = [identity(root)];
    expect(codeOf(() => verifyBundle(bytesOf(bundle), { keys: [], identities, now }))).toBe("KL_BUNDLE_CHECKPOINT");
  });
});

describe("G8: notes are read in one way", () => {
  const hash = Buffer.alloc(32, 7).toString("base64");
  const signature = `\u2014 log.example ${Buffer.alloc(68).toString("base64")}\n`;
  const text = `log.example\n13\n${hash}\n`;
  const read = (envelope: string) => codeOf(() => parseCheckpoint(parseNote(envelope)));

  test("this one is", () => {
    expect(parseCheckpoint(parseNote(`${text}\n${signature}`))).toEqual({
      origin: "log.example",
      size: 13n,
      root: Buffer.alloc(32, 7),
    });
    expect(read(`${text}extension\n\n${signature}${signature}`)).toBe("no refusal");
  });

  test.each([
    ["nothing", ""],
    ["no signature", `${text}\n`],
    ["no text", `\n\n${signature}`],
    ["two empty lines", `${text}\n${text}\n${signature}`],
    ["a signature that is cut short", `${text}\n${signature.trimEnd()}`],
    ["a hyphen for a dash", `${text}\n${signature.replace("\u2014", "-")}`],
    ["a name with a space", `${text}\n${signature.replace("log.", "log ")}`],
    ["a signature without a key's hint", `${text}\n\u2014 log.example AAAA\n`],
    ["lax base64", `${text}\n${signature.replace("AAA=", "AAB=")}`],
    ["a carriage return", `${text.replace("13\n", "13\r\n")}\n${signature}`],
    ["a size with a sign", `${text.replace("13", "+13")}\n${signature}`],
    ["a size with a zero in front", `${text.replace("13", "013")}\n${signature}`],
    ["a size beyond 64 bits", `${text.replace("13", "9".repeat(20))}\n${signature}`],
    ["a short root hash", `${text.replace(hash, "AAAA")}\n${signature}`],
    ["too many signatures", `${text}\n${signature.repeat(65)}`],
    ["too long", `${text}\n${"x".repeat(70_000)}`],
  ])("%s is refused", (_, envelope) => {
    expect(read(envelope)).toBe("KL_BUNDLE_CHECKPOINT");
  });
});
