-- Names and states of versions by themselves: their rows hold whole documents, and lists read them all.
create index version_state on version (repository, version, state);
