#!/bin/sh
# Builds the container on a Debian that it makes, runs it, and tests it: /readyz, one chat of the demo, the health check's own
# command. It needs root, Debian's buildah and mmdebstrap, and some minutes, but no image registry. It is not in CI.
#
# BUILD_OPTIONS are further arguments of `buildah build`, such as --volume FOLDER:FOLDER:ro where pip finds its wheels there.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
container=""
demo=""
clean() {
    [ -z "$demo" ] || kill -- "-$demo" 2>/dev/null || true # the whole group: buildah passes no signal on
    [ -z "$container" ] || buildah rm "$container" >/dev/null
    rm -rf "$work"
}
trap clean EXIT
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

base=${BASE_TAR:-$work/base.tar}
[ -e "$base" ] || mmdebstrap --quiet --variant=minbase --include=python3-venv,ca-certificates bookworm "$base"
made=$(buildah from scratch)
buildah add --quiet "$made" "$base" / >/dev/null
buildah commit --quiet --rm "$made" localhost/lmarena-bridge-base >/dev/null

# shellcheck disable=SC2086 # a list of words
buildah build --quiet --format docker --build-arg BASE=localhost/lmarena-bridge-base ${BUILD_OPTIONS:-} \
    --tag localhost/lmarena-bridge .

container=$(buildah from localhost/lmarena-bridge)
run() { buildah run --user 10001:10001 "$container" -- "$@"; }

echo "--- it runs as"
run id
run lmarena-bridge --version
run sh -c 'touch /var/lib/lmarena-bridge/mine && rm /var/lib/lmarena-bridge/mine && ! touch /opt/mine 2>/dev/null'

echo "--- a demo in it"
setsid buildah run --user 10001:10001 "$container" -- lmarena-bridge demo --host 0.0.0.0 --port 8000 \
    >"$work/demo" 2>"$work/log" &
demo=$!
until grep -q '^Ctrl-C' "$work/demo"; do
    kill -0 "$demo" || { cat "$work/log"; exit 1; }
    sleep 0.5
done
until run /opt/lmarena-bridge/bin/python -c \
    "from urllib.request import urlopen; print('/readyz:', urlopen('http://127.0.0.1:8000/readyz', timeout=4).read())"
do sleep 1; done
grep '^curl' "$work/demo" >"$work/ask"
sh "$work/ask" >"$work/answer" 2>/dev/null
tail -n 6 "$work/answer"
grep -q 'data: \[DONE\]' "$work/answer"

echo "--- what the image says of itself"
buildah inspect --type image --format \
    '{{.Docker.Config.User}} {{.Docker.Config.Healthcheck}} {{.Docker.Config.Volumes}} {{.Docker.Config.Entrypoint}}' \
    localhost/lmarena-bridge
echo
echo "--- all is well"
