import type { Principal } from "./access.ts";
import { readerOf } from "./access.ts";
import type { KernelRow, Records } from "./store/records.ts";

const maxWords = 8;
const limit = 50;

/**
 * Kernels that hold every word of the query, each word taken as the beginning of one; newest first without a query.
 * Words are letters and digits alone, so nothing a reader types is search syntax.
 */
export async function findKernels(
  records: Records,
  query: string,
  reader: Principal,
  most: number = limit,
): Promise<KernelRow[]> {
  const words = wordsOf(query);
  if (words.length === 0) return query.trim() === "" ? records.recent(readerOf(reader), most) : [];
  return records.search(words, readerOf(reader), most);
}

function wordsOf(query: string): string[] {
  const words = query.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.slice(0, maxWords).map((word) => word.slice(0, 64));
}
