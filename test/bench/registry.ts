/**
 * `npm run bench:registry`: the registry beside nginx, both on the first core, whoever asks them on the second. Both
 * send the very same files. `-- --quick` takes a minute and shows that it works; its figures mean little.
 *
 * Requests are compared by the processor time of the serving process for each (utime + stime of /proc), which moves less
 * than rates do when a machine has other work. Needs two cores, `taskset` and nginx (Debian: `apt-get install nginx-light`).
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { openAdmin } from "@kernlock/registry-server";
import { serveFlags } from "../../registry-server/node-flags.ts";
import { root } from "../../scripts/project.ts";
import type { Result, Task } from "./registry-load.ts";

const quick = process.argv.includes("--quick");
const MiB = 2 ** 20;
const size = quick
  ? {
      rounds: 1,
      milliseconds: 1500,
      warm: 4000,
      blob: 64 * MiB,
      pulled: 64 * MiB,
      clients: 64,
      upload: 32 * MiB,
      uploads: 2,
    }
  : {
      rounds: 5,
      milliseconds: 5000,
      warm: 10_000,
      blob: 64 * MiB,
      pulled: 1024 * MiB,
      clients: 64,
      upload: 64 * MiB,
      uploads: 5,
    };
const cores = { server: "0", load: "1" };

for (const tool of ["taskset", "nginx"]) {
  if (spawnSync(tool, [tool === "nginx" ? "-v" : "-V"]).error !== undefined) {
    console.error(`bench:registry needs ${tool}${tool === "nginx" ? " (Debian: apt-get install nginx-light)" : ""}.`);
    process.exit(1);
  }
}

interface Server {
  readonly name: string;
  readonly port: number;
  readonly process: ChildProcess;
}

mkdirSync(join(root, ".build", "bench"), { recursive: true });
const folder = mkdtempSync(join(root, ".build", "bench", "registry-"));
const data = join(folder, "data");
const servers: ChildProcess[] = [];
try {
  const admin = await openAdmin({ dataFolder: data });
  await admin.createNamespace({ name: "bench", kind: "artifacts" });
  const { token } = await admin.createToken({ namespace: "bench", role: "publisher" });
  await admin.close();
  // The first start compiles; what is measured starts as every later one does.
  await stop((await startRegistry()).process);
  report(await measure(token));
} finally {
  for (const server of servers) server.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}

interface Compared {
  /** Microseconds of processor time for each request; medians. */
  readonly registry: number;
  readonly nginx: number;
  /** Median of the rounds' ratios, nginx / registry, and their range. */
  readonly share: number;
  readonly range: readonly [number, number];
  readonly requests_per_second: { readonly registry: number; readonly nginx: number };
  readonly mb_per_second: { readonly registry: number; readonly nginx: number };
}

interface Figures {
  readonly metadata: Compared;
  readonly blobs: Compared;
  readonly pulls: { clients: number; gib: number; rss_idle_mb: number; rss_peak_mb: number; probe_p99_ms: number };
  /** Of the time from the first byte to the answer; `processor_share` of the processor time alone. */
  readonly upload: {
    share: number;
    range: readonly [number, number];
    processor_share: number;
    registry_ms: number;
    plain_ms: number;
  };
}

async function measure(token: string): Promise<Figures> {
  let registry = await startRegistry();
  const blob = await putBlob(registry, token, size.blob);
  const manifest = await putManifest(registry, token, blob, size.blob);
  const pulled = await putBlob(registry, token, size.pulled);
  // What no manifest names, nobody may read.
  await putManifest(registry, token, pulled, size.pulled);
  const nginx = await startNginx(manifest.bytes);

  const metadata = await compare([registry, `/v2/bench/norm/manifests/${manifest.digest}`], [nginx, "/manifest"], 16);
  const blobs = await compare(
    [registry, `/v2/bench/norm/blobs/${blob}`],
    [nginx, `/blobs/${blob.replace(":", "/")}`],
    2,
  );
  await stop(nginx.process);

  // A process that has done nothing else yet.
  await stop(registry.process);
  registry = await startRegistry();
  const idle = residentMb(registry).now;
  writeFileSync(`/proc/${registry.process.pid}/clear_refs`, "5");
  const path = `/v2/bench/norm/blobs/${pulled}`;
  const { clients } = size;
  const pull = load({ kind: "pull", port: registry.port, path, clients, probe: "/healthz" });
  const pulls = {
    clients,
    gib: pull.bytes / 2 ** 30,
    rss_idle_mb: idle,
    rss_peak_mb: residentMb(registry).peak,
    probe_p99_ms: quantile(pull.each, 0.99),
  };

  const rounds = Array.from({ length: size.rounds }, (_, round) => {
    const what = { bytes: size.upload, first: 1 + round * size.uploads, count: size.uploads };
    const { port } = registry;
    const before = processorSeconds(registry);
    const sent = load({ kind: "put", port, path: "/v2/bench/norm/blobs/uploads/", token, ...what });
    const spent = processorSeconds(registry) - before;
    const plain = load({ kind: "write", file: join(data, "plain"), ...what }, cores.server);
    const processor = plain.processor / 1000 / spent;
    return { registry: quantile(sent.each, 0.5), plain: quantile(plain.each, 0.5), processor };
  });
  const shares = rounds.map((one) => one.plain / one.registry);
  const upload = {
    share: quantile(shares, 0.5),
    range: [Math.min(...shares), Math.max(...shares)] as const,
    processor_share: quantile(
      rounds.map((one) => one.processor),
      0.5,
    ),
    registry_ms: quantile(
      rounds.map((one) => one.registry),
      0.5,
    ),
    plain_ms: quantile(
      rounds.map((one) => one.plain),
      0.5,
    ),
  };
  await stop(registry.process);
  return { metadata, blobs, pulls, upload };
}

