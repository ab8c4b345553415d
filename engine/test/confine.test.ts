import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { startHost } from "../client/host.ts";
import { allowedToHost, confinementFacts, spawnConfined, starterPath, witness } from "../confine/index.ts";
import { createTemplateRenderer, loadTokenizer, openModel } from "../model/index.ts";

const folder = mkdtempSync(join(tmpdir(), "kernlock-confine-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a script in a confined Node and gives what it printed. */
async function run(script: string, env: Record<string, string> = {}): Promise<string> {
  const child = spawnConfined({
    args: ["--no-warnings", "-e", script],
    env,
    stdio: ["ignore", "pipe", "ignore"],
    allowed: allowedToHost(false),
    effort: "required",
  });
  let text = "";
  child.stdout!.setEncoding("utf8").on("data", (piece: string) => {
    text += piece;
  });
  await once(child, "close");
  return text;
}

const attempt = (what: string): string =>
  `try { ${what}; console.log("done") } catch (error) { console.log(error.code ?? error.message) }`;

describe("a program that the starter has started", () => {
  test("reads what is allowed and nothing else, writes nothing", async () => {
    const secret = join(folder, "secret");
    writeFileSync(secret, "secret");
    const fs = 'const fs = process.getBuiltinModule("fs");';
    const read = (path: string): string => fs + attempt(`fs.readFileSync(${JSON.stringify(path)})`);
    expect(await run(read(secret))).toBe("EACCES\n");
    expect(await run(read("/etc/passwd"))).toBe("EACCES\n");
    expect(await run(read(`/proc/${process.pid}/environ`))).toBe("EACCES\n");
    // By a detour through what is allowed.
    expect(await run(read(`/proc/self/root${secret}`))).toBe("EACCES\n");
    expect(await run(read("/proc/self/maps"))).toBe("done\n");
    const write = (path: string): string => fs + attempt(`fs.writeFileSync(${JSON.stringify(path)}, "x")`);
    expect(await run(write(join(folder, "new")))).toBe("EACCES\n");
    expect(await run(write(join(import.meta.dirname, "new")))).toBe("EACCES\n");
    expect(await run(write("/proc/self/comm"))).toBe("EACCES\n");
    expect(await run(write("/dev/shm/kernlock-new"))).toBe("EACCES\n");
    expect(readdirSync(folder)).toEqual(["secret"]);
  });

  test("executes nothing but Node, and connects nowhere", async () => {
    const spawns = `const { status, error } = process.getBuiltinModule("child_process").spawnSync("/bin/true"); console.log(error?.code ?? status)`;
    expect(await run(spawns)).toBe("EACCES\n");
    const connects = `process.getBuiltinModule("net").connect(1, "127.0.0.1").on("error", (e) => console.log(e.code))`;
    // Nothing listens there: where connecting is allowed, that is what is said.
    expect(await run(connects)).toBe(confinementFacts().landlock >= 4 ? "EACCES\n" : "ECONNREFUSED\n");
  });

  test("has the environment that is allowed, no core file, no capability and no terminal", async () => {
    const env = { CUDA_CACHE_DISABLE: "1", LD_DEBUG: "all", NODE_OPTIONS: "--inspect", SECRET: "x" };
    expect(JSON.parse(await run("console.log(JSON.stringify(process.env))", env))).toEqual({
      CUDA_CACHE_DISABLE: "1",
      UV_USE_IO_URING: "0",
    });
    const limits = await run('process.stdout.write(process.getBuiltinModule("fs").readFileSync("/proc/self/limits"))');
    expect(limits).toMatch(/Max core file size\s+0\s+0\s/);
    const status = await run('process.stdout.write(process.getBuiltinModule("fs").readFileSync("/proc/self/status"))');
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) expect(status).toMatch(new RegExp(`${set}:\\s0+\n`));
    expect(status).toMatch(/NoNewPrivs:\s1\n/);
    const stat = await run('process.stdout.write(process.getBuiltinModule("fs").readFileSync("/proc/self/stat"))');
    const [pid, session, terminal] = [0, 5, 6].map((i) => stat.split(" ")[i]);
    expect([session, terminal]).toEqual([pid, "0"]);
  });

  test("gets the descriptors that are handed over, and none that leaked into its parent", async () => {
    const secret = join(folder, "leak");
    writeFileSync(secret, "leak");
    // A shell hands 9 on to the starter, as a library that forgets close-on-exec would.
    const rules = ["/lib", "/lib64", "/usr/lib", "/proc/self"].flatMap((path) => ["-r", path]);
    const list = ["-x", "/bin/ls", "-x", "/lib64/ld-linux-x86-64.so.2", "--", "/bin/ls", "-l", "/proc/self/fd"];
    const script = `exec 9<"$1"; shift; starter="$1"; shift; exec 8<&9; "$starter" --parent $$ --descriptors 3 "$@"`;
    const text = execFileSync("/bin/sh", ["-c", script, "sh", secret, starterPath(), ...rules, ...list], {
      encoding: "utf8",
    });
    expect(text).toContain(" 1 -> ");
    expect(text).not.toContain("leak");
  });

  test("dies with its parent", async () => {
    const script = `
      const { spawnConfined, allowedToHost } = await import(${JSON.stringify(join(import.meta.dirname, "../confine/index.ts"))});
      const child = spawnConfined({ args: ["-e", "setInterval(() => {}, 1000)"], env: {}, effort: "required",
        stdio: ["ignore", "ignore", "ignore"], allowed: allowedToHost(false) });
      console.log(child.pid);
      setInterval(() => {}, 1000);`;
    const parent = spawn(process.execPath, ["--no-warnings", "--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [text] = (await once(parent.stdout!, "data")) as [Buffer];
    const pid = Number(text.toString());
    process.kill(pid, 0);
    parent.kill("SIGKILL");
    await expect.poll(() => alive(pid), { timeout: 60_000 }).toBe(false);
  });
});

function alive(pid: number): boolean {
  try {
    return !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe("where Landlock is missing", () => {
  const wrapper = join(folder, "without-landlock");
  const compile = (): void => {
    execFileSync(process.env.CXX ?? "g++", ["-x", "c", join(import.meta.dirname, "without-landlock.c"), "-o", wrapper]);
  };
  const start = (...options: string[]) => {
    const script = `"$0" "$1" --parent $$ ${options.join(" ")} --descriptors 3 -r /proc/self -- /bin/cat /proc/self/status`;
    // One more command, so that the shell stays and is the parent.
    return spawnSync("/bin/sh", ["-c", `${script}; exit $?`, wrapper, starterPath()], { encoding: "utf8" });
  };

  test("nothing is started, and the reason is given", () => {
    compile();
    const { status, stdout, stderr } = start();
    expect([status, stdout]).toEqual([125, ""]);
    expect(stderr).toContain("Landlock is not available");
    expect(spawnSync(wrapper, [starterPath(), "--probe"], { encoding: "utf8" }).stdout).toContain('"landlock":0');
  });

  test("with best effort the rest is applied", () => {
    const { status, stdout } = start("--best-effort");
    expect(status).toBe(0);
    expect(stdout).toMatch(/NoNewPrivs:\s1\n/);
    expect(stdout).toMatch(/CapEff:\s0+\n/);
    expect(stdout).toMatch(/Seccomp:\s2\n/);
  });
});

test("a host that has not confined itself yet is not taken for one that has", async () => {
  const host = startHost({ onMessage: () => {}, onEnd: () => {} });
  onTestFinished(() => host.close());
  await sleep(500);
  expect(host.confinement).toBeNull();
  // The starter's part holds; the filter of the second step is not there.
  expect(witness(host.pid, "required")).toMatchObject({ no_new_privs: true, no_capabilities: true, seccomp: false });
});

test("a renderer has taken from itself what it needs no more before it sees a template", async () => {
  const model = openModel(join(import.meta.dirname, "../../models/dictionary"));
  onTestFinished(() => model.close());
  await using renderer = await createTemplateRenderer(model, loadTokenizer(model)!);
  const [pid] = childrenThatRun("template-process");
  expect(witness(pid!, "required")).toMatchObject({ no_new_privs: true, no_capabilities: true, seccomp: true });
  expect((await renderer.render({ messages: [{ role: "user", content: "hello" }] })).text).toContain("hello");
});

function childrenThatRun(module: string): number[] {
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim().split(" ");
  return children.map(Number).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(module));
}

test("a host whose starter refuses says why", async () => {
  const ended = Promise.withResolvers<unknown>();
  const start = (_main: string, stdio: readonly (number | "ignore" | "pipe")[]): ChildProcess =>
    spawn(starterPath(), ["--parent", "1", "--descriptors", "3", "--", "/bin/true"], { stdio: [...stdio] });
  startHost({ onMessage: () => {}, onEnd: ended.resolve }, { start });
  expect(await ended.promise).toMatchObject({
    code: "KL_CONFINE_UNAVAILABLE",
    message: expect.stringContaining("the caller is gone"),
  });
});
