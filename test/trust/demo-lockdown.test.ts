import { expect, test } from "vitest";
import { lockdown } from "../../scripts/demo-lockdown/story.ts";
import { mountNamespaces } from "../../scripts/operator.ts";

/** Throws at the first outcome that is not as told. The hostile kernel has tests of its own: test/attacks/hostile-kernel. */
test("the demo of a lockdown goes as it is told, all but the hostile kernel", async () => {
  const lines: string[] = [];
  const checked = await lockdown({ hostileKernel: false, say: (line) => void lines.push(line) });
  expect(checked).toBe(mountNamespaces === null ? 37 : 44);
  expect(lines.filter((line) => line.startsWith("LEFT OUT"))).toHaveLength(mountNamespaces === null ? 2 : 1);
}, 1_200_000);
