/** `npm run demo:lockdown [-- --without-hostile-kernel]`: tells the story on standard output; ends with 1 where it goes otherwise. */
import { lockdown } from "./story.ts";

const started = Date.now();
await lockdown({
  hostileKernel: !process.argv.includes("--without-hostile-kernel"),
  say: (line) => console.log(line),
});
console.log(`${((Date.now() - started) / 1000).toFixed(1)} s`);
