/**
 * A disk that may lose power: what a process wrote stays in memory until it is synced, and so do the names of files
 * until their folder is. Fed with the record of `files.c`, it tells what could be found after the power went at any
 * moment. It promises no more than POSIX does: a synced file is nowhere without a synced name.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

export interface Entry {
  readonly kind: Kind;
  readonly fd: number;
  /** Offset of a write, length of a truncation. */
  readonly at: number;
  readonly path: string;
  readonly to: string;
  readonly data: Buffer;
  readonly created: boolean;
}

const kinds = ["", "open", "write", "truncate", "sync", "synced", "rename", "unlink", "mkdir", "answer"] as const;
export type Kind = (typeof kinds)[number];

export function readRecord(bytes: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.length; ) {
    const number = (offset: number) => bytes.readUInt32LE(at + offset);
    const [path, to, data] = [number(16), number(20), number(24)];
    let end = at + 32;
    const take = (length: number) => {
      end += length;
      return bytes.subarray(end - length, end);
    };
    entries.push({
      kind: kinds[number(0)]!,
      fd: number(4),
      at: Number(bytes.readBigUInt64LE(at + 8)),
      created: number(28) === 1,
      path: take(path).toString(),
      to: take(to).toString(),
      data: take(data),
    });
    at = end;
  }
  return entries;
}

type Change = { readonly at: number; readonly data: Buffer } | { readonly length: number };
interface File {
  /** What the disk has for sure. */
  kept: Buffer;
  /** What was written since, in order. */
  loose: Change[];
}
type Node = File | "folder";
/** A name that was given (or taken away, without a node), not yet for sure. */
interface Naming {
  readonly path: string;
  readonly node: Node | undefined;
}

export interface Disk {
  apply(entry: Entry): void;
  /** Writes into `target` what is left. `lucky` says of each loose write, sector and name whether it made it. */
  losePower(target: string, lucky?: () => boolean): void;
  /** Paths whose bytes here are others than in the folder itself, once everything ended: the record has a gap. */
  differences(): string[];
}

const sector = 512;

/** Starts from what is in `before`, all of it durable; the record speaks of it as `root`. */
export function openDisk(before: string, root: string): Disk {
  const names = new Map<string, Node>();
  const kept = new Map<string, Node>();
  let loose: Naming[] = [];
  const open = new Map<number, { path: string; node: Node }>();
  const syncing = new Map<number, { changes: number; namings: readonly Naming[] }>();

  const load = (path: string, node: Node) => {
    names.set(path, node);
    kept.set(path, node);
  };
  for (const item of readdirSync(before, { recursive: true, withFileTypes: true })) {
    const path = join(item.parentPath, item.name);
    const node = item.isDirectory() ? "folder" : { kept: readFileSync(path), loose: [] };
    load(join(root, relative(before, path)), node);
  }
  load(root, "folder");

  const name = (path: string, node: Node | undefined) => {
    if (node === undefined) names.delete(path);
    else names.set(path, node);
    loose.push({ path, node });
  };
  const fileOf = (fd: number): File | undefined => {
    const node = open.get(fd)?.node;
    return node === "folder" ? undefined : node;
  };

  return {
    apply({ kind, fd, at, path, to, data, created }) {
      switch (kind) {
        case "open":
          if (created) name(path, { kept: Buffer.alloc(0), loose: [] });
          open.set(fd, { path, node: names.get(path) ?? "folder" });
          break;
        case "write":
          fileOf(fd)?.loose.push({ at, data });
          break;
        case "truncate":
          fileOf(fd)?.loose.push({ length: at });
          break;
        case "rename":
          name(to, names.get(path));
          name(path, undefined);
          break;
        case "unlink":
          name(path, undefined);
          break;
        case "mkdir":
          name(path, "folder");
          break;
        case "sync":
          syncing.set(fd, { changes: fileOf(fd)?.loose.length ?? 0, namings: [...loose] });
          break;
        case "synced": {
          const { path: synced } = open.get(fd)!;
          const { changes, namings } = syncing.get(fd)!;
          const file = fileOf(fd);
          if (file !== undefined) {
            file.kept = file.loose.slice(0, changes).reduce(changed, file.kept);
            file.loose = file.loose.slice(changes);
            break;
          }
          const mine = new Set(namings.filter((naming) => dirname(naming.path) === synced));
          for (const naming of mine) keep(kept, naming);
          loose = loose.filter((naming) => !mine.has(naming));
        }
      }
    },
    losePower(target, lucky = () => false) {
      const left = new Map(kept);
      for (const naming of loose) if (lucky()) keep(left, naming);
      // A folder has a shorter path than what lies in it.
      for (const [path, node] of [...left].sort(([a], [b]) => a.length - b.length)) {
        if (path !== root && left.get(dirname(path)) !== "folder") {
          left.delete(path);
          continue;
        }
        const there = join(target, relative(root, path));
        if (node === "folder") mkdirSync(there, { recursive: true });
        else writeFileSync(there, node.loose.flatMap((change) => torn(change, lucky)).reduce(changed, node.kept));
      }
    },
    differences() {
      const wrong: string[] = [];
      const seen = new Set<string>();
      for (const item of readdirSync(root, { recursive: true, withFileTypes: true })) {
        const path = join(item.parentPath, item.name);
        const node = names.get(path);
        seen.add(path);
        if (item.isDirectory() ? node !== "folder" : node === undefined || node === "folder") wrong.push(path);
        else if (node !== "folder" && !path.endsWith("-shm")) {
          if (!node!.loose.reduce(changed, node!.kept).equals(readFileSync(path))) wrong.push(path);
        }
      }
      return [...wrong, ...[...names.keys()].filter((path) => path !== root && !seen.has(path))];
    },
  };
}

function keep(names: Map<string, Node>, { path, node }: Naming): void {
  if (node === undefined) names.delete(path);
  else names.set(path, node);
}

/** The sectors of a write that made it. */
function torn(change: Change, lucky: () => boolean): Change[] {
  if ("length" in change) return lucky() ? [change] : [];
  const sectors: Change[] = [];
  for (let from = 0; from < change.data.length; ) {
    const to = Math.min(change.data.length, from + sector - ((change.at + from) % sector));
    if (lucky()) sectors.push({ at: change.at + from, data: change.data.subarray(from, to) });
    from = to;
  }
  return sectors;
}

function changed(bytes: Buffer, change: Change): Buffer {
  const size = "length" in change ? change.length : Math.max(bytes.length, change.at + change.data.length);
  const next = Buffer.alloc(size);
  bytes.copy(next, 0, 0, Math.min(size, bytes.length));
  if ("data" in change) change.data.copy(next, change.at);
  return next;
}
