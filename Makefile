# `make` lists the words. Python 3.11 or newer is asked for by name:  make run PYTHON=/usr/local/bin/python3.13
# What stands in ARGS is passed on:  make test ARGS='-x tests/test_zen.py'   make test ARGS=--cov   make bench ARGS=--help

PYTHON ?= python3
ARGS ?=

ifeq ($(filter oneshell,$(.FEATURES)),)
$(error GNU make 3.82 or newer is needed; where make is older, try gmake)
endif

# Each recipe is one script, which ends at the first command that fails.
.ONESHELL:
.SHELLFLAGS := -eu -c
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: run stop test check bench soak engines constraints clean help

INSTALLED := .venv/installed
CONTROL := .venv/bin/supervisorctl -c supervisord.conf

# The pid of a supervisord of this folder that supervisorctl does not reach, as somebody has removed its socket; or nothing.
UNHEARD = unheard=$$(cat run/supervisord.pid 2>/dev/null) || true; \
	    [ -n "$$unheard" ] && [ "$$(readlink /proc/$$unheard/cwd)" = "$$(pwd -P)" ] && \
	    grep -qs supervisord "/proc/$$unheard/cmdline" || unheard=

# An environment works only in the folder it was made in: the stamp holds that folder's path.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
.PHONY: $(INSTALLED)
endif

$(INSTALLED): constraints.txt setup.cfg pyproject.toml
	@refuse() { echo "make: $$*" >&2; exit 1; }
	command -v "$(PYTHON)" >/dev/null || refuse "there is no $(PYTHON); name a Python with make PYTHON=/path/to/python3"
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	    refuse "$$("$(PYTHON)" --version 2>&1) is too old, 3.11 is needed; name another with make PYTHON=/path/to/python3"
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null ||
	    refuse "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv"
	test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" || rm -rf .venv
	echo "Installing into .venv"
	test -x .venv/bin/python || "$(PYTHON)" -m venv .venv
	# Just the files that constraints.txt names, by their hashes; then the project itself, which needs nothing more.
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	echo "$(CURDIR)" >$@

# For the daemons that speak TLS.  Made once; `daemons cert --force` makes it anew, before its 90 days are over.
CERTIFICATE := run/tls/server.pem

$(CERTIFICATE): | $(INSTALLED)
	@echo "Making a certificate: $@, and the CA for clients to trust: $(@D)/ca.pem"
	.venv/bin/daemons cert >/dev/null

run: $(INSTALLED) $(CERTIFICATE)  ## start supervisord with all daemons in the background; say where they listen and what to type next
	@mkdir -p run logs
	# What keeps every daemon from starting is said once, and at once. One daemon with a fault does not stop the others.
	.venv/bin/daemons check --shared || { echo "make run: nothing was started" >&2; exit 1; }
	if pid=$$($(CONTROL) pid 2>/dev/null); then
	    echo "supervisord already runs (pid $$pid); reading supervisord.conf again"
	    $(CONTROL) update
	    failed=$$($(CONTROL) status | awk '$$2 == "FATAL" { print $$1 }')
	    test -z "$$failed" || $(CONTROL) start $$failed || true
	else
	    $(UNHEARD)
	    [ -z "$$unheard" ] || { echo "make run: supervisord runs (pid $$unheard), but does not answer at run/supervisor.sock: make stop, then make run" >&2; exit 1; }
	    .venv/bin/supervisord -c "$$PWD/supervisord.conf"
	fi
	# A daemon counts as RUNNING after two seconds; one that cannot start is FATAL after three tries, in about four. On a
	# busy machine twenty-five interpreters take their time to start.
	deadline=$$(($$(date +%s) + 40))
	while $(CONTROL) status | grep -E '^[^ ]+ +(STARTING|BACKOFF) ' >/dev/null && [ $$(date +%s) -lt $$deadline ]; do
	    sleep 0.2
	done
	# RUNNING means that it has lived for two seconds. That it listens, its log says; of an old one, long ago.
	# A program of your own may be no daemon, or have its log elsewhere.
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
	        # Of the last try: what stands below the line with which the try before it ended too. The lines differ in their
	        # times, which are left out.
	        tail -n 200 "$$log" 2>/dev/null | awk '
	            { sub(/^[-0-9]+ [:,0-9]+ [A-Z]+ [a-z.]+\[[0-9]+\] /, ""); line[NR] = $$0 }
	            END {
	                if (!NR) { print "    (empty)"; exit }
	                for (first = NR; first > 1 && first > NR - 9 && line[first - 1] != line[NR]; first--);
	                for (; first <= NR; first++) print "    " line[first]
	            }'
	    done >&2
	    echo "Not all daemons run. Put it right, see what 'daemons check' says, then: make run" >&2
	    exit 1
	fi
	echo "$$status" | awk '$$2 == "RUNNING" { running++; next } { print } END { print running + 0, "daemons run." }'
	echo
	.venv/bin/daemons list || true  # what is wrong with an ini that no program runs is on standard error
	printf '%s\n' '' 'What to type next:' \
	    '    . .venv/bin/activate            # once in each terminal, for the commands below' \
	    '    supervisorctl status            # likewise start, stop and restart, with a name' \
	    '    daemons ask launcelot           # a conversation' \
	    '    tail -F logs/launcelot.log      # one line for each conversation' \
	    '    make stop'

