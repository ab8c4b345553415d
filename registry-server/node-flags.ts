/**
 * What a serving process is started with; `cli/bin/kernlock.cjs` repeats it, as it must be readable for any Node. On a
 * machine with much memory V8 would let the space of young objects grow to 128 MiB, and touches all of it in turn. Most
 * objects here die with their request, so that a small one costs no time that could be measured.
 */
export const serveFlags = ["--max-semi-space-size=2"] as const;
