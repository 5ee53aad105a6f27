# `make` lists the targets. To choose a Python, 3.11 or newer:  make run PYTHON=/usr/local/bin/python3.13
# ARGS is passed on:  make test ARGS='-x tests/test_zen.py'   make test ARGS=--cov   make bench ARGS=--help

PYTHON ?= python3
ARGS ?=

ifeq ($(filter oneshell,$(.FEATURES)),)
$(error GNU make 3.82 or newer is needed; where make is older, try gmake)
endif

# Each recipe is one script, which stops at the first command that fails.
.ONESHELL:
.SHELLFLAGS := -eu -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: run stop test check bench soak engines constraints clean help

INSTALLED := .venv/installed
CONTROL := .venv/bin/supervisorctl -c supervisord.conf

# Set "unreachable" to the pid of a supervisord of this folder that supervisorctl cannot reach, because its socket was
# removed; else to the empty string.
UNREACHABLE = unreachable=$$(cat run/supervisord.pid 2>/dev/null) || true; \
	    [ -n "$$unreachable" ] && [ "$$(readlink /proc/$$unreachable/cwd)" = "$$(pwd -P)" ] && \
	    grep -qs supervisord "/proc/$$unreachable/cmdline" || unreachable=

# A virtual environment works only in the folder where it was created: the stamp contains the path of that folder.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

$(INSTALLED): constraints.txt setup.cfg pyproject.toml
	@refuse() { echo "make: $$*" >&2; exit 1; }
	command -v "$(PYTHON)" >/dev/null || refuse "$(PYTHON) not found; choose a Python with make PYTHON=/path/to/python3"
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	    refuse "$$("$(PYTHON)" --version 2>&1) is too old, 3.11 or newer is needed; choose another with make PYTHON=/path/to/python3"
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null ||
	    refuse "$(PYTHON) cannot create virtual environments; on Debian and Ubuntu: apt-get install python3-venv"
	test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" || rm -rf .venv
	echo "Installing into .venv"
	test -x .venv/bin/python || "$(PYTHON)" -m venv .venv
	# Install exactly the files with the hashes in constraints.txt; then the project itself, without dependencies.
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	echo "$(CURDIR)" >$@

# For the TLS daemons. Created once and valid for 90 days; `daemons cert --force` renews it.
CERTIFICATE := run/tls/server.pem

$(CERTIFICATE): | $(INSTALLED)
	@echo "Creating a certificate: $@, and the CA for clients to trust: $(@D)/ca.pem"
	.venv/bin/daemons cert >/dev/null

