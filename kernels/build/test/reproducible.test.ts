import { readdirSync, readFileSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Workshop } from "./workshop.ts";

function everyFile(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());
  const paths = names.map((e) => join(e.parentPath, e.name)).sort();
  return Object.fromEntries(paths.map((p) => [p.slice(folder.length), readFileSync(p).toString("base64")]));
}

test("the same inputs give the same bytes: twice, from another folder, with other dates, umask and environment", async () => {
  using here = new Workshop();
  using there = new Workshop();
  // What could leak: the file's path, its date, the date of the build.
  for (const w of [here, there]) {
    w.append("cpu/add.cc", '\nextern "C" const char* stamp() { return __FILE__ __DATE__ __TIME__ __TIMESTAMP__; }\n');
    w.append(
      "cpu/tiny.cc",
      '\nextern "C" const char* stamp();\nextern "C" const char* volatile used = stamp == nullptr ? 0 : "x";\n',
    );
    w.append("cpu/tiny.cc", "namespace { int counter; }\nint* unnamed() { return &counter; }\n");
  }
  const first = await here.build();
  const again = await here.build({ out: join(here.folder, "again") });
  expect(again.index).toBe(first.index);
  expect(everyFile(join(here.folder, "again"))).toEqual(everyFile(here.out));

  const old = new Date("2001-02-03T04:05:06Z");
  for (const path of ["kernel.json", "cpu/add.cc", "cpu/tiny.cc", "cpu/tiny.h"])
    utimesSync(join(there.packageFolder, path), old, old);
  const umask = process.umask(0o077);
  const saved = { ...process.env };
  Object.assign(process.env, {
    LANG: "de_DE.UTF-8",
    TZ: "Asia/Tokyo",
    CPATH: "/nowhere",
    CXXFLAGS: "-O0",
    SOURCE_DATE_EPOCH: "1",
    TMPDIR: there.folder,
  });
  try {
    const other = await there.build();
    expect(other.index).toBe(first.index);
    expect(everyFile(there.out)).toEqual(everyFile(here.out));
  } finally {
    process.umask(umask);
    for (const name of ["LANG", "TZ", "CPATH", "CXXFLAGS", "SOURCE_DATE_EPOCH", "TMPDIR"]) delete process.env[name];
    Object.assign(process.env, saved);
  }
});

test("another source gives another digest, and so does another revision", async () => {
  using w = new Workshop();
  const first = await w.build();
  const revised = await w.build({ revision: "unversioned" });
  expect(revised.index).not.toBe(first.index);
  expect(revised.variants[0]?.manifest).toBe(first.variants[0]?.manifest);
  w.append("cpu/tiny.h", "// more\n");
  expect((await w.build()).index).toBe(first.index);
  w.append("README.md", "More.\n");
  expect((await w.build()).index).not.toBe(first.index);
});
