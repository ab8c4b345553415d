/** Feeds that a policy has at a URL: a real https server on a loopback port, which serves as badly as a server can. */
import { X509Certificate } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { canonicalJson, digestOf } from "@kernlock/kernels/format";
import { advisoriesType, createBundle, feedSubject, parsePolicy } from "@kernlock/policies/trust";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { statementBytes } from "../../cli/attest.ts";
import { fetchFeeds } from "../../cli/feeds.ts";
import { certify } from "../../policies/trust/test/authorities/certificates.ts";
import { tlv } from "../../policies/trust/test/authorities/der.ts";
import { newProject, type Person, policyText, run, scene } from "./kit.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let stage: Awaited<ReturnType<typeof scene>>;
let answer: Answer;
let authority: string;
let asked = 0;
const certificate = certifiedLoopback();
const server = createServer({ key: certificate.key, cert: certificate.cert }, (request, response) => {
  asked += 1;
  answer(request, response);
});

beforeAll(async () => {
  stage = await scene();
  authority = join(stage.folder, "authority.pem");
  writeFileSync(authority, certificate.ca);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function certifiedLoopback() {
  const root = certify({ name: "test authority", ca: true });
  const address = tlv(0x87, Buffer.from([127, 0, 0, 1]));
  const leaf = certify({ name: "127.0.0.1", by: root, names: [address], purposes: ["1.3.6.1.5.5.7.3.1"] });
  const key = leaf.privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  const [ca, cert] = [root, leaf].map(({ der }) => new X509Certificate(der).toString());
  return { ca: ca as string, cert: cert as string, key };
}

const address = (path = "/feed.json") => `https://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
const day = 86_400_000;

async function feed(sequence: number, more: { ageDays?: number; records?: object[]; by?: Person } = {}) {
  const { ageDays = 0, records = [], by = stage.people.officer } = more;
  const issued = new Date(Date.now() - ageDays * day).toISOString();
  const value = { feed: "acme", sequence, issued, advisories: records };
  const digest = digestOf(canonicalJson(value));
  return createBundle(statementBytes(feedSubject("acme"), digest, { type: advisoriesType, value }), by);
}

const advisory = {
  id: "KSA-1",
  modified: "2026-11-01T00:00:00Z",
  affected: [{ package: { ecosystem: "Kernlock", name: "acme/norm" }, versions: ["1.0.0"] }],
};

const serve =
  (bytes: Uint8Array): Answer =>
  (_, response) =>
    response.writeHead(200, { "content-type": "application/json" }).end(bytes);

let project: string;
const policy = () =>
  policyText(stage.people, "", `advisories: [{ id: acme, url: "${address()}", by: [officer], maxAgeDays: 7 }]\n`);
const state = process.env.XDG_STATE_HOME;
beforeEach(() => {
  project = newProject(stage.client.origin, policy(), { "acme/norm": "1.0.0" });
  process.env.XDG_STATE_HOME = join(project, "state");
});
afterAll(() => {
  if (state === undefined) delete process.env.XDG_STATE_HOME;
  else process.env.XDG_STATE_HOME = state;
});
const kernlock = (...args: string[]) => run(project, [...args, ...(args[0] === "verify" ? [] : ["--ca", authority])]);
/** The one copy that the project's user has. */
const copy = () => join(project, "state", "kernlock", "feeds", `${digestOf(address()).slice("sha256:".length)}.json`);
const keep = (bytes: Uint8Array) => {
  mkdirSync(dirname(copy()), { recursive: true });
  writeFileSync(copy(), bytes);
};

const outcome = async (timeoutMs = 60_000) => {
  const [found] = await fetchFeeds(parsePolicy(policy()), { now: new Date(), ca: certificate.ca, timeoutMs });
  return [found?.outcome, found?.problem?.code, found?.counts];
};

test("lock brings a feed and pins its number; loading asks nobody", async () => {
  answer = serve(await feed(3));
  const made = await kernlock("lock");
  expect(made.status, made.stdout).toBe(0);
  expect(JSON.parse(readFileSync(join(project, "kernels.lock"), "utf8")).advisories).toEqual({ acme: 3 });
  const before = asked;
  expect((await kernlock("verify")).status).toBe(0);
  expect(asked).toBe(before);
  answer = serve(await feed(4, { records: [advisory] }));
  const fetched = await kernlock("fetch");
  expect(fetched.json.feeds).toEqual([{ id: "acme", url: address(), outcome: "taken", problem: null }]);
  expect((await kernlock("verify")).code).toBe("KL_VERDICT_ADVISORY");
  expect((await kernlock("fetch")).json.feeds[0].outcome).toBe("same");
});

test("a server whose certificate no named authority gave is not asked", async () => {
  answer = serve(await feed(3));
  const before = asked;
  expect((await run(project, ["lock"])).code).toBe("KL_FEED_MISSING");
  expect(asked).toBe(before);
});

/** Whatever does not bring a feed that counts. */
const bad: [string, string, () => Answer | Promise<Answer>][] = [
  ["an error", "KL_FEED_FETCH", () => (_, response) => response.writeHead(503).end("later")],
  ["nothing found", "KL_FEED_FETCH", () => (_, response) => response.writeHead(404).end()],
  ["no content", "KL_FEED_FETCH", () => (_, response) => response.writeHead(204).end()],
  [
    "a redirect to http",
    "KL_FEED_FETCH",
    () => (_, response) => response.writeHead(302, { location: "http://127.0.0.1:1/feed.json" }).end(),
  ],
  [
    "a redirect to itself",
    "KL_FEED_FETCH",
    () => (_, response) => response.writeHead(302, { location: address() }).end(),
  ],
  [
    "a redirect into the machine",
    "KL_FEED_FETCH",
    () => (_, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end(),
  ],
  [
    "more than is taken, announced",
    "KL_FEED_FETCH",
    () => (_, response) => response.writeHead(200, { "content-length": 1 << 30 }).end(Buffer.alloc(9 << 20)),
  ],
  ["more than is taken, without end", "KL_FEED_FETCH", () => (_, response) => endless(response)],
  [
    "a body that ends before its length",
    "KL_FEED_FETCH",
    async () => {
      const bytes = await feed(9);
      return (_, response) => {
        response.writeHead(200, { "content-length": bytes.byteLength });
        response.write(bytes.subarray(0, 40), () => response.socket?.destroy());
      };
    },
  ],
  ["the first half of a feed", "KL_FEED_INVALID", async () => serve((await feed(9)).subarray(0, 200))],
  ["a page of some portal", "KL_FEED_INVALID", () => serve(Buffer.from("<html>Please log in</html>"))],
  ["nothing", "KL_FEED_INVALID", () => serve(Buffer.alloc(0))],
  [
    "a compressed feed",
    "KL_FEED_FETCH",
    () => (_, response) => response.writeHead(200, { "content-encoding": "gzip" }).end("x"),
  ],
  ["a feed of somebody else", "KL_FEED_SIGNER", async () => serve(await feed(9, { by: stage.people.alice }))],
  ["a feed that is too old", "KL_FEED_STALE", async () => serve(await feed(9, { ageDays: 8 }))],
  ["a feed of tomorrow", "KL_FEED_FUTURE", async () => serve(await feed(9, { ageDays: -1 }))],
  ["an older number", "KL_FEED_ROLLBACK", async () => serve(await feed(4))],
  [
    "the same number with other contents",
    "KL_FEED_ROLLBACK",
    async () => serve(await feed(5, { records: [advisory] })),
  ],
];

/** Bytes until the other side has had enough. */
function endless(response: ServerResponse): void {
  response.writeHead(200);
  const chunk = Buffer.alloc(1 << 20, " ");
  const more = (): void => {
    while (!response.destroyed && response.write(chunk));
    response.once("drain", more);
  };
  more();
}

describe.each(bad)("where the server gives %s (%s)", (_, code, make) => {
  test("a fresh copy stays as it is and goes on to count; an old one, or none, does not", async () => {
    answer = await make();
    // Without a copy there is nothing that could be older.
    if (code !== "KL_FEED_ROLLBACK") expect(await outcome()).toEqual(["failed", code, false]);
    for (const [ageDays, counts] of [
      [0, true],
      [8, false],
    ] as const) {
      const before = await feed(5, { ageDays });
      keep(before);
      expect(await outcome()).toEqual(["failed", code, counts]);
      expect(readFileSync(copy())).toEqual(Buffer.from(before));
    }
  });
});

test("lock warns of what did not come, and the verdict says what follows", async () => {
  const good = await feed(5);
  keep(good);
  answer = (_, response) => response.writeHead(503).end();
  const made = await kernlock("lock");
  expect(made.status, made.stdout).toBe(0);
  expect(made.stderr).toContain("warning: [KL_FEED_FETCH]");
  expect(made.stderr).toContain("The copy at hand still counts.");
  expect((await kernlock("verify")).status).toBe(0);
  keep(await feed(5, { ageDays: 8 }));
  const refused = await kernlock("lock");
  expect([refused.status, refused.code]).toEqual([1, "KL_FEED_STALE"]);
  expect(refused.stderr).toContain("There is no copy at hand that counts.");
  expect((await kernlock("verify")).code).toBe("KL_FEED_STALE");
});

test("without a copy, nothing is locked, and fetch says why", async () => {
  answer = serve(await feed(3));
  expect((await kernlock("lock")).status).toBe(0);
  rmSync(copy());
  answer = (_, response) => response.writeHead(503).end();
  const fetched = await kernlock("fetch");
  expect([fetched.status, fetched.code]).toEqual([1, "KL_FEED_FETCH"]);
  expect((await kernlock("verify")).code).toBe("KL_FEED_MISSING");
  expect((await kernlock("lock")).code).toBe("KL_FEED_MISSING");
});

test("an older number than was seen is refused, also when the copy was taken away", async () => {
  answer = serve(await feed(6));
  expect((await kernlock("fetch")).code).toBe("KL_CLI_FILE");
  expect((await kernlock("lock")).status).toBe(0);
  rmSync(copy());
  answer = serve(await feed(5));
  const fetched = await kernlock("fetch");
  expect([fetched.status, fetched.code]).toEqual([1, "KL_FEED_ROLLBACK"]);
  expect((await kernlock("verify")).code).toBe("KL_FEED_MISSING");
});

test("a redirect to another https address is followed, since the signature says whose feed it is", async () => {
  const bytes = await feed(3);
  answer = (request, response) =>
    request.url === "/feed.json"
      ? response.writeHead(307, { location: address("/elsewhere.json") }).end()
      : serve(bytes)(request, response);
  expect((await kernlock("lock")).status).toBe(0);
});

describe("a server that", () => {
  test("is down", async () => {
    const down = policy().replace(/127\.0\.0\.1:\d+/, "127.0.0.1:1");
    const [found] = await fetchFeeds(parsePolicy(down), { now: new Date() });
    expect([found?.problem?.code, found?.counts]).toEqual(["KL_FEED_FETCH", false]);
  });
  test("never answers is given up", async () => {
    answer = () => {};
    keep(await feed(5));
    expect(await outcome(1000)).toEqual(["failed", "KL_FEED_FETCH", true]);
  });
  test("answers a byte at a time is given up", async () => {
    answer = (_, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(" "), 50);
      response.on("close", () => clearInterval(timer));
    };
    expect(await outcome(1000)).toEqual(["failed", "KL_FEED_FETCH", false]);
  });
});
