#!/bin/sh
# Brings the real servers that the tests talk to: PostgreSQL and Mosquitto from the system's packages, Apache Kafka's jars
# through Maven into .cache/kafka. What is installed is used as it is; quick when nothing is missing.
# --check only says what is missing (exit status 1).
set -eu
cd "$(dirname "$0")/.."
jars=.cache/kafka
pom=tests/support/kafka/pom.xml

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/usr/local/sbin/$1" ]; }
has_postgresql() { has initdb || ls /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb >/dev/null 2>&1; }
has_jars() { [ -f "$jars/.complete" ] && [ "$jars/.complete" -nt "$pom" ]; }

missing=
has_postgresql || missing="$missing postgresql"
has mosquitto || missing="$missing mosquitto"
has openssl || missing="$missing openssl"
has setpriv || missing="$missing util-linux"
has ip || missing="$missing iproute2"
has java || missing="$missing default-jre-headless"
has_jars || has mvn || missing="$missing maven"

if [ "${1:-}" = --check ]; then
    has_jars || missing="$missing kafka-jars"
    [ -z "$missing" ] || { echo "test-services: missing:$missing" >&2; exit 1; }
    exit 0
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        root=
    elif sudo -n true 2>/dev/null; then
        root="sudo -n"
    else
        echo "test-services: missing:$missing; install them as root: apt-get install$missing" >&2
        exit 1
    fi
    if ! has apt-get; then
        echo "test-services: missing:$missing; install them with this system's package manager" >&2
        exit 1
    fi
    echo "test-services: installing$missing"
    # no server of the system's own is to start: the tests run theirs on free ports in temporary folders
    export DEBIAN_FRONTEND=noninteractive
    $root apt-get update -q >/dev/null
    # shellcheck disable=SC2086
    $root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >/dev/null
fi

if ! has_jars; then
    echo "test-services: fetching Apache Kafka's jars into $jars"
    rm -rf "$jars"
    mkdir -p "$jars"
    mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$PWD/$jars" -DincludeScope=runtime
    touch "$jars/.complete"
fi
