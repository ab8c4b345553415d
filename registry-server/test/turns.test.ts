import { expect, test } from "vitest";
import { createGate, createTurns } from "../store/turns.ts";

/** Works that end when told to, and the order in which they began. */
function stage() {
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const work = (name: string) => () => {
    begun.push(name);
    return new Promise<string>((done) => ends.set(name, () => done(name)));
  };
  const end = async (name: string) => {
    ends.get(name)!();
    await new Promise((done) => setImmediate(done));
  };
  return { begun, work, end };
}

test("who is alone waits for everybody before, and everybody after waits for it", async () => {
  const { begun, work, end } = stage();
  const turns = createTurns();
  const all = [
    turns.together("a", work("one")),
    turns.together("a", work("two")),
    turns.alone("a", work("three")),
    turns.together("a", work("four")),
    turns.together("a", work("five")),
    turns.alone("b", work("elsewhere")),
  ];
  await new Promise((done) => setImmediate(done));
  expect(begun).toEqual(["one", "two", "elsewhere"]);
  await end("two");
  expect(begun).toHaveLength(3);
  await end("one");
  expect(begun).toEqual(["one", "two", "elsewhere", "three"]);
  await end("three");
  expect(begun.slice(4)).toEqual(["four", "five"]);
  for (const name of ["four", "five", "elsewhere"]) await end(name);
  expect(await Promise.all(all)).toEqual(["one", "two", "three", "four", "five", "elsewhere"]);
});

test("who comes later waits for the first of several, also when the last of them has ended", async () => {
  const { begun, work, end } = stage();
  const turns = createTurns();
  const all = [turns.together("a", work("long")), turns.together("a", work("short"))];
  await new Promise((done) => setImmediate(done));
  await end("short");
  all.push(turns.alone("a", work("later")));
  await new Promise((done) => setImmediate(done));
  expect(begun).toEqual(["long", "short"]);
  await end("long");
  await end("later");
  expect(await Promise.all(all)).toEqual(["long", "short", "later"]);
});

test("a work that fails fails alone", async () => {
  const turns = createTurns();
  const bad = turns.alone("a", () => Promise.reject(new Error("no")));
  const good = turns.together("a", async () => "yes");
  await expect(bad).rejects.toThrow("no");
  expect(await good).toBe("yes");
});

test("a gate lets so many in at a time, and the next when one has ended, however it ended", async () => {
  const { begun, work, end } = stage();
  const gate = createGate(2);
  const all = ["one", "two", "three", "four"].map((name) => gate(work(name)));
  all.push(gate(() => Promise.reject(new Error("no"))));
  all.push(gate(work("last")));
  const refused = expect(all[4]).rejects.toThrow("no");
  await new Promise((done) => setImmediate(done));
  expect(begun).toEqual(["one", "two"]);
  await end("two");
  expect(begun).toEqual(["one", "two", "three"]);
  await end("one");
  await end("three");
  await refused;
  expect(begun).toEqual(["one", "two", "three", "four", "last"]);
  await end("four");
  await end("last");
  expect(await all[5]).toBe("last");
});
