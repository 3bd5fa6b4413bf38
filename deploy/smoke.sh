#!/usr/bin/env bash
# All of docker-compose.yml for real: build, up, submit, train on two workers, answer; attacks, accidents,
# bad settings; down. Needs docker with Compose v2, curl and python3; leaves images, nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)

# Beside whatever else runs here: other names, other ports.
export COMPOSE_PROJECT_NAME=alexnet-smoke PROMETHEUS_IMAGE=alexnet-smoke-prometheus
export API_PORT=18000 DASHBOARD_PORT=18265 PROMETHEUS_PORT=19090 TENSORBOARD_PORT=16006
export RAY_WORKERS=2 WORKER_CPUS=1
api=http://127.0.0.1:$API_PORT
ray=http://127.0.0.1:$DASHBOARD_PORT
tiny=(--recipe small --data builtin --set network.width=0.25 --batch 60)

stage() { # stage NAME FUNCTION
  local start=$SECONDS
  printf '\n== %s\n' "$1"
  "$2"
  times+=$(printf '%6d s  %s' $((SECONDS - start)) "$1")$'\n'
}

fail() {
  echo "smoke: $*" >&2
  exit 1
}

says() { # says TEXT COMMAND...: it fails, with that in what it prints
  local text=$1 said
  shift
  ! said=$("$@" 2>&1) || fail "ended well, and should not have: $*"
  grep -F -- "$text" <<<"$said" || fail "no \"$text\" in: $said"
}

within() { # within SECONDS COMMAND...: it succeeds by then
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || fail "not in time: $*"
    sleep 1
  done
}

status() { # status CURL-OPTIONS...: the HTTP status alone
  curl -s -o /dev/null -w '%{http_code}' "$@" || true
}

started() { # started UP-OPTIONS...: up and healthy, in silence if all goes well
  docker compose up --wait --no-recreate "$@" >"$work/up" 2>&1 || {
    cat "$work/up" >&2
    exit 1
  }
}

is() { [ "$1" = "$2" ]; }
has_status() { is "$1" "$(status "${@:2}")"; }
submit() { docker compose run --rm -T submit "$@"; }
jobs() { docker compose run --rm -T jobs "$@"; }
in_ray() { docker compose exec -T ray-head "$@"; }

clear() { # of this run at its end, and before it of one that was cut off
  local project
  for project in $COMPOSE_PROJECT_NAME $COMPOSE_PROJECT_NAME-other; do
    COMPOSE_FILE=docker-compose.yml:docker-compose.s3.yml docker compose -p $project --profile '*' \
      down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || true
  done
}

finish() {
  code=$?
  if [ $code != 0 ]; then
    docker compose ps -a
    docker compose logs --tail 40
    in_ray sh -c 'tail -n 40 /tmp/ray/session_latest/logs/job-driver-*' || true
  fi
  clear
  rm -rf "$work"
  exit $code
}
trap finish EXIT

configurations() {
  local override gpus=docker-compose.yml:docker-compose.gpu.yml
  for override in docker-compose.yml $gpus; do
    for profile in '' commands monitoring tensorboard '*'; do
      COMPOSE_FILE=$override COMPOSE_PROFILES=$profile docker compose config --quiet
    done
  done
  for profile in '' s3 '*'; do
    COMPOSE_FILE=docker-compose.yml:docker-compose.s3.yml COMPOSE_PROFILES=$profile docker compose config --quiet
  done
  GPU_COUNT=all COMPOSE_FILE=$gpus docker compose config --quiet
  diff <(grep -oE '^(# )?[A-Z_]+=' .env.example | tr -d '# =' | sort -u) \
    <(grep -ohE '\$\{[A-Z_]+' docker-compose*.yml | tr -d '${' | sort -u) ||
    fail ".env.example and the compose files know other settings"
}

