# Sourced by the other scripts: where things are, and the shop's environment for DB=$DB.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
VAR=$ROOT/var
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
DB=${DB:-embedded}
mkdir -p "$VAR/log" "$VAR/pids" "$VAR/static"

say() { printf '%s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

PATH=$PATH:/usr/sbin
case $DB in embedded | mariadb) ;; *) die "DB is either embedded or mariadb, not “$DB”." ;; esac

free_port() { # the first free one from $1 on
  python3 - "$1" <<'PY'
import socket, sys
for port in range(int(sys.argv[1]), int(sys.argv[1]) + 200):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    sys.exit()
sys.exit("no free port")
PY
}

docker_engine() { # does one answer, with compose?
  command -v docker >/dev/null && docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1
}

redis_server() { # the program of a Redis server
  # Debian's package redis-server is a service and a link to this program, which acts by its name.
  [ ! -x /usr/bin/redis-check-rdb ] || ln -sf /usr/bin/redis-check-rdb "$VAR/redis-server"
  command -v redis-server || { [ -x "$VAR/redis-server" ] && echo "$VAR/redis-server"; }
}

started() { # when process $1 started, in the kernel's ticks
  sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

note() { # that $1 is process $2, started now
  echo "$2 $(started "$2")" >"$VAR/pids/$1.pid"
}

running() { # is the process noted as $1 alive, and still that one?
  local pid since
  read -r pid since 2>/dev/null <"$VAR/pids/$1.pid" && [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]
}

stop() { # end the process noted as $1, if it is still that one
  if running "$1"; then
    local pid _
    read -r pid _ <"$VAR/pids/$1.pid"
    kill "$pid"
    for _ in $(seq 100); do
      running "$1" && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || break
      sleep 0.1
    done
    say "Stopped: $1."
  fi
  rm -f "$VAR/pids/$1.pid"
}

secret() { # a secret of this checkout, made once: $VAR/$1, of $2 random bytes
  [ -s "$VAR/$1" ] || (umask 077 && python3 -c "import secrets; print(secrets.token_urlsafe(${2:-48}))" >"$VAR/$1")
  cat "$VAR/$1"
}

export DJANGO_SETTINGS_MODULE=shop.settings
export SECRET_KEY=${SECRET_KEY:-$(secret secret-key)}
export HTTPS=${HTTPS:-0} STATIC_FROM_SOURCE=${STATIC_FROM_SOURCE:-1}
if [ -f "$VAR/$DB.env" ] && [ "${USE_SERVICES:-1}" = 1 ]; then
  set -a
  # shellcheck disable=SC1090
  . "$VAR/$DB.env"
  set +a
fi