async function compare(ours: [Server, string], theirs: [Server, string], connections: number): Promise<Compared> {
  const once = ([server, path]: [Server, string], milliseconds: number) => {
    const before = processorSeconds(server);
    const result = load({ kind: "get", port: server.port, path, connections, milliseconds });
    const each = ((processorSeconds(server) - before) / result.requests) * 1e6;
    return {
      each,
      rate: (result.requests / result.milliseconds) * 1000,
      mb: result.bytes / result.milliseconds / 1000,
    };
  };
  for (const one of [ours, theirs]) once(one, size.warm);
  const rounds = Array.from({ length: size.rounds }, () => ({
    nginx: once(theirs, size.milliseconds),
    registry: once(ours, size.milliseconds),
  }));
  const median = (who: "registry" | "nginx", what: "each" | "rate" | "mb") =>
    quantile(
      rounds.map((round) => round[who][what]),
      0.5,
    );
  const shares = rounds.map((round) => round.nginx.each / round.registry.each);
  return {
    registry: median("registry", "each"),
    nginx: median("nginx", "each"),
    share: quantile(shares, 0.5),
    range: [Math.min(...shares), Math.max(...shares)],
    requests_per_second: { registry: median("registry", "rate"), nginx: median("nginx", "rate") },
    mb_per_second: { registry: median("registry", "mb"), nginx: median("nginx", "mb") },
  };
}

function report(figures: Figures): void {
  const machine = `${cpus()[0]?.model}, ${cpus().length} cores, Node ${process.version}`;
  const load = loadavg()[0]?.toFixed(1);
  const { metadata, blobs, pulls, upload } = figures;
  const text = JSON.stringify({ machine, load, quick, size, ...figures }, null, 2);
  writeFileSync(join(root, ".build", "bench", "registry.json"), `${text}\n`);
  const range = ([low, high]: readonly [number, number]) => `${low.toFixed(2)} to ${high.toFixed(2)}`;
  const row = (what: string, one: Compared, wanted: string) =>
    `| ${what} | ${one.registry.toFixed(1)} us | ${one.nginx.toFixed(1)} us | **${one.share.toFixed(2)}** | ${range(one.range)} | ${wanted} |`;
  console.log(
    [
      `${machine}, load ${load}${quick ? ", quick" : ""}`,
      "",
      "| what | registry | beside it | share | range | wanted |",
      "|---|---:|---:|---:|---:|---:|",
      row("a manifest of 4 KB, processor time, nginx", metadata, ">= 0.20"),
      row(`a blob of ${size.blob / MiB} MiB, processor time, nginx`, blobs, ">= 0.90"),
      `| upload of ${size.upload / MiB} MiB, plain write + sha256 + fsync | ${upload.registry_ms.toFixed(0)} ms | ${upload.plain_ms.toFixed(0)} ms | **${upload.share.toFixed(2)}** | ${range(upload.range)} | >= 0.80 |`,
      `| the same, processor time | | | ${upload.processor_share.toFixed(2)} | | |`,
      "",
      `| ${pulls.clients} clients x ${size.pulled / MiB} MiB | |`,
      "|---|---:|",
      `| RSS before | ${pulls.rss_idle_mb.toFixed(0)} MB |`,
      `| RSS peak (wanted: at most 150) | **${pulls.rss_peak_mb.toFixed(0)} MB** |`,
      `| a small request meanwhile, p99 | ${pulls.probe_p99_ms.toFixed(0)} ms |`,
      "",
      `Rates, not compared: manifests ${metadata.requests_per_second.registry.toFixed(0)}/s and ${metadata.requests_per_second.nginx.toFixed(0)}/s, blobs ${blobs.mb_per_second.registry.toFixed(0)} and ${blobs.mb_per_second.nginx.toFixed(0)} MB/s.`,
    ].join("\n"),
  );
}