run: $(INSTALLED) $(CERTIFICATE)  ## start supervisord with all daemons in the background; print their addresses and the next commands
	@mkdir -p run logs
	# Errors that keep every daemon from starting are reported here, once. An error of one daemon does not stop the others.
	.venv/bin/daemons check --shared || { echo "make run: nothing was started" >&2; exit 1; }
	if pid=$$($(CONTROL) pid 2>/dev/null); then
	    echo "supervisord already runs (pid $$pid); reading supervisord.conf again"
	    $(CONTROL) update
	    failed=$$($(CONTROL) status | awk '$$2 == "FATAL" { print $$1 }')
	    test -z "$$failed" || $(CONTROL) start $$failed || true
	else
	    $(UNREACHABLE)
	    [ -z "$$unreachable" ] || { echo "make run: supervisord runs (pid $$unreachable), but does not answer at run/supervisor.sock: make stop, then make run" >&2; exit 1; }
	    .venv/bin/supervisord -c "$$PWD/supervisord.conf"
	fi
	# A daemon is RUNNING after two seconds; if it cannot start, it is FATAL after four tries, in about seven seconds. On a
	# busy machine, 25 interpreters need more time to start.
	deadline=$$(($$(date +%s) + 40))
	while $(CONTROL) status | grep -E '^[^ ]+ +(STARTING|BACKOFF) ' >/dev/null && [ $$(date +%s) -lt $$deadline ]; do
	    sleep 0.2
	done
	# RUNNING means that the process is two seconds old; the ready line in the log means that it listens. Only processes
	# started within the last minute are checked. Programs in conf.d may have no ini, or another log.
	$(CONTROL) status | awk '$$2 == "RUNNING" && $$6 ~ /^0:00:/ { print $$1, $$4 }' | while read -r name pid; do
	    [ -e "conf/$$name.ini" ] && [ -e "logs/$$name.log" ] || continue
	    while ! grep -qs " ready .* pid=$${pid%,}$$" "logs/$$name.log" && [ $$(date +%s) -lt $$deadline ]; do
	        sleep 0.1
	    done
	done
	$(CONTROL) pid >/dev/null || { echo "make run: supervisord has ended: see logs/supervisord.log" >&2; exit 1; }
	status=$$($(CONTROL) status) || true
	down=$$(echo "$$status" | awk '$$2 ~ /^(FATAL|BACKOFF|STARTING)$$/ { print $$1 }')
	if [ -n "$$down" ]; then
	    echo "$$status"
	    echo
	    for name in $$down; do
	        log=logs/$${name%%:*}.log
	        echo "$$log:"
	        # Show the lines of the last try: those after the previous occurrence of the last line. Timestamps, in which the
	        # lines differ, are removed.
	        tail -n 200 "$$log" 2>/dev/null | awk '
	            { sub(/^[-0-9]+ [:,0-9]+ [A-Z]+ [a-z.]+\[[0-9]+\] /, ""); line[NR] = $$0 }
	            END {
	                if (!NR) { print "    (empty)"; exit }
	                for (first = NR; first > 1 && first > NR - 9 && line[first - 1] != line[NR]; first--);
	                for (; first <= NR; first++) print "    " line[first]
	            }'
	    done >&2
	    echo "Not all daemons run. Correct the errors (daemons check), then: make run" >&2
	    exit 1
	fi
	echo "$$status" | awk '$$2 == "RUNNING" { running++; next } { print } END { print running + 0, "daemons run." }'
	echo
	.venv/bin/daemons list || true  # errors of an ini that no program runs are on standard error
	printf '%s\n' '' 'What to type next:' \
	    '    . .venv/bin/activate            # once in each terminal, for the commands below' \
	    '    supervisorctl status            # likewise start, stop and restart, with a name' \
	    '    daemons ask launcelot           # a conversation' \
	    '    tail -F logs/launcelot.log      # one line for each conversation' \
	    '    make stop'

stop:  ## let every daemon finish its conversations, stop supervisord, and wait until all have exited
	@if [ -S run/supervisor.sock ] && [ ! -x .venv/bin/supervisorctl ]; then
	    echo "make stop: run/supervisor.sock exists, but .venv, which is needed to use it, does not: make run, then make stop" >&2
	    exit 1
	fi
	if pid=$$($(CONTROL) pid 2>/dev/null); then
	    $(CONTROL) stop all || true  # all at the same time, also where the plug-in is missing
	    $(CONTROL) shutdown >/dev/null || true
	else
	    $(UNREACHABLE)
	    [ -n "$$unreachable" ] || { echo "supervisord was not running"; exit 0; }
	    pid=$$unreachable
	    kill -TERM $$pid
	fi
	# supervisord removes its pid file after the last daemon has ended.
	deadline=$$(($$(date +%s) + 30))
	while [ -e run/supervisord.pid ] && kill -0 $$pid 2>/dev/null; do
	    [ $$(date +%s) -lt $$deadline ] || { echo "make stop: supervisord (pid $$pid) still runs after 30 s" >&2; exit 1; }
	    sleep 0.1
	done
	# supervisord exits a moment later. It remains a zombie if its parent does not reap it.
	deadline=$$(($$(date +%s) + 3))
	while kill -0 $$pid 2>/dev/null && ! grep -qs ') Z' /proc/$$pid/stat && [ $$(date +%s) -lt $$deadline ]; do
	    sleep 0.05
	done
	echo "supervisord and all its daemons have ended"

# Three workers more than cores, since most tests mostly wait for a deadline or a process. Each file runs in one worker, in
# the order of tests/conftest.py: by default, files with few tests would come last, and some of these take longest.
WORKERS := $(shell expr $$(nproc) + 3)

