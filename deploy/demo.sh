#!/usr/bin/env bash
# From photographs to an answer over HTTP on this machine: make demo [DATA=folder of class folders]
# All it makes lies in demo/, anew each time. Ends with the answer, the times and what to do next.
set -euo pipefail
cd "$(dirname "$0")/.."
source=${1:-builtin}
doing="" times="" pids=()

stage() { # stage NAME COMMAND...: run it and note how long it took
  local start=$SECONDS
  doing=$1
  printf '\n== %s\n' "$doing"
  shift
  "$@"
  times+=$(printf '%6d s  %s' $((SECONDS - start)) "$doing")$'\n'
}

finish() {
  local code=$?
  kill "${pids[@]}" 2>/dev/null || true
  case $code in 0 | 130 | 143) return ;; esac
  if [ "$doing" = serve ]; then
    printf '\nThe last lines of demo/server.log:\n'
    tail -n 15 demo/server.log
  fi
  printf '\ndemo: the stage "%s" failed with status %d; the reason is above.\n' "$doing" $code
  case $doing in
    pack) [ "$source" = builtin ] || cat <<TEXT ;;
DATA=$source has to be a folder that contains one folder of photographs for each class,
at least two of them. Correct that, then: make demo DATA=folder
TEXT
    train) cat <<TEXT ;;
The packed photographs are in demo/dataset. Once the cause is removed, train again with
  source .venv/bin/activate
  alexnet train --data demo/dataset --name again --workers 2
TEXT
    serve) cat <<TEXT ;;
The trained network is in demo/models/demo. Once the cause is removed, serve it with
  source .venv/bin/activate
  alexnet serve --model demo/models/demo
TEXT
  esac
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

train() {
  # Enough steps even for few photographs: about 16,000 samples, and each photograph eight times.
  local epochs
  epochs=$(python -c 'import json
print(max(8, 16_000 // json.load(open("demo/dataset/manifest.json"))["train"]["samples"]))')
  alexnet train --recipe small --epochs "$epochs" --data demo/dataset --name demo \
    --workers 2 --runs demo/runs --models demo/models
}

held_out() { # the first validation image: shards are plain tar files
  local shard=demo/dataset/val/00000.tar
  image=$(tar -tf $shard | awk '/\.jpg$/ && !found++')
  mkdir demo/held-out
  tar -xf $shard -C demo/held-out "$image"
}

serve() {
  local port
  held_out
  echo "the server writes its log to demo/server.log"
  port=$(python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  alexnet serve --model demo/models/demo --port "$port" &>demo/server.log &
  pids=($!)
  alexnet classify "demo/held-out/$image" --url "http://127.0.0.1:$port" --wait 300 \
    >demo/answer.txt &
  pids+=($!)
  wait -n "${pids[@]}"       # the client with an answer, or a server that ends before
  [ -s demo/answer.txt ]
  kill "${pids[0]}" && wait "${pids[0]}"
  pids=()
}

rm -rf demo && mkdir demo
stage pack alexnet pack "$source" demo/dataset --size 160
stage train train
stage serve serve

cat <<TEXT

== The answer
An image of the class "${image%/*}", held out from training, was sent to the server:

$(cat demo/answer.txt)

How long each stage took:
$(printf '%6d s  install' "${INSTALL_S:-0}")
$times$(printf '%6d s  in all' $((SECONDS + ${INSTALL_S:-0})))

What next? Serve the network, then open http://localhost:8000 and drop a photograph on the page:
  source .venv/bin/activate
  alexnet serve --model demo/models/demo

Train on your own photographs, in a folder that contains one folder for each class:
  make demo DATA=folder
or command by command:
  alexnet pack folder datasets/mine --size 160
  alexnet train --data datasets/mine --name mine --workers 2
  alexnet serve --model models/mine
TEXT
