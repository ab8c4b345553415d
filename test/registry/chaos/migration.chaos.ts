/** A large database of the first release, made by SQL alone, is brought up to date: how long, and is all of it there. */
import { readFileSync, rmSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { createRegistry } from "@kernlock/registry-server";
import Database from "better-sqlite3";
import { expect, onTestFinished, test } from "vitest";
import { newFolder } from "../drivers.ts";
import { count, report } from "./lab.ts";

const first = resolve(import.meta.dirname, "../../../registry-server/store/migrations/sqlite/0001-first.sql");
const perVersion = 4;
const versionsPerKernel = 25;

/** Versions of four variants with three files each; the index and every variant have a bundle attached. */
function oldDatabase(folder: string, variants: number): void {
  const sql = new Database(join(folder, "registry.sqlite"));
  sql.pragma("journal_mode = WAL");
  sql.pragma("synchronous = OFF");
  sql.exec(readFileSync(first, "utf8"));
  sql.pragma("user_version = 1");
  sql.function("digest", { deterministic: true }, (kind, n) => `sha256:${String(kind)}${String(n).padStart(63, "0")}`);
  const index = "application/vnd.oci.image.index.v1+json";
  const manifest = "application/vnd.oci.image.manifest.v1+json";
  sql.exec(`
    begin;
    insert into namespace values ('acme', 'public', 'version: 1', '2026-01-01T00:00:00.000Z');
    insert into token values ('one', x'00', 'acme', 'write', 'ci', '2026-01-01T00:00:00.000Z', null);
    create temp table v as with recursive n (n) as (select 0 union all select n + 1 from n where n + 1 < ${variants})
      select n, n / ${perVersion} as version, 'acme/k' || (n / ${perVersion * versionsPerKernel}) as repository,
        '1.' || (n / ${perVersion} % ${versionsPerKernel}) || '.0' as name from n;
    -- a: config, b, c, d: files, e: variant's manifest, f: index, 1, 2: bundles and their manifests
    insert into repository_blob select repository, digest(kind, n), 1 from v, (select 'a' as kind union select 'b' union select 'c' union select 'd' union select '1');
    insert into manifest select repository, digest('e', n), '${manifest}', 'application/vnd.kernlock.variant.v1', null, null,
      cast(json_object('schemaVersion', 2, 'mediaType', '${manifest}', 'config', json_object('digest', digest('a', n), 'size', 900),
        'layers', json_array(json_object('digest', digest('b', n), 'size', 9000), json_object('digest', digest('c', n), 'size', 90),
          json_object('digest', digest('d', n), 'size', 80)), 'filler', printf('%0600d', 1)) as blob), 1, '2026-01-01T00:00:00.000Z' from v;
    insert into manifest select repository, digest('2', n), '${manifest}', 'application/vnd.dev.sigstore.bundle.v0.3+json', digest('e', n), null,
      cast(json_object('schemaVersion', 2, 'mediaType', '${manifest}', 'config', json_object('digest', digest('0', 0), 'size', 2),
        'layers', json_array(json_object('digest', digest('1', n), 'size', 3000)), 'filler', printf('%0400d', 1)) as blob), 1, '2026-01-01T00:00:00.000Z' from v;
    insert into manifest select repository, digest('f', version), '${index}', 'application/vnd.kernlock.kernel.v1', null, null,
      cast(json_object('schemaVersion', 2, 'mediaType', '${index}', 'manifests', json_group_array(json_object('digest', digest('e', n), 'size', 1200))) as blob),
      1, '2026-01-01T00:00:00.000Z' from v group by version;
    insert into version select distinct repository, name, digest('f', version), '2026-01-01T00:00:00.000Z', 'one', '{}', printf('{"filler":"%04000d"}', 1), '<p>card</p>' from v;
    insert into kernel (repository, namespace, latest, summary, license, published_at)
      select distinct repository, 'acme', '1.${versionsPerKernel - 1}.0', 'A kernel', 'MIT', '2026-01-01T00:00:00.000Z' from v;
    insert into kernel_search (rowid, repository, summary, ops, backends, card) select id, repository, summary, 'rms_norm', 'cpu', 'card' from kernel;
    commit;`);
  sql.pragma("wal_checkpoint(truncate)");
  sql.close();
}

test("migration of a large database", async () => {
  const variants = count("VARIANTS", 100_000);
  const folder = newFolder();
  oldDatabase(folder, variants);
  const megabytes = Math.round(statSync(join(folder, "registry.sqlite")).size / 1e6);
  const started = performance.now();
  const cpu = process.cpuUsage();
  const registry = await createRegistry({ dataFolder: folder });
  const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
  const { user, system } = process.cpuUsage(cpu);
  onTestFinished(() => registry.close());
  const sql = new Database(join(folder, "registry.sqlite"), { readonly: true });
  const number = (query: string) => (sql.prepare(query).get() as { n: number }).n;
  const figures = {
    variants,
    megabytes,
    seconds,
    cpu_seconds: Number(((user + system) / 1e6).toFixed(1)),
    versions: number("select count(*) as n from version"),
    references: number("select count(*) as n from reference"),
    contents: number("select count(*) as n from version_content"),
    blobs: number("select count(*) as n from blob"),
  };
  sql.close();
  report("migration of a large database", figures);
  const versions = variants / perVersion;
  expect(figures).toMatchObject({
    versions,
    references: variants * 4 + variants * 2 + variants,
    contents: versions + variants * 5,
    blobs: variants * 5,
  });
  rmSync(join(folder, "registry.sqlite"), { force: true });
});
