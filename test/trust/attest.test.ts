import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { newFolder, newProject, policyText, run, scene } from "./kit.ts";

let stage: Awaited<ReturnType<typeof scene>>;
let registry: string[];
beforeAll(async () => {
  stage = await scene();
  registry = ["--registry", stage.client.origin];
});

const kernel = "acme/norm@1.0.0";
const output = (name: string) => join(stage.folder, name);

/** A project whose policy demands something more, with what was attached so far. */
const demanding = (rule: string, more = "") =>
  newProject(stage.client.origin, policyText(stage.people, rule, more), { "acme/norm": "1.0.0" });

describe("an audit is signed by", () => {
  const sign = async (name: string, args: string[], env: Record<string, string> = {}) => {
    const file = output(`${name}.json`);
    const done = await run(
      stage.project,
      ["attest", "audit", kernel, ...registry, "--criteria", "reviewed", "--output", file, ...args],
      env,
    );
    return { file, done };
  };
  const demand = "require: { audit: { by: [alice], criteria: [reviewed] } }";
  const counts = async (file: string) => {
    const project = demanding(demand);
    const before = stage.registry.attached.get(stage.subjectOf("acme/norm", "1.0.0").digest) ?? [];
    expect((await run(project, ["lock"])).code).toBe("KL_VERDICT_AUDIT_MISSING");
    await stage.attach(file);
    const locked = await run(project, ["lock"]);
    stage.registry.attached.set(stage.subjectOf("acme/norm", "1.0.0").digest, before);
    expect(locked.status, locked.stdout).toBe(0);
    return project;
  };

  test("a key in a file, and the lock pins who audited", async () => {
    const { file, done } = await sign("file", ["--key", stage.people.alice.privateFile]);
    expect(done.json).toMatchObject({ kernel: "acme/norm", version: "1.0.0", variant: null, attached: null });
    const project = await counts(file);
    const lock = JSON.parse(readFileSync(join(project, "kernels.lock"), "utf8"));
    const audits = lock.kernels["acme/norm"].statements.filter(
      ({ signer }: { signer?: string }) => signer !== undefined,
    );
    expect(audits).toHaveLength(1);
    const explained = await run(project, ["explain", "acme/norm"]);
    expect([explained.status, explained.json.ok]).toEqual([0, true]);
    expect(explained.stdout).toContain("an audit by");
    // The lock says whose word it is; saying somebody else's is refused.
    const statement = audits[0];
    const spoil = async (change: (text: string) => string) => {
      const path = join(project, "kernels.lock");
      const text = readFileSync(path, "utf8");
      writeFileSync(path, change(text));
      const { json } = await run(project, ["verify"]);
      writeFileSync(path, text);
      return json.error?.code;
    };
    expect(await spoil((text) => text.replace(statement.signer, `sha256:${"0".repeat(64)}`))).toBe("KL_LOCK_STATEMENT");
    expect(await spoil((text) => text.replace(statement.payload, `sha256:${"f".repeat(64)}`))).not.toBeUndefined();
  });

  test("a key in the environment", async () => {
    const { file } = await sign("env", ["--key-env", "AUDIT_KEY"], {
      AUDIT_KEY: readFileSync(stage.people.alice.privateFile, "utf8"),
    });
    await counts(file);
  });

  test("a command (openssl)", async () => {
    const { privateFile, publicFile } = stage.people.alice;
    const command = `openssl dgst -sha256 -sign ${privateFile} | openssl base64 -A`;
    const { file, done } = await sign("command", ["--sign-command", command, "--public-key", publicFile]);
    expect(done.status, done.stdout).toBe(0);
    await counts(file);
  });

  const module = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"].find(
    existsSync,
  );
  const tools = ["softhsm2-util", "pkcs11-tool"].every((tool) => spawnSync("which", [tool]).status === 0);
  test.skipIf(module === undefined || !tools)(
    "a software HSM (needs softhsm2 and opensc: softhsm2-util, pkcs11-tool)",
    async () => {
      const folder = newFolder();
      mkdirSync(join(folder, "tokens"));
      const conf = join(folder, "softhsm2.conf");
      writeFileSync(conf, `directories.tokendir = ${join(folder, "tokens")}\nobjectstore.backend = file\n`);
      const env = { ...process.env, SOFTHSM2_CONF: conf };
      const tool = (name: string, args: string[]) => {
        const done = spawnSync(name, args, { env, encoding: "utf8" });
        expect(done.status, done.stderr).toBe(0);
        return done.stdout;
      };
      tool("softhsm2-util", ["--init-token", "--free", "--label", "k", "--pin", "1234", "--so-pin", "1234"]);
      const common = ["--module", module ?? "", "--token-label", "k", "--login", "--pin", "1234"];
      tool("pkcs11-tool", [...common, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01"]);
      const der = join(folder, "public.der");
      tool("pkcs11-tool", [...common, "--read-object", "--type", "pubkey", "--id", "01", "--output-file", der]);
      const pem = join(folder, "public.pem");
      tool("openssl", ["pkey", "-pubin", "-inform", "DER", "-in", der, "-out", pem]);
      // SoftHSM signs digests only, so the command hashes first; many HSMs are like that.
      const command = `openssl dgst -sha256 -binary | pkcs11-tool ${common.join(" ")} --sign --mechanism ECDSA --signature-format openssl --id 01 --input-file /dev/stdin --output-file /dev/stdout | openssl base64 -A`;
      const { done } = await sign("hsm", ["--sign-command", command, "--public-key", pem], { SOFTHSM2_CONF: conf });
      expect(done.status, done.stdout).toBe(0);
    },
  );

  test.each([
    ["that fails", "exit 7"],
    ["that is not there", "no-such-command-at-all"],
    ["that prints no base64", "echo 'not base64!'"],
    ["that prints nothing", "cat > /dev/null"],
    ["that signs with another key", "openssl dgst -sha256 -sign $OTHER | openssl base64 -A"],
    ["that signs something else", "openssl dgst -sha256 -sign $OWN /etc/hostname | openssl base64 -A"],
    ["that prints without end", "yes"],
  ])("no command %s", async (_, command) => {
    const { done } = await sign("bad", ["--sign-command", command, "--public-key", stage.people.alice.publicFile], {
      OTHER: stage.people.bob.privateFile,
      OWN: stage.people.alice.privateFile,
    });
    expect(done.code).toBe("KL_KEY_COMMAND");
  });

  test("exactly one way", async () => {
    const { privateFile, publicFile } = stage.people.alice;
    expect((await sign("x", [])).done.status).toBe(2);
    expect((await sign("x", ["--key", privateFile, "--key-env", "X"])).done.status).toBe(2);
    expect((await sign("x", ["--sign-command", "true"])).done.status).toBe(2);
    expect((await sign("x", ["--key", privateFile, "--public-key", publicFile])).done.status).toBe(2);
    expect((await sign("x", ["--key", "nowhere.pem"])).done.code).toBe("KL_KEY_MISSING");
    expect((await sign("x", ["--sign-command", "true", "--public-key", privateFile])).done.code).toBe(
      "KL_KEY_UNREADABLE",
    );
  });
});

test("a delta audit is found with the audit that it builds on, and both are pinned", async () => {
  const project = newProject(
    stage.client.origin,
    policyText(stage.people, "require: { audit: { by: [alice, bob], criteria: [reviewed] } }"),
    { "acme/norm": "1.1.0" },
  );
  const audit = async (who: "alice" | "bob", version: string, more: string[], name: string) => {
    const args = [
      "attest",
      "audit",
      `acme/norm@${version}`,
      ...registry,
      "--criteria",
      "reviewed",
      "--key",
      stage.people[who].privateFile,
    ];
    const done = await run(project, [...args, "--output", output(name), ...more]);
    expect(done.status, done.stdout).toBe(0);
    await stage.attach(output(name), "acme/norm", version);
  };
  await audit("alice", "1.1.0", ["--delta-from", "1.0.0"], "delta.json");
  expect((await run(project, ["lock"])).code).toBe("KL_VERDICT_AUDIT_BASE");
  await audit("bob", "1.0.0", [], "full.json");
  expect((await run(project, ["lock"])).status).toBe(0);
  const lock = JSON.parse(readFileSync(join(project, "kernels.lock"), "utf8"));
  const subjects = lock.kernels["acme/norm"].statements.map(({ subject }: { subject: string }) => subject);
  expect(subjects).toContain(stage.subjectOf("acme/norm", "1.0.0").digest);
  // Without a network: what is pinned is enough.
  expect((await run(project, ["verify", "--frozen"])).status).toBe(0);
  expect((await run(project, ["lock", "--check"])).status).toBe(0);
});

describe("other statements", () => {
  const attest = async (kind: string, name: string, args: string[]) => {
    const done = await run(stage.project, [
      "attest",
      kind,
      kernel,
      ...registry,
      "--key",
      stage.people.alice.privateFile,
      "--output",
      output(name),
      ...args,
    ]);
    if (done.status === 0) await stage.attach(output(name));
    return done;
  };
  test("test results and SBOMs meet what a policy demands", async () => {
    const project = demanding(
      "require: { allOf: [{ test: { by: [alice], suites: [numerics], devices: [CPU] } }, { sbom: { by: [alice] } }] }",
    );
    expect((await run(project, ["lock"])).code).toBe("KL_VERDICT_TEST_MISSING");
    const report = output("report.txt");
    writeFileSync(report, "all well\n");
    const made = await attest("test", "test.json", [
      "--suite",
      "numerics",
      "--result",
      "PASSED",
      "--device",
      "CPU",
      "--report",
      report,
    ]);
    expect(made.status, made.stdout).toBe(0);
    expect((await run(project, ["lock"])).code).toBe("KL_VERDICT_SBOM_MISSING");
    const bom = output("bom.json");
    writeFileSync(bom, JSON.stringify({ bomFormat: "CycloneDX", specVersion: "1.6", components: [] }));
    expect((await attest("sbom", "sbom.json", ["--bom", bom])).status).toBe(0);
    expect((await run(project, ["lock"])).status).toBe(0);
    writeFileSync(bom, "{}");
    expect((await attest("sbom", "sbom.json", ["--bom", bom])).code).toBe("KL_ATTEST_SUBJECT");
    expect((await attest("test", "t.json", ["--suite", "x", "--result", "GREAT"])).status).toBe(2);
  });
  test("a verification summary is only given for what the policy allows here", async () => {
    const args = ["--verifier", "https://verifier.example", "--level", "SLSA_BUILD_LEVEL_2"];
    await run(stage.project, ["lock"]);
    const made = await attest("vsa", "vsa.json", args);
    expect(made.status, made.stdout).toBe(0);
    const project = demanding("require: { vsa: { by: [alice], levels: [SLSA_BUILD_LEVEL_2] } }");
    expect((await run(project, ["lock"])).status).toBe(0);
    const refused = await run(stage.project, [
      "attest",
      "vsa",
      "acme/norm@1.1.0",
      ...registry,
      "--key",
      stage.people.alice.privateFile,
      "--output",
      output("no.json"),
      ...args,
    ]);
    expect(refused.code).toBe("KL_ATTEST_REFUSED");
  });
  test("go to the project's registry where none is named", async () => {
    const common = ["attest", "audit", kernel, "--key", stage.people.alice.privateFile, "--output", output("own.json")];
    expect((await run(stage.project, [...common, "--criteria", "reviewed"])).status).toBe(0);
    expect((await run(newFolder(), [...common, "--criteria", "reviewed"])).status).toBe(2);
    expect((await run(stage.project, [...common, "--criteria", "reviewed,,read"])).status).toBe(2);
  });
  test("speak only about what is there", async () => {
    const key = ["--key", stage.people.alice.privateFile, "--criteria", "reviewed", "--output", output("x.json")];
    const audit = (what: string, more: string[] = registry) =>
      run(stage.project, ["attest", "audit", what, ...more, ...key]);
    expect((await audit("acme/norm@9.9.9")).code).toMatch(/^KL_/);
    expect((await audit("acme/norm@1.0.0", [...registry, "--variant", "linux-x86_64-cpu-v4"])).code).toBe(
      "KL_ATTEST_SUBJECT",
    );
    expect((await audit("acme/norm")).status).toBe(2);
    expect((await audit("acme/norm@1.0.0", [...registry, "--expires", "tomorrow"])).status).toBe(2);
    const index = output("index.json");
    writeFileSync(index, stage.subjectOf("acme/norm", "1.1.0").bytes);
    expect((await audit("acme/norm@1.1.0", ["--index", index])).status).toBe(0);
    expect((await audit("acme/norm@1.0.0", ["--index", index])).code).toBe("KL_ATTEST_SUBJECT");
  });
});
