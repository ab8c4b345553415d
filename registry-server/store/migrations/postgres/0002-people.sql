-- People: accounts of the registry itself, who has which role where, who is signed in to the pages.
create table account (
  name text primary key,
  -- scrypt with its parameters, or null until it was set up.
  password text,
  -- Of the code that sets the password once.
  setup_hash bytea,
  setup_until text,
  created_at text not null
);

create table member (
  id text primary key,
  -- `*` is every namespace.
  namespace text not null,
  role text not null check (role in ('reader', 'publisher', 'auditor', 'admin')),
  -- `local` for accounts of this registry, else the issuer of the identity.
  issuer text not null,
  -- JSON object: every claim must be exactly this string, or hold it in its list.
  claims text not null,
  label text not null,
  created_at text not null
);
create index member_issuer on member (issuer);

create table session (
  -- SHA-256 of what the browser has.
  hash bytea primary key,
  issuer text not null,
  subject text not null,
  name text not null,
  claims text not null,
  created_at text not null,
  seen_at text not null,
  expires_at text not null
);

-- Sign-ins that went to an issuer and have not come back.
create table sign_in (
  state_hash bytea primary key,
  browser_hash bytea not null,
  nonce text not null,
  verifier text not null,
  return_to text not null,
  expires_at text not null
);
