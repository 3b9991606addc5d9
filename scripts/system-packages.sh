#!/bin/sh
# Shared libraries that the mxnet and gluoncv wheels need and do not carry. Installs them with apt where it may,
# otherwise names the one command.
set -eu

has() { /sbin/ldconfig -p 2>/dev/null | grep -q "$1" || ls /usr/lib/*/"$1"* /usr/lib64/"$1"* >/dev/null 2>&1; }

missing=""
has libgomp.so.1 || missing="$missing libgomp1"
has libquadmath.so.0 || missing="$missing libquadmath0"
has libGL.so.1 || missing="$missing libgl1"
has libglib-2.0.so.0 || missing="$missing libglib2.0-0"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing shared libraries (Debian's names:$missing). Install them with your system's package manager." >&2
    exit 1
fi
install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    prefix=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    prefix="sudo "
else
    echo "Missing shared libraries. Run once: sudo sh -c 'apt-get update && $install'" >&2
    exit 1
fi
echo "Installing$missing"
${prefix}apt-get update -qq
DEBIAN_FRONTEND=noninteractive ${prefix}$install -qq >/dev/null
