/**
 * The paged KV cache: which pages a sequence holds, one arena per layer group. Layers of a group share page numbers: page
 * p of every layer's memory belongs to the same sequence.
 *
 * A sequence reserves, when it is admitted, the most pages it can ever hold at once; so a page that is needed is there.
 */
import { type LayerKind, pageTokens } from "@kernlock/policies/compatibility";

export interface Arena {
  readonly pages: number;
  /** Pages that nobody holds, used from the end. */
  readonly free: number[];
  reserved: number;
}

/** Pages of one sequence by absolute position: entry i holds positions 64 i to 64 i + 63; -1 where it was freed. */
export interface PageTable {
  readonly kind: LayerKind;
  readonly reserved: number;
  readonly pages: number[];
  /** Entries below are freed. */
  first: number;
}

export function createArena(pages: number): Arena {
  return { pages, free: Array.from({ length: pages }, (_, i) => pages - 1 - i), reserved: 0 };
}

/** Null when the arena cannot promise that many pages now. */
export function reserve(arena: Arena, kind: LayerKind, pages: number): PageTable | null {
  if (arena.reserved + pages > arena.pages) return null;
  arena.reserved += pages;
  return { kind, reserved: pages, pages: [], first: 0 };
}

/**
 * Makes room for positions [from, to), of which the first one still looks back `window - 1` keys (sliding groups): pages
 * that no query will read again are freed first.
 */
export function extend(arena: Arena, table: PageTable, from: number, to: number, window: number): void {
  if (table.kind === "sliding") {
    const oldest = Math.max(0, from - (window - 1));
    for (; table.first < Math.floor(oldest / pageTokens); table.first++) {
      const page = table.pages[table.first];
      if (page === undefined) break;
      arena.free.push(page);
      table.pages[table.first] = -1;
    }
  }
  while (table.pages.length * pageTokens < to) {
    const page = arena.free.pop();
    if (page === undefined) throw new Error("a sequence needs more pages than it reserved");
    table.pages.push(page);
  }
}

export function release(arena: Arena, table: PageTable): void {
  arena.free.push(...table.pages.filter((page) => page >= 0));
  arena.reserved -= table.reserved;
  table.pages.length = 0;
}
