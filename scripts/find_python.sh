#!/bin/sh
# Prints the path of a Python that Headrace can use (3.11 or later), or names the command that brings one.
# Without uv it must also be able to make virtual environments: uv itself is installed into one.
# PYTHON=/path/to/python chooses one.

usable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

can_make_environments() {
    command -v uv >/dev/null 2>&1 || "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

# Name the packages for each package manager: install APT DNF BREW
install() {
    if command -v apt-get >/dev/null 2>&1; then
        echo "  install it: sudo apt-get install $1"
    elif command -v dnf >/dev/null 2>&1; then
        echo "  install it: sudo dnf install $2"
    elif command -v brew >/dev/null 2>&1; then
        echo "  install it: brew install $3"
    else
        echo "  install it: apt-get install $1 (Debian, Ubuntu), dnf install $2 (Fedora, RHEL) or brew install $3 (macOS)"
    fi
    echo "  or name another one: make PYTHON=/path/to/python3"
}

found=""
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    path="$(command -v "$candidate" 2>/dev/null)" || continue
    found="$found $path ($("$path" -V 2>&1))"
    usable "$path" || continue
    if can_make_environments "$path"; then
        echo "$path"
        exit 0
    fi
    version="$("$path" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    {
        echo "Missing prerequisite: $path cannot make virtual environments (its modules venv and ensurepip are missing)."
        install "python$version-venv" "python$version" "python@$version"
    } >&2
    exit 1
done

{
    echo "Missing prerequisite: Python 3.11 or later; found:${found:- none}."
    install "python3 python3-venv" "python3.12" "python@3.12"
} >&2
exit 1
