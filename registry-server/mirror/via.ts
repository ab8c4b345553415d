/**
 * Who asks for whom: a mirror names itself in every request, after those for which it asks. So mirrors that mirror each
 * other notice, and answer from what they hold.
 */
import { AsyncLocalStorage } from "node:async_hooks";

export const viaHeader = "kernlock-via";

const maxHops = 4;
const chain = new AsyncLocalStorage<readonly string[]>();

export function readVia(header: string | string[] | undefined): readonly string[] {
  const ids = [header ?? ""].flat().join(",").split(",");
  return ids
    .map((id) => id.trim())
    .filter((id) => /^[0-9a-f]{12}$/.test(id))
    .slice(0, 64);
}

/** Whether asking the upstream again would go round in a circle, or on without end. */
export function goesRound(via: readonly string[], mirror: { readonly id: string }): boolean {
  return via.includes(mirror.id) || via.length >= maxHops;
}

/** Whatever `work` asks an upstream for, it asks for these. */
export function asking<T>(via: readonly string[], work: () => T): T {
  return chain.run(via, work);
}

export function viaHeaders(mirror: { readonly id: string }): Record<string, string> {
  return { [viaHeader]: [...(chain.getStore() ?? []), mirror.id].join(", ") };
}