build() {
  local package image
  # Where Docker Hub cannot be reached: Debian's Prometheus instead of the official image.
  docker build --quiet --tag "$PROMETHEUS_IMAGE" - <<'DOCKERFILE' &
FROM python:3.11-slim-bookworm
RUN apt-get update -q && apt-get install -qy --no-install-recommends prometheus && \
    install -d -o nobody /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
DOCKERFILE
  docker compose build --quiet
  wait $!
  docker images --format '{{.Repository}} {{.Size}}' | grep -E '^alexnet-(ray|api|weights) '
  for package in ray nvidia.dali; do
    says "No module named" docker run --rm alexnet-api python -c "import $package"
  done
  for image in ray api weights; do bill_of_materials $image; done
}

bill_of_materials() { # bill_of_materials IMAGE
  docker run --rm --entrypoint tar alexnet-"$1" -C /usr/share/sbom -c . | tar -x -C "$work"
  python3 - "$work" <<'PYTHON'
import json, pathlib, re, sys
python, debian = (
    {each["name"]: each["version"] for each in json.loads(path.read_text())["components"]}
    for path in map(pathlib.Path(sys.argv[1]).joinpath, ("python.cdx.json", "debian.cdx.json"))
)
pinned = re.search("^torch==(.*)$", pathlib.Path("constraints.txt").read_text(), re.MULTILINE)[1]
assert python["torch"].split("+")[0] == pinned, python["torch"]
assert "libc6" in debian and "cyclonedx-bom" not in python
print(f"{len(python)} packages of Python and {len(debian)} of Debian are listed")
PYTHON
}

rules() {
  docker run --rm -v "$PWD/deploy/prometheus:/rules:ro" -w /rules --entrypoint sh "$PROMETHEUS_IMAGE" \
    -c 'promtool check config prometheus.yml && promtool test rules alerts_test.yml'
}

up() {
  local start=$SECONDS
  started --build ray-head ray-worker api prometheus tensorboard # not Grafana, only Docker Hub has it
  echo "healthy after $((SECONDS - start)) s"
  is 503 "$(status $api/readyz)" || fail "ready without a model"
  curl -s -F file=@docs/page.png $api/classify | tee "$work/unready"
  grep -q '"not-ready"' "$work/unready" || fail "unclear: no model yet"
}

train() {
  local head
  head=$(docker compose ps -q ray-head)
  submit --detach train "${tiny[@]}" --name demo --epochs 7 --index
  is "$head" "$(docker compose ps -q ray-head)" || fail "submit replaced the head"
  intruders # meanwhile
  jobs logs demo | tee "$work/train"
  grep -q 'demo.1: succeeded' "$work/train"
  in_ray python -c 'import json
lines = map(json.loads, open("runs/demo/metrics.jsonl"))
assert {line["workers"] for line in lines if line["kind"] == "train"} == {2}'
  within 300 has_status 200 $api/readyz
}

classify() {
  local image name right=0
  docker compose cp ray-head:/app/datasets/builtin-160/val/00000.tar "$work/held-out.tar"
  mkdir "$work/images"
  tar -xf "$work/held-out.tar" -C "$work/images" --wildcards '*.jpg'
  for image in $(tar -tf "$work/held-out.tar" | grep 'jpg$' | awk 'NR % 10 == 1'); do
    name=$(curl -sf -F "file=@$work/images/$image" $api/classify |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["results"][0]["guesses"][0]["label"])')
    [ "$name" != "${image%%/*}" ] || right=$((right + 1))
  done
  echo "$right of 20 right"
  [ $right -ge 19 ] || fail "top-1 below 95 %"
}

pack() {
  PHOTOGRAPHS=$work/images docker compose run --rm -T pack /photographs datasets/mine --size 64 2>&1 |
    tee "$work/packed"
  grep -q 'datasets/mine: 180 training and 20 validation images' "$work/packed" || fail "not packed"
  says "Network is unreachable" docker compose run --rm -T --entrypoint python pack -c \
    'import socket; socket.create_connection(("192.0.2.1", 443), timeout=5)'
}

