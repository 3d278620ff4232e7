# Sourced by the starters in scripts/: gets this checkout ready and finds the Node it pins.
# Sets LIMPET_ROOT and LIMPET_NODE, and gives limpet_run SCRIPT [ARGUMENT…].

limpet_fail() {
  echo "limpet: $*" >&2
  exit 1
}

limpet_install_package() { # PACKAGE WHAT-FOR
  if command -v apt-get >/dev/null 2>&1; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo='sudo -n'
    if [ -z "$sudo" ] || sudo -n true 2>/dev/null; then
      echo "limpet: installing $1, $2" >&2
      DEBIAN_FRONTEND=noninteractive
      export DEBIAN_FRONTEND
      $sudo apt-get install --yes --no-install-recommends "$1" >/dev/null 2>&1 && return
      $sudo apt-get update >/dev/null 2>&1
      $sudo apt-get install --yes --no-install-recommends "$1" >/dev/null 2>&1 && return
    fi
  fi
  limpet_fail "needs $1, $2; run: sudo apt-get install $1"
}

limpet_setup() {
  LIMPET_ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
  [ "$(uname -s)" = Linux ] || limpet_fail "needs Linux"
  case $(uname -m) in
    x86_64) limpet_arch=x64 ;;
    aarch64) limpet_arch=arm64 ;;
    *) limpet_fail "needs an x86-64 or a 64-bit ARM processor" ;;
  esac
  LIMPET_NODE=$LIMPET_ROOT/node_modules/node-linux-$limpet_arch/bin/node
  stamp=$LIMPET_ROOT/node_modules/.package-lock.json
  if [ ! -x "$LIMPET_NODE" ] || [ "$LIMPET_ROOT/package-lock.json" -nt "$stamp" ]; then
    limpet_install
  fi
  # The check costs a start of Node, so it is done once for each installation.
  if [ ! -e "$LIMPET_ROOT/node_modules/.limpet-node-works" ]; then
    "$LIMPET_NODE" --version >/dev/null 2>&1 ||
      limpet_install_package libatomic1 "which Node needs"
    "$LIMPET_NODE" --version >/dev/null || limpet_fail "the pinned Node does not run here"
    : >"$LIMPET_ROOT/node_modules/.limpet-node-works"
  fi
  export LIMPET_ROOT LIMPET_NODE
}

limpet_install() {
  if ! command -v npm >/dev/null 2>&1 || ! command -v node >/dev/null 2>&1; then
    limpet_fail "needs node and npm, of any version; run: sudo apt-get install nodejs npm"
  fi
  # Of several starters at once one installs. A lock older than ten minutes has lost its owner.
  lock=$LIMPET_ROOT/.npm-install.lock
  until mkdir "$lock" 2>/dev/null; do
    [ -z "$(find "$lock" -maxdepth 0 -mmin +10)" ] || rmdir "$lock"
    sleep 1
  done
  trap 'rmdir "$lock"' EXIT
  if [ ! -x "$LIMPET_NODE" ] || [ "$LIMPET_ROOT/package-lock.json" -nt "$stamp" ]; then
    echo "limpet: installing the packages of package-lock.json (npm ci)" >&2
    before=$(date +%s)
    (cd "$LIMPET_ROOT" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) ||
      limpet_fail "npm ci failed"
    touch "$stamp"
    echo "limpet: installed in $(($(date +%s) - before)) s" >&2
  fi
  trap - EXIT
  rmdir "$lock"
}

limpet_run() { # SCRIPT [ARGUMENT…]
  script=$LIMPET_ROOT/scripts/$1
  shift
  exec "$LIMPET_NODE" "$script" "$@"
}

limpet_setup
