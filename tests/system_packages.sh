#!/usr/bin/env bash
# Installs the Debian packages that tests and benches use: system_packages.sh PACKAGE...
# Without root or apt it only says what is missing; the tests that need it are then skipped with a reason.
set -euo pipefail
missing=()
for package in "$@"; do
  dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo "not installed, and not root to do it: ${missing[*]}" >&2
  exit 0
fi
echo "==> installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
