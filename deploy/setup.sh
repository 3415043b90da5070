#!/usr/bin/env bash
# The one set-up path: Debian packages, virtual environment, the project itself. Every make target runs it first.
# A second run compares one hash and ends. Settings, all optional:
#   PYTHON=/path/to/python3         the interpreter to use instead of the one found
#   KERNROLL_SKIP_PACKAGES=1        do not look at Debian packages at all (another distribution, or an image built beforehand)
#   KERNROLL_SETUP_TIMEOUT_S=1800   how long one download or installation may take
# Exit codes: 0 ready, 1 something is missing and the message says what to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv=.venv
readonly stamp=$venv/kernroll-setup.stamp
readonly log=build/setup.log
readonly package_list=deploy/debian-packages.txt
readonly step_timeout_s=${KERNROLL_SETUP_TIMEOUT_S:-1800}

# To standard error: what a target prints may be meant for a pipe.
say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: %s\n' "$@" >&2
  exit 1
}

# What the environment was made from. The folder counts because an editable installation and the scripts in it carry its path.
state_key() {
  { "$venv/bin/python" -c 'import sys; print(sys.version)' && pwd -P &&
    cat pyproject.toml "$package_list" deploy/setup.sh; } 2>/dev/null | sha256sum | cut -d ' ' -f 1
}

is_ready() { [[ -x $venv/bin/python && -f $stamp ]] && [[ $(<"$stamp") == "$(state_key)" ]]; }

# Debian splits ensurepip into python3-venv, so an interpreter counts only when it can make an environment.
makes_environments() {
  "$1" -c 'import sys; assert sys.version_info >= (3, 11); import ensurepip, venv' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    [[ -n ${PYTHON:-} && $candidate != "$PYTHON" ]] && break
    if makes_environments "$candidate"; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

missing_packages() {
  local package
  while read -r package; do
    [[ $package == python3-venv ]] && find_python >/dev/null && continue
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
  done < <(sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$package_list")
}

# Runs apt-get as root, with a deadline, waiting for another apt for a while instead of failing at once.
apt_get() {
  logged "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

install_packages() {
  local -a packages become=()
  [[ -n ${KERNROLL_SKIP_PACKAGES:-} ]] && return 0
  if ! command -v dpkg-query >/dev/null; then
    die "this machine has no dpkg, and kernroll's set-up knows Debian 12 and 13 only." \
      "Install what $package_list names by other means, then run: KERNROLL_SKIP_PACKAGES=1 make setup"
  fi
  mapfile -t packages < <(missing_packages)
  ((${#packages[@]})) || return 0
  say "Debian packages missing: ${packages[*]}"
  local command="apt-get update && apt-get install --no-install-recommends ${packages[*]}"
  if ((EUID != 0)); then
    if ! { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; then
      die "this user is not root and has no passwordless sudo, so they cannot be installed from here." \
        "As root, run once:  $command" "and then the same make command again."
    fi
    become=(sudo -n)
  fi
  say "installing them${become[*]:+ through sudo}"
  # Package lists may be absent or stale: fetch them only when the installation fails without.
  apt_get install --no-install-recommends "${packages[@]}" && return 0
  { apt_get update && apt_get install --no-install-recommends "${packages[@]}"; } && return 0
  tail -n 15 "$log" >&2
  die "apt could not install: ${packages[*]}. The end of its log is above, all of it in $log." "As root, try:  $command"
}

# Runs a long, quiet command with a deadline: its output goes to the log, the line it is at to the terminal.
logged() {
  local line
  timeout --foreground "$step_timeout_s" "$@" </dev/null 2>&1 | while IFS= read -r line; do
    printf '%s\n' "$line" >&3
    if [[ -t 2 ]]; then printf '\r\033[K  %.76s' "$line" >&2; fi
  done 3>>"$log" && { if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi; }
}

make_environment() {
  local python
  # The scripts in it carry its path, so one that was moved here from another folder is made anew.
  if "$venv/bin/python" -c 'import sys; assert sys.version_info >= (3, 11); import pip' >/dev/null 2>&1 &&
    grep -qsF "$(pwd -P)/$venv/bin/python" "$venv/bin/pip"; then
    return 0
  fi
  if ! python=$(find_python); then
    die "Python 3.11 or newer with the venv module is needed${PYTHON:+, and PYTHON=$PYTHON is not one}." \
      "python3 here: $(command -v python3 || printf 'none')$(python3 -c 'import sys; print(", version", sys.version.split()[0])' 2>/dev/null || true)." \
      "Install python3-venv, or name another interpreter:  make setup PYTHON=/path/to/python3"
  fi
  say "virtual environment $venv from $python"
  "$python" -m venv --clear "$venv" || die "$python could not make $venv; its message is above. A full disk is the usual cause."
}

install_project() {
  local key
  key=$(state_key)
  rm -f "$stamp"
  say "installing kernroll and what it needs into $venv (a few hundred MB the first time; log: $log)"
  if ! logged "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --retries 3 --timeout 60 -e '.[dev]'; then
    printf '\n' >&2
    tail -n 15 "$log" >&2
    die "pip could not install the project; the end of its log is above, all of it in $log." \
      "Behind a proxy or a mirror, set HTTPS_PROXY or PIP_INDEX_URL. With the disk full, make room." \
      "Then run the same make command again: it continues where it stopped."
  fi
  printf '%s\n' "$key" >"$stamp"
}

main() {
  is_ready && return 0
  [[ -f $package_list ]] || die "$package_list is missing: this is not a complete checkout."
  trap 'die "interrupted; run the same make command again, it continues where it stopped."' INT TERM
  # Two make commands at once take turns. The lock ends with this process, however it ends.
  exec 9<pyproject.toml
  flock -w "$step_timeout_s" 9 || die "another set-up of this folder still runs after $step_timeout_s s."
  is_ready && return 0
  { mkdir -p "$(dirname "$log")" && : >"$log"; } || die "cannot write $log; does this folder belong to another user?"
  install_packages
  make_environment
  install_project
  say "ready"
}

main
