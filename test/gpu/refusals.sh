#!/bin/sh
# What a machine with a GPU must refuse, seen there: every case of a folder that `npm run gpu-refusals` has made is the same
# `generate`, in another project or with other flags, and has to end with its exit code and its error code before a host is
# started. The controls, which nothing is wrong with, have to answer, and so has PTX alone under a policy that permits it;
# `verify` and `plan` accept these too. Nothing but the portable folder is used.
#
#   test/gpu/refusals.sh PORTABLE CASES RESULTS     # MODEL: the dictionary's folder (default: beside this script)
#
# One line a case, `N passed, N failed` at the end, exit code 1 where one failed, and RESULTS/refusals.json.
set -u
folder() { cd "$1" && pwd; }
portable=$(folder "$1") || exit 2
cases=$(folder "$2") || exit 2
mkdir -p "$3"
results=$(folder "$3") || exit 2
model=$(folder "${MODEL:-$(dirname "$0")/../../models/dictionary}") || exit 2
tab=$(printf '\t') # the table's columns: name, project, exit code, error code, what is said, what is logged, flags
passed=0 failed=0 rows=

while IFS=$tab read -r name project exit code says log flags; do
  case $project in portable) at=$portable/project ;; *) at=$cases/$project ;; esac
  own=$results/$name
  rm -rf "$own"
  mkdir -p "$own"
  # shellcheck disable=SC2086
  (cd "$at" && XDG_STATE_HOME=$own timeout 300 "$portable/kernlock" generate --model "$model" --device cuda \
    --chat "What is a harbor?" --reasoning low --greedy --json $flags) >"$own/out" 2>"$own/err" </dev/null
  got=$?
  answer=$(cat "$own/out")
  found=-
  case $answer in '{"error":{"code":"'*) found=${answer#*:*:\"} found=${found%%\"*} ;; esac
  # The audit log takes a plan in just before a host is started; nothing is loaded without one.
  started=false
  grep -q '"event":"plan"' "$own/kernlock/audit.jsonl" 2>/dev/null && started=true

  why=
  if [ "$code" = - ]; then
    (cd "$at" && "$portable/kernlock" verify && "$portable/kernlock" plan --model "$model" --device cuda) \
      >"$own/accepted" 2>&1 </dev/null || why="verify or plan refuses"
  fi
  [ "$log" = - ] || grep -qF "$log" "$own/kernlock/audit.jsonl" 2>/dev/null || why="the audit log has no $log"
  case $answer in *"$says"*) ;; *) why="does not say \"$says\"" ;; esac
  [ "$code" != - ] && [ "$started" = true ] && why="a host was started"
  [ "$found" = "$code" ] || why="code $found, not $code"
  [ "$got" = "$exit" ] || why="exit code $got, not $exit"
  if [ -z "$why" ]; then
    ok=true passed=$((passed + 1))
    echo "ok $name: $found"
  else
    ok=false failed=$((failed + 1))
    echo "FAILED $name: $found ($why; see $own)"
  fi
  case $answer in '{'*) ;; *) answer=null ;; esac
  rows="$rows${rows:+,
}{\"case\":\"$name\",\"project\":\"$project\",\"flags\":\"$flags\",\"expected\":{\"exit\":$exit,\"code\":\"$code\"},
\"exit\":$got,\"code\":\"$found\",\"started\":$started,\"ok\":$ok,\"answer\":$answer}"
done <"$cases/table"

printf '{"time":"%s","passed":%s,"failed":%s,"cases":[\n%s\n]}\n' \
  "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$passed" "$failed" "$rows" >"$results/refusals.json"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
