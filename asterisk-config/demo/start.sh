#!/bin/sh
# Fills the templates beside this file from the environment, each @NAME@ from the variable NAME, and
# becomes Asterisk. TEMPLATES and ETC say where from and where to.
set -eu
TEMPLATES=${TEMPLATES:-$(dirname "$0")}
ETC=${ETC:-/etc/asterisk}
# Empty: Asterisk's own. Else lines for the [directories] of asterisk.conf.
export DIRECTORIES="${DIRECTORIES:-}"
export CERTIFICATE="${CERTIFICATE:-$ETC/keys/pbx.crt}" KEY="${KEY:-$ETC/keys/pbx.key}"

mkdir -p "$(dirname "$KEY")"
if [ ! -s "$KEY" ]; then # phones either trust this one or get your own, mounted here
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=${ADVERTISED_ADDRESS}" \
    -keyout "$KEY" -out "$CERTIFICATE" 2>/dev/null
fi

for template in "$TEMPLATES"/*.conf; do
  awk '{
    line = $0; out = ""
    while (match(line, /@[A-Z_]+@/)) {
      name = substr(line, RSTART + 1, RLENGTH - 2)
      if (!(name in ENVIRON)) {
        print FILENAME ": no value in the environment for " name > "/dev/stderr"
        exit 1
      }
      out = out substr(line, 1, RSTART - 1) ENVIRON[name]
      line = substr(line, RSTART + RLENGTH)
    }
    print out line
  }' "$template" >"$ETC/$(basename "$template")"
done

exec asterisk -f -n -C "$ETC/asterisk.conf"
