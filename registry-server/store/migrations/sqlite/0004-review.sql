-- Publishes that wait for a second person, what is said about versions afterwards, and what ran when.
alter table namespace add column review text not null default 'none' check (review in ('none', 'required'));

-- A version that was put while its namespace asks for a review; it becomes a row of "version" when it is approved, so
-- that whoever does not know of reviews never meets one that was not.
create table review (
  repository text not null,
  version text not null,
  digest text not null,
  state text not null check (state in ('staged', 'approved', 'rejected')),
  asked_at text not null,
  -- As in the audit log.
  asked_by text not null,
  -- Rendered for those who may see it before.
  document text not null,
  card text not null,
  decided_at text,
  decided_by text,
  reason text,
  primary key (repository, version)
) strict, without rowid;

-- OSV records, and revocations that are to stand in a signed feed.
create table notice (
  kind text not null check (kind in ('advisory', 'revocation')),
  id text not null,
  body text not null,
  filed_at text not null,
  filed_by text not null,
  withdrawn_at text,
  primary key (kind, id)
) strict, without rowid;

-- Which packages an advisory names.
create table notice_package (
  repository text not null,
  kind text not null,
  id text not null,
  primary key (repository, kind, id)
) strict, without rowid;

-- Feeds that are signed elsewhere and served as they came; the number never goes back.
create table feed (
  id text primary key,
  kind text not null check (kind in ('advisories', 'revocations')),
  -- JSON list of public keys (PEM) that may sign it.
  keys text not null,
  created_at text not null,
  sequence integer,
  issued text,
  bundle blob,
  uploaded_at text,
  uploaded_by text
) strict, without rowid;

-- The last time of each of gc, scrub, fsck and backup.
create table chore (
  name text primary key,
  at text not null,
  -- JSON object.
  outcome text not null
) strict, without rowid;
