-- Names whose content comes from another registry.
create table mirror (
  id text primary key,
  namespace text not null references namespace (name),
  -- `acme/norm`, `acme/up-*`, `acme/*`; no two that a name could fall under.
  pattern text not null unique,
  origin text not null,
  -- Takes the place of `namespace/` in the upstream's names.
  prefix text not null,
  -- JSON object.
  settings text not null,
  created_at text not null
);

-- Repositories that a mirror filled; any other that is not empty is never asked for upstream.
create table mirrored_repository (
  repository text primary key,
  mirror text not null references mirror (id),
  since text not null
);

-- What the upstream last said about versions, so that only what it says anew is done.
create table upstream_state (
  mirror text not null references mirror (id),
  repository text not null,
  version text not null,
  state text not null check (state in ('yanked', 'quarantined')),
  primary key (mirror, repository, version)
);
