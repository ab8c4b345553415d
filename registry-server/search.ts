import type { Principal } from "./access.ts";
import { privateNamespacesOf } from "./access.ts";
import type { Catalog, KernelRow } from "./store/catalog.ts";

const maxWords = 8;
const limit = 50;

/**
 * Kernels that hold every word of the query, each word taken as the beginning of one; newest first without a query.
 * Words are quoted, so nothing a reader types is search syntax.
 */
export function searchKernels(catalog: Catalog, query: string, reader: Principal): KernelRow[] {
  const namespaces = privateNamespacesOf(reader);
  const words = query.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  if (words.length === 0) return query.trim() === "" ? catalog.recent(namespaces, limit) : [];
  const match = words
    .slice(0, maxWords)
    .map((word) => `"${word.slice(0, 64)}"*`)
    .join(" ");
  return catalog.search(match, namespaces, limit);
}
