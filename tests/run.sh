#!/usr/bin/env bash
# The test command: installs what the tests need (apt, a Python virtual environment, cargo-deny), then runs
# everything. Works as root on a fresh Debian 12 with nothing but Rust; skips nothing.
#
#   bash tests/run.sh             everything
#   bash tests/run.sh --quick     format, clippy and the unit tests; installs nothing
#   bash tests/run.sh --install   only installs what is missing
#   bash tests/run.sh NAME...     everything, but of the tests only those whose names contain NAME
#
# The long run of T55 (canonical JSON against securesystemslib), with other documents for each seed:
#   PLIMSOLL_DIFFERENTIAL=1000000 PLIMSOLL_DIFFERENTIAL_SEED=2 bash tests/run.sh canonical_json
# The long run of generated repositories, judged by other clients too (docs/divergences.md):
#   PLIMSOLL_DIFFERENTIAL_REPOSITORIES=20000 PLIMSOLL_DIFFERENTIAL_SEED=2 bash tests/run.sh know_why
# The long run of kills of the daemon (and of every read failing once, not every fourth), at other moments for each seed:
#   PLIMSOLL_KILL_ROUNDS=300 PLIMSOLL_KILL_SEED=2 bash tests/run.sh kills_ every_step
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DENY=0.20.2
target=${CARGO_TARGET_DIR:-$PWD/target}
export PATH="$target/tools/bin:$PATH"
export LC_ALL=C.UTF-8

# ---------------------------------------------------------------- stages and their times

times=()
current=
started=

stage() {
    current=$1
    started=$SECONDS
    shift
    printf '\n== %s\n' "$current"
    "$@"
    times+=("$(printf '%6d s  %s' $((SECONDS - started)) "$current")")
    current=
}

finish() {
    local status=$?
    [[ -z $current ]] || times+=("$(printf '%6d s  %s  FAILED' $((SECONDS - started)) "$current")")
    printf '\n== times\n'
    ((${#times[@]} == 0)) || printf '%s\n' "${times[@]}"
    printf '%6d s  in all\n' "$SECONDS"
    if ((status == 0)); then
        printf '\ntests/run.sh: every stage passed\n'
    else
        printf '\ntests/run.sh: FAILED in stage: %s\n' "${current:-start}"
    fi
    exit "$status"
}
trap finish EXIT

# ---------------------------------------------------------------- install

needed_packages=(
    apache2-utils # htpasswd
    busybox-static
    chromium
    chromium-driver
    docker-registry
    faketime
    gcc
    libc6-dev
    openssh-client # ssh-agent
    openssl
    python3-venv
    skopeo
    strace
    systemd # systemd-analyze
)

install_packages() {
    local missing=() package
    for package in "${needed_packages[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    if ((${#missing[@]} == 0)); then
        echo 'Debian packages: all there'
        return
    fi
    echo "Debian packages to install: ${missing[*]}"
    local as_root=()
    ((EUID == 0)) || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
    # Debian starts a docker-registry on port 5000 where services are run; the tests start their own, on free
    # ports. A registry that was there before this script is left alone.
    if [[ " ${missing[*]} " == *' docker-registry '* ]]; then
        if [[ -d /run/systemd/system ]]; then
            "${as_root[@]}" systemctl disable --now docker-registry
        elif [[ -x /etc/init.d/docker-registry ]]; then
            "${as_root[@]}" /etc/init.d/docker-registry stop || true
        fi
        if (exec 3<>/dev/tcp/127.0.0.1/5000) 2>/dev/null; then
            echo 'note: something listens on port 5000 after installing docker-registry; the tests do not use it'
        fi
    fi
}

install_peers() {
    local wanted=tests/peers/requirements.txt
    if cmp -s "$wanted" .venv/requirements.txt; then
        echo 'Python peers: all there'
        return
    fi
    /usr/bin/python3 -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 5 -r "$wanted"
    .venv/bin/python -m pip check
    # Written last: a half-made environment is made again.
    cp "$wanted" .venv/requirements.txt
}

# A debug build without default features is made in a third of the time of a release build, and checks as well.
install_cargo_deny() {
    if [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $CARGO_DENY" ]]; then
        echo "cargo-deny $CARGO_DENY: there"
        return
    fi
    cargo install --quiet --locked --debug --no-default-features --root "$target/tools" \
        "cargo-deny@$CARGO_DENY"
}

# That one program alone: its package brings a server, which Debian would start, and fonts for the server's pages.
install_promtool() {
    if [[ -x $target/tools/bin/promtool ]]; then
        echo 'promtool: there'
        return
    fi
    local folder as_root=()
    ((EUID == 0)) || as_root=(sudo)
    folder=$(mktemp -d)
    # Whatever comes of it, in a shell of its own, which ends with it.
    (
        trap 'rm -rf "$folder"' EXIT
        (
            cd "$folder"
            apt-get download -qq prometheus || { "${as_root[@]}" apt-get update -qq && apt-get download -qq prometheus; }
            dpkg-deb -x prometheus_*.deb all
        )
        mkdir -p "$target/tools/bin"
        # Between file systems it is copied, which may end half-way: it is there whole or not at all.
        cp "$folder/all/usr/bin/promtool" "$target/tools/bin/promtool.new"
        mv "$target/tools/bin/promtool.new" "$target/tools/bin/promtool"
    )
}

install() {
    install_packages
    install_peers
    install_promtool
    install_cargo_deny
}

# ---------------------------------------------------------------- checks and tests

docs() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
}

# The fuzz targets are a workspace of their own. Their functions are compiled and run with the tests; what is left is
# their format, and a lock file that fits.
fuzz_targets() {
    cargo fmt --check --manifest-path tests/fuzz/Cargo.toml
    cargo metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml >/dev/null
}

# Runs cargo test with the given arguments, then adds up its result lines.
run_tests() {
    local log=$target/tests.log
    cargo test --locked "$@" 2>&1 | tee "$log"
    sed 's/\x1b\[[0-9;]*m//g' "$log" | awk '
        /^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END {
            printf "\ntests: %d passed, %d failed, %d skipped\n", passed, failed, ignored
            exit passed == 0 || failed > 0
        }'
}

case ${1:-} in
--install)
    stage 'install' install
    ;;
--quick)
    stage 'format' cargo fmt --all --check
    stage 'clippy' cargo clippy --locked --workspace --all-targets -- -D warnings
    stage 'unit tests' run_tests --workspace --lib --bins
    ;;
-*)
    echo "usage: bash tests/run.sh [--quick | --install | NAME...]" >&2
    exit 2
    ;;
*)
    stage 'install' install
    stage 'format' cargo fmt --all --check
    stage 'fuzz targets' fuzz_targets
    stage 'clippy' cargo clippy --locked --workspace --all-targets -- -D warnings
    stage 'docs' docs
    stage 'licences, bans, sources' cargo deny --locked check --hide-inclusion-graph bans licenses sources
    stage 'build' cargo build --locked --workspace --bins
    stage 'tests' run_tests --workspace --no-fail-fast -- "$@"
    ;;
esac