finds_itself() { # finds_itself NUMBER IMAGE: of the training images, it is nearest to itself
  curl -sf -F "file=@$2" "$api/similar?k=2" | python3 -c 'import json, sys
itself, other = json.load(sys.stdin)["neighbours"]
print(itself, other)
assert itself["thumbnail"] == "/thumbnails/" + sys.argv[1], "another image is nearer"
assert itself["distance"] < 0.01 * other["distance"], "not at distance 0"' "$1"
}

similar() {
  local image
  docker compose cp ray-head:/app/datasets/builtin-160/train/00000.tar "$work/train.tar"
  mkdir "$work/training"
  tar -xf "$work/train.tar" -C "$work/training" --wildcards '*.jpg'
  tar -tf "$work/train.tar" | grep 'jpg$' >"$work/numbered" # line 1 is image 0 of the index
  image=$work/training/$(sed -n 8p "$work/numbered")
  within 60 has_status 200 -F "file=@$image" $api/similar
  finds_itself 7 "$image" || fail "a training image is not its own nearest"
  is 200 "$(status $api/thumbnails/7)" || fail "no thumbnail"
  # For a model that has been published: another kind of index, in place of the first.
  submit index models/demo --data datasets/builtin-160 --factory SQfp16 | tee "$work/index"
  grep -q 'demo.index.1: succeeded' "$work/index" || fail "no index"
  in_ray sh -c 'grep -q SQfp16 models/demo/*/similar/about.json' || fail "the index was not replaced"
}

# reach SERVICE HOST...: prints which of Ray's ports, and of the dashboard's here, a container reaches.
reach() {
  docker compose exec -T "$1" python - "${@:2}" <<PYTHON
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def reached(place):
    try: return socket.create_connection(place, timeout=3) and place
    except OSError: return None
places = [(host, port) for host in sys.argv[1:] for port in (6379, 8265, 8080, 52365, 10001, $DASHBOARD_PORT)]
print(*filter(None, ThreadPoolExecutor(len(places)).map(reached, places)))
PYTHON
}

intruders() {
  local hosts service
  is 401 "$(status -d '{"entrypoint": "id"}' $ray/api/jobs/)" || fail "jobs without a token"
  is 403 "$(status -H 'Authorization: Bearer wrong' -d '{"entrypoint": "id"}' $ray/api/jobs/)" ||
    fail "jobs with a wrong token"
  is 200 "$(status -H "Authorization: Bearer $(in_ray cat /run/ray/token)" $ray/api/jobs/)" ||
    fail "no jobs with the token"
  is 400 "$(in_ray stat -c %a /run/ray/token)" || fail "the token's permissions"

  docker ps --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --format '{{.Ports}}' |
    tr ',' '\n' | grep -e '->' >"$work/ports"
  ! grep -v 127.0.0.1: "$work/ports" || fail "open to other machines"

  hosts=$(docker network inspect ${COMPOSE_PROJECT_NAME}_ray ${COMPOSE_PROJECT_NAME}_dashboard \
    -f '{{range .Containers}}{{.IPv4Address}} {{end}}' | sed 's#/[0-9]*##g')
  hosts+=" ray-head ray-worker head $(docker network inspect ${COMPOSE_PROJECT_NAME}_web \
    -f '{{(index .IPAM.Config 0).Gateway}}')"
  # shellcheck disable=SC2086
  reach ray-worker $hosts | tee "$work/reached"
  grep -q 6379 "$work/reached" && grep -q 8265 "$work/reached" || fail "the probe reaches nothing at all"
  # shellcheck disable=SC2086
  is "" "$(reach api $hosts)" || fail "the server reaches Ray: $(reach api $hosts)"

  for service in ray-head ray-worker api prometheus tensorboard; do
    docker compose exec -T $service sh -c '
      [ "$(id -u)" != 0 ] && ! touch /usr/x /app/x 2>/dev/null &&
      grep -q "CapEff:.0000000000000000" /proc/self/status && grep -q "NoNewPrivs:.1" /proc/self/status' ||
      fail "$service can do more than it needs"
  done
  says "Read-only file system" docker compose exec -T api touch /models/x
}