test: $(INSTALLED)  ## run the tests; ARGS goes to pytest; WORKERS=0: one at a time
	@.venv/bin/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(INSTALLED) $(CERTIFICATE)  ## ruff, mypy, and the ini of every program in supervisord.conf
	@# Only the folders of the project: modules of your own may have another style.
	.venv/bin/ruff check camelot_start.py daemons tests benchmarks soak
	.venv/bin/ruff format --check camelot_start.py daemons tests benchmarks soak
	.venv/bin/mypy --strict
	.venv/bin/daemons check $$(sed -n 's/^\[program:\(.*\)\]$$/\1/p' supervisord.conf)

bench: $(INSTALLED)  ## compare the speed with other servers; ARGS goes to the benchmarks
	@.venv/bin/python -m benchmarks $(ARGS)

soak: $(INSTALLED)  ## five minutes of regular and hostile load on a copy of every daemon; for example ARGS='--seconds 60'
	@.venv/bin/python -m soak $(ARGS)

# Clients for the tests; a C compiler, a load generator and other servers for the benchmarks; nodejs, unless a node is
# installed; and the test suite of Debian's Python, which is run against this project's classes.
TESTSUITE = $(shell /usr/bin/python3 -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])')
ENGINES = python3-venv netbase netcat-openbsd bind9-dnsutils curl tmux lsof procps iproute2 openssl systemd gcc libc6-dev \
    wrk chromium nginx memcached wamerican librpc-xml-perl strace $(TESTSUITE)

engines:  ## as root: install the clients, servers and tools that the tests and benchmarks run, as Debian packages
	@wanted="$(ENGINES)" missing=
	command -v node >/dev/null || wanted="$$wanted nodejs"
	for package in $$wanted; do
	    [ "$$(dpkg-query -W -f='$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || missing="$$missing $$package"
	done
	[ -n "$$missing" ] || { echo "already installed: $$wanted"; exit 0; }
	[ "$$(id -u)" = 0 ] || { echo "make engines: root is needed to install$$missing" >&2; exit 1; }
	export DEBIAN_FRONTEND=noninteractive
	# Debian starts services when it installs them. Here nginx and memcached are needed as programs, not as servers.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $$policy ]; then
	    trap "rm -f $$policy" EXIT
	    printf '#!/bin/sh\nexit 101\n' >$$policy
	    chmod 755 $$policy
	fi
	apt-get update -qq
	apt-get install -qq --no-install-recommends $$missing
	for service in nginx memcached; do
	    case "$$missing " in *" $$service "*) systemctl disable --quiet $$service || true ;; esac
	done

constraints:  ## renew constraints.txt: the newest versions allowed by setup.cfg and pyproject.toml, with hashes
	@tools=$$(mktemp -d)
	trap 'rm -rf "$$tools"' EXIT
	"$(PYTHON)" -m venv "$$tools"
	"$$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
	# setuptools builds the project itself. --universal: one file for all Python versions from 3.11.
	echo 'setuptools>=68' | "$$tools/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.11 \
	    --generate-hashes --system-certs --custom-compile-command 'make constraints' --no-emit-index-url \
	    --extra all --extra test --output-file constraints.txt setup.cfg - >/dev/null
	echo "constraints.txt is renewed; try it with: make check test"

clean:  ## remove .venv, caches and the contents of logs/ and run/; refused while a daemon runs
	@for file in run/*.pid; do
	    [ -e "$$file" ] || continue
	    # Not kill -0, which fails for a process of another user.
	    pid=$$(cat "$$file" 2>/dev/null) || { echo "make clean: $$file belongs to another user: it must stop its daemon first" >&2; exit 1; }
	    if [ -n "$$pid" ] && [ -d "/proc/$$pid" ]; then
	        echo "make clean: $$file names process $$pid, which runs: stop it first (make stop)" >&2
	        exit 1
	    fi
	done
	rm -rf .venv benchmarks/.venv *.egg-info build dist htmlcov coverage.xml .coverage .coverage.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	find logs run -mindepth 1 ! -name .gitignore -delete 2>/dev/null || true

help:  ## this list
	@awk -F ':.*## +' '/^[a-z]+:.*## / { printf "    make %-11s %s\n", $$1, $$2 }' Makefile
