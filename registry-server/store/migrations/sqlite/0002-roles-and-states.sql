-- Namespaces of two kinds; whether what lies in one may be deleted.
alter table namespace add column kind text not null default 'kernels' check (kind in ('kernels', 'artifacts'));
alter table namespace add column deletion text not null default 'never' check (deletion in ('never', 'allowed'));

-- Roles in place of scopes; `*` is every namespace; a token may be bound to one package.
create table token_new (
  id text primary key,
  hash blob not null unique,
  namespace text not null,
  package text,
  role text not null check (role in ('reader', 'publisher', 'auditor', 'admin')),
  label text not null,
  -- JSON of the claims it was exchanged for, or null.
  identity text,
  created_at text not null,
  expires_at text
) strict, without rowid;
insert into token_new (id, hash, namespace, role, label, created_at, expires_at)
  select id, hash, namespace, case scope when 'write' then 'publisher' else 'reader' end, label, created_at, expires_at
  from token;
drop table token;
alter table token_new rename to token;

create table trusted_publisher (
  id text primary key,
  namespace text not null references namespace (name),
  package text,
  -- What is known of its issuer's claims: github, gitlab, generic.
  kind text not null,
  issuer text not null,
  -- JSON object: every claim must be exactly this string.
  claims text not null,
  label text not null,
  created_at text not null
) strict, without rowid;

-- Identity tokens that were exchanged, until they expire by themselves.
create table used_identity (
  id text primary key,
  expires_at text not null
) strict, without rowid;

-- Bytes that the blob store holds. `deleting` is set before they go, so that an upload of the same bytes waits.
create table blob (
  digest text primary key,
  size integer,
  state text not null default 'present' check (state in ('present', 'deleting', 'damaged')),
  touched_at text not null
) strict, without rowid;
alter table repository_blob add column touched_at text not null default '2026-01-01T00:00:00.000Z';
create index repository_blob_digest on repository_blob (digest);
insert into blob (digest, touched_at)
  select distinct digest, strftime('%Y-%m-%dT%H:%M:%fZ', 'now') from repository_blob order by digest;

-- What a manifest names: blobs, or other manifests.
create table reference (
  repository text not null,
  manifest text not null,
  digest text not null,
  primary key (repository, manifest, digest)
) strict, without rowid;
insert into reference (repository, manifest, digest)
  select m.repository, m.digest, json_extract(entry.value, '$.digest') as named
  from manifest m, json_each(cast(m.bytes as text)) part,
    json_each(case part.key when 'config' then json_array(json(part.value)) else part.value end) entry
  where part.key in ('layers', 'manifests', 'config') and named is not null
  order by m.repository, m.digest, named on conflict do nothing;
create index reference_digest on reference (repository, digest);

-- Tags that move, of namespaces of kind `artifacts`.
create table tag (
  repository text not null,
  tag text not null,
  digest text not null,
  updated_at text not null,
  primary key (repository, tag)
) strict, without rowid;

alter table version add column state text not null default 'ok' check (state in ('ok', 'yanked', 'quarantined'));
alter table version add column state_reason text;
alter table version add column state_at text;
alter table version add column state_by text;

-- What a version reaches: the manifests and blobs that a quarantine withholds.
create table version_content (
  repository text not null,
  version text not null,
  digest text not null,
  primary key (repository, version, digest)
) strict, without rowid;
insert into version_content (repository, version, digest)
  with recursive reached (repository, version, digest) as (
    select repository, version, digest from version
    union
    select r.repository, reached.version, r.digest from reached
      join reference r on r.repository = reached.repository and r.manifest = reached.digest
  )
  select repository, version, digest from reached order by repository, version, digest;

-- Every change, chained: `hash` covers the row and the hash before it.
create table audit (
  seq integer primary key,
  at text not null,
  actor text not null,
  action text not null,
  subject text not null,
  details text not null,
  previous text not null,
  hash text not null
) strict;

-- One worker at a time for GC, backup and scrub, also across processes.
create table lease (
  name text primary key,
  holder text not null,
  until text not null
) strict, without rowid;