# The run's samples in the order in which its last weights saw them: no gap, none twice.
samples_of() {
  in_ray python - "$1" <<'PYTHON'
import json, sys
from pathlib import Path
from pipeline.dataset import Dataset
from trainer.run import find_run
run = find_run(Path("runs"), sys.argv[1])
count = len(Dataset(run.data).train)
kept, again, workers = [(0, 0)], 0, []
for line in run.metrics.read_text().splitlines():
    event = json.loads(line)
    if event["kind"] != "train":
        continue
    end = round(event["epoch"] * count)
    start = end - event["samples"]
    while kept[-1][1] > start:  # done after the checkpoint that the run went back to
        first, last = kept.pop()
        again += last - first
    assert kept[-1][1] == start, f"samples {kept[-1][1]} to {start} are missing"
    kept.append((start, end))
    workers += [event["workers"]] if workers[-1:] != [event["workers"]] else []
last = max(int(path.name.removeprefix("step_")) for path in run.directory.glob("step_*"))
assert kept[-1][1] == last * run.recipe.batch, (kept[-1], last)
print(f"{kept[-1][1] / count:g} epochs, each sample once; {again} samples undone and done again; workers {workers}")
PYTHON
}

workers_of() { # workers_of RUN: of its latest step
  in_ray tail -n 5 "runs/$1/metrics.jsonl" 2>/dev/null |
    sed -n 's/.*"workers": \([0-9]*\).*/\1/p' | tail -n 1
}
step_of() {
  in_ray tail -n 5 "runs/$1/metrics.jsonl" 2>/dev/null | sed -n 's/.*"step": \([0-9]*\).*/\1/p' | tail -n 1
}
trains_with() { is "$2" "$(workers_of "$1")"; }
cluster_healthy() { docker compose up --wait --no-recreate ray-head ray-worker 2>/dev/null; }
is_past() { [ "$(step_of "$1")" -gt "$2" ] 2>/dev/null; }

accidents() {
  # More epochs than there is time for: it is stopped once all has happened to it.
  submit --detach train "${tiny[@]}" --name chaos --epochs 200 --workers 1:2 --save-every 10
  within 300 is_past chaos 30
  trains_with chaos 2 || fail "began with one worker"
  echo "kill -9 of a worker container"
  docker kill $COMPOSE_PROJECT_NAME-ray-worker-2 >/dev/null
  started --scale ray-worker=1 ray-worker
  within 300 queries # while the run finds itself again
  load
  within 300 trains_with chaos 1
  echo "back to two"
  docker compose up --detach --no-recreate --scale ray-worker=2 ray-worker 2>/dev/null
  bad_settings & # which needs no cluster
  within 300 trains_with chaos 2
  echo "one stopped in good order"
  docker stop --time 45 $COMPOSE_PROJECT_NAME-ray-worker-2 >/dev/null
  docker logs $COMPOSE_PROJECT_NAME-ray-worker-2 2>&1 | tail -n 3
  wait $!
  within 300 trains_with chaos 1
  jobs stop chaos
  jobs logs chaos | tail -n 30 | tee "$work/stopped"
  grep -q 'stopped; to go on' "$work/stopped" || fail "not stopped with a checkpoint"
  samples_of chaos | tee "$work/samples"
  grep -qF 'workers [2, 1, 2, 1]' "$work/samples" || fail "the run did not go along"
}

