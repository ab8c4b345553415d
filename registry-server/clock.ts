/**
 * The system's clock, which never goes back while the process runs: where it is set back, time goes on by the monotonic
 * clock from what it was at the start. So what has expired stays expired. Set ahead it is believed, which lets things
 * expire early, and back again when it is right.
 */
export function neverBack(
  wall: () => Date = () => new Date(),
  elapsedMs: () => number = () => performance.now(),
): () => Date {
  const start = wall().getTime() - elapsedMs();
  return () => new Date(Math.max(wall().getTime(), start + elapsedMs()));
}