stop:  ## let every daemon finish, stop supervisord, and wait until all have ended
	@if [ -S run/supervisor.sock ] && [ ! -x .venv/bin/supervisorctl ]; then
	    echo "make stop: run/supervisor.sock is there, but .venv, needed to use it, is not: make run, then make stop" >&2
	    exit 1
	fi
	if pid=$$($(CONTROL) pid 2>/dev/null); then
	    $(CONTROL) stop all || true  # all at once; a shutdown alone would stop one after the other
	    $(CONTROL) shutdown >/dev/null || true
	else
	    $(UNHEARD)
	    [ -n "$$unheard" ] || { echo "supervisord was not running"; exit 0; }
	    pid=$$unheard
	    kill -TERM $$pid
	fi
	# supervisord removes its pid file when it has seen the last daemon end.
	deadline=$$(($$(date +%s) + 30))
	while [ -e run/supervisord.pid ] && kill -0 $$pid 2>/dev/null; do
	    [ $$(date +%s) -lt $$deadline ] || { echo "make stop: supervisord (pid $$pid) still runs after 30 s" >&2; exit 1; }
	    sleep 0.1
	done
	# It ends itself a moment later. Where nobody buries orphans it stays, as a zombie, which runs no more.
	deadline=$$(($$(date +%s) + 3))
	while kill -0 $$pid 2>/dev/null && ! grep -qs ') Z' /proc/$$pid/stat && [ $$(date +%s) -lt $$deadline ]; do
	    sleep 0.05
	done
	echo "supervisord and all its daemons have ended"

# Most tests wait most of the time, for a deadline or a process: several are run at a time, each file by one worker.
WORKERS := auto

test: $(INSTALLED)  ## run the tests; ARGS goes to pytest; WORKERS=0: one at a time
	@.venv/bin/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadfile $(ARGS)

check: $(INSTALLED) $(CERTIFICATE)  ## ruff, mypy, and the ini of every program in supervisord.conf
	@# A daemon of your own, beside conf/ and in conf.d/, may be written as you like.
	.venv/bin/ruff check camelot_start.py daemons tests benchmarks soak
	.venv/bin/ruff format --check camelot_start.py daemons tests benchmarks soak
	.venv/bin/mypy --strict
	.venv/bin/daemons check $$(sed -n 's/^\[program:\(.*\)\]$$/\1/p' supervisord.conf)

bench: $(INSTALLED)  ## measure against others; ARGS goes to the benchmarks
	@.venv/bin/python -m benchmarks $(ARGS)

soak: $(INSTALLED)  ## five minutes of honest and hostile load on every daemon, in a copy; ARGS as --seconds 60
	@.venv/bin/python -m soak $(ARGS)

# The clients that the tests use as a person would; and for the benchmarks a C compiler, a load generator, and the servers
# to compare with. nodejs too, but where there is a node from elsewhere.
# The tests of Debian's own Python, which are run against this project's classes too.
TESTSUITE = $(shell /usr/bin/python3 -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])')
ENGINES = python3-venv netcat-openbsd bind9-dnsutils curl tmux lsof procps iproute2 openssl systemd gcc libc6-dev wrk chromium nginx \
    librpc-xml-perl strace $(TESTSUITE)

engines:  ## install the Debian packages that the tests and benchmarks use (as root)
	@wanted="$(ENGINES)" missing=
	command -v node >/dev/null || wanted="$$wanted nodejs"
	for package in $$wanted; do
	    [ "$$(dpkg-query -W -f='$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || missing="$$missing $$package"
	done
	[ -n "$$missing" ] || { echo "all there: $$wanted"; exit 0; }
	[ "$$(id -u)" = 0 ] || { echo "make engines: needs root, to install$$missing" >&2; exit 1; }
	export DEBIAN_FRONTEND=noninteractive
	# Debian starts what it installs. Here nginx is wanted as a program, not as a server on port 80.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $$policy ]; then
	    trap "rm -f $$policy" EXIT
	    printf '#!/bin/sh\nexit 101\n' >$$policy
	    chmod 755 $$policy
	fi
	apt-get update -qq
	apt-get install -qq --no-install-recommends $$missing
	case "$$missing " in *" nginx "*) systemctl disable --quiet nginx || true ;; esac

constraints:  ## renew constraints.txt: the newest versions that setup.cfg and pyproject.toml allow, with their hashes
	@tools=$$(mktemp -d)
	trap 'rm -rf "$$tools"' EXIT
	"$(PYTHON)" -m venv "$$tools"
	"$$tools/bin/python" -m pip install --quiet --disable-pip-version-check uv
	# setuptools builds the project itself. --universal: one file for every Python from 3.11 on.
	echo 'setuptools>=68' | "$$tools/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.11 \
	    --generate-hashes --system-certs --custom-compile-command 'make constraints' --no-emit-index-url \
	    --extra all --extra test --output-file constraints.txt setup.cfg - >/dev/null
	echo "constraints.txt is renewed; try it with: make check test"

clean:  ## remove what was built or written: .venv, caches, logs/, run/; refused while a daemon runs
	@for file in run/*.pid; do
	    if [ -e "$$file" ] && kill -0 "$$(cat "$$file")" 2>/dev/null; then
	        echo "make clean: $$file names process $$(cat "$$file"), which runs: stop it first (make stop)" >&2
	        exit 1
	    fi
	done
	rm -rf .venv benchmarks/.venv *.egg-info build dist htmlcov coverage.xml .coverage .coverage.*
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	find logs run -mindepth 1 ! -name .gitignore -delete 2>/dev/null || true

help:  ## this list
	@awk -F ':.*## +' '/^[a-z]+:.*## / { printf "    make %-11s %s\n", $$1, $$2 }' Makefile
