import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { type Digest, digestOf } from "@kernlock/kernels/format";
import { type Attack, pinned, type Twist } from "../attack.ts";
import { libraries, type Pack } from "../pack.ts";

type Row = [number: Attack["number"], name: string, refused: `KL_${string}` | Attack["refused"], how: Twist];

const payload = (pack: Pack): Digest => pack.lock.variants[0].files[1].digest;
const onPayload = (change: (path: string) => void): Twist => ({
  spoil: (pathOf, pack) => change(pathOf(payload(pack))),
});

function flip(path: string): void {
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(path, bytes);
}

function replaced(path: string, by: (path: string) => void): void {
  rmSync(path);
  by(path);
}

/** A copy of the true bytes, whose place in the cache is then taken by something that leads to it. */
function via(path: string, link: (target: string, path: string) => void): void {
  const elsewhere = `${path}.elsewhere`;
  renameSync(path, elsewhere);
  link(elsewhere, path);
}

const rows: Row[] = [
  ["own", "a bit of the payload flipped", "KL_CACHE_DIGEST", onPayload(flip)],
  [
    "own",
    "a bit of the index flipped",
    "KL_CACHE_DIGEST",
    { spoil: (pathOf, pack) => flip(pathOf(digestOf(pack.index))) },
  ],
  [
    "own",
    "a bit of a manifest flipped",
    "KL_CACHE_DIGEST",
    { spoil: (pathOf, pack) => flip(pathOf(digestOf(pack.variants[0]!.manifest))) },
  ],
  [
    "own",
    "a bit of variant.json flipped",
    "KL_CACHE_DIGEST",
    { spoil: (pathOf, pack) => flip(pathOf(digestOf(pack.variants[0]!.config))) },
  ],
  [
    "own",
    "a bit of a bundle flipped",
    "KL_CACHE_DIGEST",
    { spoil: (pathOf, pack) => flip(pathOf(digestOf(pack.evidence[0]!.bundle))) },
  ],
  [
    "own",
    "a bit of a file flipped that is never loaded",
    { verify: "KL_CACHE_DIGEST" },
    { spoil: (pathOf, pack) => flip(pathOf(pack.lock.variants[0].files[0].digest)) },
  ],
  [
    "own",
    "a bit of the other variant's payload flipped",
    { verify: "KL_CACHE_DIGEST" },
    { spoil: (pathOf, pack) => flip(pathOf(pack.lock.variants[1].files[1].digest)) },
  ],
  [102, "the payload cut short", "KL_CACHE_SIZE", onPayload((path) => truncateSync(path, 100))],
  [
    "own",
    "the payload with bytes behind it",
    "KL_CACHE_SIZE",
    onPayload((path) => writeFileSync(path, "x", { flag: "a" })),
  ],
  ["own", "the payload emptied", "KL_CACHE_SIZE", onPayload((path) => truncateSync(path, 0))],
  [24, "a file of the manifest that is not there", "KL_CACHE_MISSING", onPayload((path) => rmSync(path))],
  [5, "a symbolic link to the true bytes", "KL_CACHE_FILE", onPayload((path) => via(path, symlinkSync))],
  [
    6,
    "an absolute symbolic link out of the cache",
    "KL_CACHE_FILE",
    onPayload((path) => replaced(path, (at) => symlinkSync("/etc/hostname", at))),
  ],
  [96, "the folder of blobs swapped for a link to a writable one", { load: "KL_CACHE_DIGEST" }, { spoil: swapFolder }],
  [7, "a hard link to a file that is written later", { load: "KL_CACHE_DIGEST" }, onPayload(hardLink)],
  [8, "a FIFO that never ends", "KL_CACHE_FILE", onPayload((path) => replaced(path, fifo))],
  [
    8,
    "a device that gives zeros",
    "KL_CACHE_FILE",
    onPayload((path) => replaced(path, (at) => symlinkSync("/dev/zero", at))),
  ],
  [8, "a folder in a file's place", "KL_CACHE_FILE", onPayload((path) => replaced(path, (at) => mkdirSync(at)))],
  [8, "a socket in a file's place", "KL_CACHE_FILE", onPayload((path) => replaced(path, socket))],
  [11, "a setuid bit, with other bytes", "KL_CACHE_DIGEST", onPayload(setuid)],
];

/** What is sealed is hashed afterwards: a swap before the copy is found, and one after it changes nothing. */
const swapped: Attack = {
  number: 93,
  name: "the cache file rewritten after its check by verify and before the load",
  area: "cache",
  refused: { load: "KL_CACHE_DIGEST" },
  how: () => onPayload((path) => writeFileSync(path, evil(path))),
};

const lookalike: Attack = {
  number: 73,
  name: "the other variant's library under this one's digest",
  area: "cache",
  refused: pinned("KL_CACHE_DIGEST"),
  how: () => onPayload((path) => writeFileSync(path, evil(path))),
};

/** Another real library, of the very same size. */
function evil(path: string): Uint8Array {
  const wanted = readFileSync(path).byteLength;
  const { other } = libraries();
  const bytes = Buffer.alloc(wanted);
  other.copy(bytes);
  return bytes;
}

function hardLink(path: string): void {
  const writable = `${path}.writable`;
  copyFileSync(path, writable);
  rmSync(path);
  linkSync(writable, path);
  flip(writable);
}

function swapFolder(pathOf: (digest: Digest) => string, pack: Pack): void {
  const path = pathOf(payload(pack));
  const folder = path.slice(0, path.lastIndexOf("/"));
  renameSync(folder, `${folder}.mine`);
  symlinkSync(`${folder}.mine`, folder);
  flip(path);
}

function setuid(path: string): void {
  flip(path);
  chmodSync(path, 0o4755);
}

function fifo(path: string): void {
  if (spawnSync("mkfifo", [path]).status !== 0) throw new Error("no mkfifo");
}

/** The file of a socket stays when its server is gone. */
function socket(path: string): void {
  const code = `require("node:net").createServer().listen("s", () => process.exit())`;
  spawnSync(process.execPath, ["-e", code], { cwd: path.slice(0, path.lastIndexOf("/")) });
  renameSync(`${path.slice(0, path.lastIndexOf("/"))}/s`, path);
}

export const cacheAttacks: readonly Attack[] = [
  ...rows.map(
    ([number, name, refused, how]): Attack => ({
      number,
      name,
      area: "cache",
      refused: typeof refused === "string" ? pinned(refused) : refused,
      how: () => how,
    }),
  ),
  lookalike,
  swapped,
];
