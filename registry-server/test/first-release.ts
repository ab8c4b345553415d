/** A data folder as the first release would have written it, made of one of today. */
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";

export function downgrade(from: string, to: string): void {
  cpSync(join(from, "blobs"), join(to, "blobs"), { recursive: true });
  const sql = new Database(join(to, "registry.sqlite"));
  const first = join(import.meta.dirname, "..", "store", "migrations", "sqlite", "0001-first.sql");
  sql.exec(readFileSync(first, "utf8"));
  sql.pragma("user_version = 1");
  sql.prepare("attach ? as today").run(join(from, "registry.sqlite"));
  sql.exec(`
    insert into namespace select name, visibility, policy, created_at from today.namespace;
    insert into token select id, hash, namespace, case role when 'publisher' then 'write' else 'read' end, label,
      created_at, expires_at from today.token;
    insert into repository_blob select repository, digest, visible from today.repository_blob;
    insert into manifest select repository, digest, media_type, artifact_type, subject, annotations, bytes, visible,
      created_at from today.manifest;
    insert into version select repository, version, digest, published_at, token_id, verdict, document, card
      from today.version;
    insert into kernel select * from today.kernel;
  `);
  sql.close();
}
