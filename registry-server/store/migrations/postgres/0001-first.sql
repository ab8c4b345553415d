-- The schema that SQLite reaches with its migrations 0001 and 0002.
create table namespace (
  name text primary key,
  visibility text not null check (visibility in ('public', 'private')),
  policy text not null,
  created_at text not null,
  kind text not null default 'kernels' check (kind in ('kernels', 'artifacts')),
  deletion text not null default 'never' check (deletion in ('never', 'allowed'))
);

create table token (
  id text primary key,
  hash bytea not null unique,
  namespace text not null,
  package text,
  role text not null check (role in ('reader', 'publisher', 'auditor', 'admin')),
  label text not null,
  identity text,
  created_at text not null,
  expires_at text
);

create table trusted_publisher (
  id text primary key,
  namespace text not null references namespace (name),
  package text,
  -- What is known of its issuer's claims: github, gitlab, generic.
  kind text not null,
  issuer text not null,
  claims text not null,
  label text not null,
  created_at text not null
);

create table used_identity (
  id text primary key,
  expires_at text not null
);

create table blob (
  digest text primary key,
  size bigint,
  state text not null default 'present' check (state in ('present', 'deleting', 'damaged')),
  touched_at text not null
);

create table repository_blob (
  repository text not null,
  digest text not null,
  visible integer not null default 0,
  touched_at text not null default '2026-01-01T00:00:00.000Z',
  primary key (repository, digest)
);
create index repository_blob_digest on repository_blob (digest);

create table manifest (
  repository text not null,
  digest text not null,
  media_type text not null,
  artifact_type text,
  subject text,
  annotations text,
  bytes bytea not null,
  visible integer not null default 0,
  created_at text not null,
  primary key (repository, digest)
);
create index manifest_subject on manifest (repository, subject) where subject is not null;

create table reference (
  repository text not null,
  manifest text not null,
  digest text not null,
  primary key (repository, manifest, digest)
);
create index reference_digest on reference (repository, digest);

create table tag (
  repository text not null,
  tag text collate "C" not null,
  digest text not null,
  updated_at text not null,
  primary key (repository, tag)
);

create table version (
  repository text not null,
  version text collate "C" not null,
  digest text not null,
  published_at text not null,
  token_id text not null,
  verdict text not null,
  document text not null,
  card text not null,
  state text not null default 'ok' check (state in ('ok', 'yanked', 'quarantined')),
  state_reason text,
  state_at text,
  state_by text,
  primary key (repository, version)
);

create table version_content (
  repository text not null,
  version text not null,
  digest text not null,
  primary key (repository, version, digest)
);

create table kernel (
  id integer generated always as identity primary key,
  repository text not null unique,
  namespace text not null references namespace (name),
  latest text not null,
  summary text not null,
  license text not null,
  published_at text not null
);

-- Ids are those of "kernel".
create table kernel_search (
  id integer primary key references kernel (id),
  words tsvector not null
);
create index kernel_search_words on kernel_search using gin (words);

create table audit (
  seq integer primary key,
  at text not null,
  actor text not null,
  action text not null,
  subject text not null,
  details text not null,
  previous text not null,
  hash text not null
);

create table lease (
  name text primary key,
  holder text not null,
  until text not null
);
