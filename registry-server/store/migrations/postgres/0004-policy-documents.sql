-- What policies name and do not hold. `*` stands for the operator's policy.
create table policy_feed (
  namespace text not null,
  id text not null,
  -- Where it is refreshed from; null where the operator brings it.
  url text,
  -- The newest copy that held, and its number; null for a list of records that nobody signs.
  document bytea,
  digest text,
  sequence bigint,
  taken_at text,
  -- When it was last looked for, and the code and words for which that brought nothing.
  tried_at text,
  problem text,
  primary key (namespace, id)
);

-- Signed exceptions and break-glass orders, as bundles.
create table policy_exception (
  namespace text not null,
  digest text not null,
  bundle bytea not null,
  added_at text not null,
  primary key (namespace, digest)
);

-- Who put a manifest, as in the audit log. Null: before this was written down.
alter table manifest add column put_by text;