function load(task: Task, core = cores.load): Result {
  const program = join(import.meta.dirname, "registry-load.ts");
  const text = execFileSync("taskset", ["-c", core, process.execPath, program, JSON.stringify(task)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  return JSON.parse(text) as Result;
}

function onServerCore(program: string, args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  // taskset becomes the program: its process id is that of the server.
  const child = spawn("taskset", ["-c", cores.server, program, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  servers.push(child);
  return child;
}

/** As `kernlock registry serve` starts it: the flags, and compiled code at hand. */
async function startRegistry(): Promise<Server> {
  const limits = ["reads", "writes", "logins"].flatMap((kind) => [`--${kind}-per-minute`, "1000000000"]);
  const flags = ["registry", "serve", "--data", data, "--port", "0", "--json", ...limits];
  const child = onServerCore(process.execPath, [...serveFlags, join(root, "cli", "main.ts"), ...flags], {
    NODE_COMPILE_CACHE: join(root, ".build", "compiled"),
  });
  let text = "";
  for await (const part of child.stdout!) {
    text += String(part);
    const port = /"port":\s*(\d+)/.exec(text)?.[1];
    if (port !== undefined) return { name: "registry", port: Number(port), process: child };
  }
  throw new Error(`the registry did not start: ${text}`);
}

async function startNginx(manifest: Buffer): Promise<Server> {
  const port = await freePort();
  writeFileSync(join(folder, "manifest"), manifest);
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (kind) => `${kind}_temp_path ${folder}/tmp;`,
  );
  const configuration = `daemon off; master_process off; user root; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
events { worker_connections 512; }
http {
  sendfile on; tcp_nopush on; access_log off; keepalive_requests 1000000000; default_type application/octet-stream;
  open_file_cache max=100; ${temporary.join(" ")}
  server {
    listen 127.0.0.1:${port};
    location = /manifest { root ${folder}; }
    location /blobs/ { root ${data}; }
  }
}
`;
  writeFileSync(join(folder, "nginx.conf"), configuration);
  const child = onServerCore("nginx", [
    "-p",
    folder,
    "-c",
    join(folder, "nginx.conf"),
    "-e",
    join(folder, "nginx.log"),
  ]);
  for (let tries = 0; tries < 200; tries++) {
    if (await answers(port)) return { name: "nginx", port, process: child };
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`nginx did not start: ${readFileSync(join(folder, "nginx.log"), "utf8")}`);
}

async function answers(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/manifest`).then(
    (answer) => answer.ok,
    () => false,
  );
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

async function stop(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  await gone;
}

/** Zeros, whatever the size: both servers send the same file, and neither looks at it. */
async function putBlob(registry: Server, token: string, bytes: number): Promise<string> {
  const hash = createHash("sha256");
  const piece = Buffer.alloc(MiB);
  for (let at = 0; at < bytes; at += MiB) hash.update(piece);
  const digest = `sha256:${hash.digest("hex")}`;
  const body = async function* () {
    for (let at = 0; at < bytes; at += MiB) yield piece;
  };
  const answer = await fetch(`http://127.0.0.1:${registry.port}/v2/bench/norm/blobs/uploads/?digest=${digest}`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}` },
    body: ReadableStream.from(body()),
    duplex: "half",
  } as RequestInit);
  if (answer.status !== 201) throw new Error(`the blob was answered with ${answer.status}`);
  return digest;
}

async function putManifest(registry: Server, token: string, blob: string, bytesOfBlob: number) {
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const layer = { mediaType: "application/octet-stream", digest: blob, size: bytesOfBlob };
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: layer,
      layers: [layer],
      annotations: { padding: "x".repeat(3600) },
    }),
  );
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  const answer = await fetch(`http://127.0.0.1:${registry.port}/v2/bench/norm/manifests/${digest}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": mediaType },
    body: bytes,
  });
  if (answer.status !== 201) throw new Error(`the manifest was answered with ${answer.status}: ${await answer.text()}`);
  return { bytes, digest };
}

/** utime + stime of all its threads. */
function processorSeconds({ process: child }: Server): number {
  const fields = readFileSync(`/proc/${child.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  // In ticks, of which Linux shows 100 a second on every architecture.
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function residentMb({ process: child }: Server): { now: number; peak: number } {
  const text = readFileSync(`/proc/${child.pid}/status`, "utf8");
  const of = (name: string) => (Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(text)?.[1]) * 1024) / 1e6;
  return { now: of("VmRSS"), peak: of("VmHWM") };
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}
