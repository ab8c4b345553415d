create table namespace (
  name text primary key,
  visibility text not null check (visibility in ('public', 'private')),
  policy text not null,
  created_at text not null
) strict, without rowid;

create table token (
  id text primary key,
  hash blob not null unique,
  namespace text not null references namespace (name),
  scope text not null check (scope in ('read', 'write')),
  label text not null,
  created_at text not null,
  expires_at text
) strict, without rowid;

-- Which repository knows which blob. Readers see a row only once a published version reaches it.
create table repository_blob (
  repository text not null,
  digest text not null,
  visible integer not null default 0,
  primary key (repository, digest)
) strict, without rowid;

create table manifest (
  repository text not null,
  digest text not null,
  media_type text not null,
  artifact_type text,
  subject text,
  annotations text,
  bytes blob not null,
  visible integer not null default 0,
  created_at text not null,
  primary key (repository, digest)
) strict;

create index manifest_subject on manifest (repository, subject) where subject is not null;

-- A version is a tag that never moves. Its documents are rendered once, when it is published.
create table version (
  repository text not null,
  version text not null,
  digest text not null,
  published_at text not null,
  token_id text not null,
  verdict text not null,
  document text not null,
  card text not null,
  primary key (repository, version)
) strict, without rowid;

create table kernel (
  id integer primary key,
  repository text not null unique,
  namespace text not null references namespace (name),
  latest text not null,
  summary text not null,
  license text not null,
  published_at text not null
) strict;

-- Row ids are those of "kernel".
create virtual table kernel_search using fts5 (repository, summary, ops, backends, card, tokenize = 'porter unicode61', prefix = '2 3');
