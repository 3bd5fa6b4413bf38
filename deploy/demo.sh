#!/usr/bin/env bash
# From photographs to an answer over HTTP on this machine: make demo [DATA=folder of class folders]
# All it makes lies in demo/, anew each time. Prints at the end how long each stage took.
set -euo pipefail
cd "$(dirname "$0")/.."
source=${1:-builtin}
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true' EXIT

times=$(printf '%6d s  install' "${INSTALL_S:-0}")
stage() { # stage NAME COMMAND...: run it and note how long it took
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  "$@"
  times+=$(printf '\n%6d s  %s' $((SECONDS - start)) "$name")
}

held_out() { # the first validation picture: shards are plain tar files
  local shard=demo/dataset/val/00000.tar
  picture=$(tar -tf $shard | awk '/\.jpg$/ && !found++')
  tar -xf $shard -C demo "$picture"
}

serve_and_ask() {
  local port
  port=$(python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  python -m serving --model demo/models/demo --port "$port" &
  server=$!
  python -m serving classify "demo/$picture" --url "http://127.0.0.1:$port" --wait 60
  kill "$server" && wait "$server" && server=
}

rm -rf demo && mkdir demo
stage pack python -m pipeline pack "$source" demo/dataset --size 160
# A network needs steps, not epochs: some 16,000 samples in all, at least eight times each picture.
epochs=$(python -c 'import json
print(max(8, 16_000 // json.load(open("demo/dataset/manifest.json"))["train"]["samples"]))')
stage train python -m trainer train --recipe small --epochs "$epochs" --data demo/dataset --name demo \
  --workers 2 --runs demo/runs --models demo/models
held_out
stage "serve and ask" serve_and_ask
printf '\n%s\n' "$times"
printf '%6d s  in all\n' $((SECONDS + ${INSTALL_S:-0}))
