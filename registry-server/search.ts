import type { Principal } from "./access.ts";
import { readerOf } from "./access.ts";
import type { Catalog, KernelRow } from "./store/catalog.ts";
import type { Records } from "./store/records.ts";

const maxWords = 8;
const limit = 50;

/**
 * Kernels that hold every word of the query, each word taken as the beginning of one; newest first without a query.
 * Words are letters and digits alone, so nothing a reader types is search syntax.
 */
export function searchKernels(catalog: Catalog, query: string, reader: Principal): KernelRow[] {
  const words = wordsOf(query);
  if (words.length === 0) return query.trim() === "" ? catalog.recent(readerOf(reader), limit) : [];
  return catalog.search(words, readerOf(reader), limit);
}

/** The same, from any database. */
export async function findKernels(records: Records, query: string, reader: Principal): Promise<KernelRow[]> {
  const words = wordsOf(query);
  if (words.length === 0) return query.trim() === "" ? records.recent(readerOf(reader), limit) : [];
  return records.search(words, readerOf(reader), limit);
}

function wordsOf(query: string): string[] {
  const words = query.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.slice(0, maxWords).map((word) => word.slice(0, 64));
}