queries() {
  curl -s -o /dev/null -F "file=@$(find "$work/images" -name '*.jpg' | head -n 1)" $api/classify
  curl -s -o /dev/null -F file=@README.md $api/classify
  python3 - <<'PYTHON'
import json, math, os, pathlib, sys, urllib.parse, urllib.request

def ask(query):
    url = f"http://127.0.0.1:{os.environ['PROMETHEUS_PORT']}/api/v1/query?"
    with urllib.request.urlopen(url + urllib.parse.urlencode({"query": query})) as answer:
        return [float(each["value"][1]) for each in json.load(answer)["data"]["result"]]

boards = map(json.loads, map(pathlib.Path.read_text, pathlib.Path("deploy/grafana/dashboards").iterdir()))
targets = [target for board in boards for panel in board["panels"] for target in panel["targets"]]
queries = [target["expr"].replace("$run", ".*") for target in targets]
empty = [query for query in queries if not any(map(math.isfinite, ask(query)))]
print(f"{len(queries) - len(empty)} of {len(queries)} queries of the dashboards have data", *empty[:1])
sys.exit(bool(empty) or not all(ask('up{job="api"}') + ask('up{job="ray"}')))
PYTHON
}

answered() { [ "$(grep -rls '"probability"' "$work/answers" | wc -l)" -gt "$1" ]; }

# Clients that retry lose nothing while the server is killed and started again.
load() {
  local requests=100
  (cd "$work/images" && ls ./*/*.jpg | head -n $requests |
    xargs -P 8 -I{} curl -sf --retry 60 --retry-delay 1 --retry-all-errors \
      -F file=@{} -o "$work/answers/{}" --create-dirs $api/classify) &
  within 300 answered 10
  docker kill $COMPOSE_PROJECT_NAME-api-1 >/dev/null
  started api
  within 300 answered 40
  docker compose restart api 2>/dev/null
  wait $!
  answered $((requests - 1)) || fail "lost requests"
  echo "server killed, and started again, under load: all $requests requests answered"
}

new_head() {
  docker compose restart ray-head 2>/dev/null
  within 300 cluster_healthy # workers that miss their head are unhealthy, then end and start again
  submit train "${tiny[@]}" --name after --epochs 1 | tail -n 3 | tee "$work/after"
  grep -q 'published models/after' "$work/after" || fail "no model after the head was restarted"
  samples_of after
}

bad_settings() {
  says "no token in /run/ray/none" docker compose run --rm -T --no-deps -e RAY_AUTH_TOKEN_PATH=/run/ray/none \
    --entrypoint "ray-node worker" jobs
  says "cannot be opened or is empty: /run/ray/none" docker compose run --rm -T --no-deps \
    -e RAY_AUTH_TOKEN_PATH=/run/ray/none jobs status
  says "put a copy from elsewhere at /app/cache/alexnet/" docker compose run --rm -T \
    -e MODEL=torchvision -e ALEXNET_TORCHVISION_URL=file:///none torchvision
  says "port is already allocated" docker compose -p $COMPOSE_PROJECT_NAME-other up --detach api
  says "No space left" docker run --rm --tmpfs /app/datasets:size=200k,uid=10001 \
    -v "$work/images:/photographs:ro" --entrypoint python alexnet-ray -m pipeline pack /photographs datasets/mine
  docker tag alexnet-api alexnet-api:cuda
  says 'could not select device driver "nvidia"' env API_PORT=0 docker compose -p $COMPOSE_PROJECT_NAME-other \
    -f docker-compose.yml -f docker-compose.gpu.yml up --detach --no-build --no-deps api
  docker rmi alexnet-api:cuda >/dev/null
}

down() {
  local label="label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"
  docker compose --profile '*' down 2>/dev/null
  is "" "$(docker ps -aq --filter "$label")$(docker network ls -q --filter "$label")" || fail "left behind"
  docker volume ls -q --filter "$label" | sort | tr '\n' ' '
}

clear
stage configurations configurations
stage build build
stage "rules and alerts" rules
stage "up, healthy" up
stage "train on two workers; intruders" train
stage "20 held-out images" classify
stage "pack without a network" pack
stage "similar images" similar
stage "accidents; bad settings" accidents
stage "head restarted" new_head
stage down down
printf '\n%s%6d s  in all\nsmoke: all passed\n' "$times" $SECONDS
