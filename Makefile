# Makefile
#
# The extension is an ordinary PGXS build: make, make install, make installcheck.
# "make help" lists the other targets.  "make test" and "make demo" also work on
# a machine that has no PostgreSQL yet: they install what is missing first.
#
#	PG_CONFIG=...	which PostgreSQL (15 to 18) to build for
#	SEEDS=N FIRST=S	simulator seeds of "make sim" and "make test"
#	FRESH=N	seeds that no run before has seen, in "make test"
#	MINUTES=N	of "make torture"; SEED, SERVERS, FAULTS: see scripts/torture
#	FUZZ_SECONDS=N FUZZ=...	how long, and which targets, in "make fuzz"
#	COPT=-Werror	warnings are errors (lint and CI do this)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

SEEDS ?= 200
FIRST ?= 1
FRESH ?= 20
BUILD ?= build
FUZZ_SECONDS ?= 60
MINUTES ?= 30

MODULE_big = pgraft
EXTENSION = pgraft
DATA = $(wildcard pgraft--*.sql)
PGFILEDESC = "pgraft - Raft consensus inside PostgreSQL"

RAFT_SOURCES = $(wildcard src/raft/*.c)
FRONT_SOURCES = $(wildcard src/storage/*.c src/net/*.c src/ha/document*.c)
HA_SOURCES = $(filter-out src/ha/document%,$(wildcard src/ha/*.c))
SERVER_SOURCES = $(FRONT_SOURCES) $(wildcard src/worker/*.c src/sql/*.c) $(HA_SOURCES)

OBJS = $(SERVER_SOURCES:src/%.c=$(BUILD)/server/%.o)
RAFT_OBJS = $(RAFT_SOURCES:src/%.c=$(BUILD)/%.o)
FRONT_OBJS = $(FRONT_SOURCES:src/%.c=$(BUILD)/front/%.o)

# the libraries of the normal build lie at the top, those of a sanitizer or
# coverage build (another BUILD) in that directory
ARCHIVES = $(if $(filter build,$(BUILD)),,$(BUILD)/)
RAFT_LIB = $(ARCHIVES)libpgraft_raft.a
FRONT_LIB = $(ARCHIVES)libpgraft_front.a
EXPORTS = $(BUILD)/exports.map

# The engine knows nothing of PostgreSQL: its own strict flags, not CFLAGS.
RAFT_CFLAGS = -std=c89 -pedantic -Wall -Wextra -Wconversion -Wshadow -Werror -g -O2 -fPIC
WARNINGS = -Wall -Wextra -Wshadow

UNIT_TESTS = $(patsubst test/unit/%.c,$(BUILD)/unit/%,$(wildcard test/unit/test_*.c))
UNIT_HELPERS = $(patsubst test/unit/%.c,$(BUILD)/unit/%.o,\
	$(filter-out test/unit/test_%.c,$(wildcard test/unit/*.c)))
UNIT_LIB = $(BUILD)/unit/libhelpers.a
# the checker of client histories, for the simulator and a program of its own
HISTORY_OBJS = $(patsubst test/history/%.c,$(BUILD)/history/%.o,\
	$(filter-out %/check_history.c %/client.c,$(wildcard test/history/*.c)))
HISTORY_CHECK = $(BUILD)/history/check_history $(BUILD)/history/history_client
# entry points for libFuzzer, each also linked with a main() that replays inputs
FUZZ_SOURCES = $(wildcard test/fuzz/fuzz_*.c)
FUZZ_OBJS = $(patsubst test/fuzz/%.c,$(BUILD)/fuzz/%.o,$(wildcard test/fuzz/*.c))
FUZZ_SHARED = $(filter-out $(BUILD)/fuzz/fuzz_% $(BUILD)/fuzz/replay.o,$(FUZZ_OBJS))
FUZZ_REPLAYS = $(patsubst test/fuzz/%.c,$(BUILD)/unit/%,$(FUZZ_SOURCES))
SIM_OBJS = $(patsubst test/sim/%.c,$(BUILD)/sim/%.o,$(wildcard test/sim/*.c))
SIM = $(if $(SIM_OBJS),$(BUILD)/sim/pgraft_sim)
# a client that tests, demo and benchmarks share, and that of the torture test
WRITER = $(BUILD)/bench/writer
TORTURE_CLIENT = $(BUILD)/torture/torture_client
# libraries that tests load into servers
PRELOADS = $(patsubst test/preload/%.c,$(BUILD)/preload/%.so,$(wildcard test/preload/*.c))
PROGRAMS = $(patsubst src/bin/%.c,$(BUILD)/bin/%,$(wildcard src/bin/*.c)) $(BUILD)/bin/pgraftctl
CTL_OBJS = $(patsubst src/bin/%.c,$(BUILD)/ctl/%.o,$(wildcard src/bin/pgraftctl/*.c))

# pg_regress, in this order: what must be tried before pgraft_init() comes first
REGRESS = $(shell cat sql/schedule 2>/dev/null || \
	for f in sql/*.sql; do [ -e "$$f" ] && basename "$$f" .sql; done)
# scripts/run-tests starts an instance of its own, with pgraft preloaded and
# not as root, so the recipe of PGXS cannot be used
NO_INSTALLCHECK = 1

EXTRA_CLEAN = build libpgraft_raft.a libpgraft_front.a tmp_check log results \
	regression.diffs regression.out

.DEFAULT_GOAL := all

# ----------------------------------------------------------------
# Targets that need no PostgreSQL yet
# ----------------------------------------------------------------

.PHONY: help deps test demo lint coverage test-sanitize test-matrix
help:
	@sed -n 's/^#: //p' Makefile

#: make                 build the extension, pgraft_waldump and the libraries
#: make install         install into the PostgreSQL of PG_CONFIG
#: make installcheck    pg_regress on a temporary instance of that installation
#: make test            everything: unit, simulator, pg_regress, TAP clusters
#: make demo            three servers, kill -9 of the leader, what happened
#: make unit            unit tests of engine, storage, network
#: make sim SEEDS=N     N simulator seeds, beginning with FIRST
#: make sim-mutants     deliberate bugs, each of which the simulator must catch
#: make raft-mutants    deliberate bugs that the engine's unit tests must catch
#: make ha-mutants      the same for the cluster document and its model test
#: make tap             TAP cluster tests alone; TAP="t/001*.pl" for some
#: make fuzz            libFuzzer on each target of test/fuzz; FUZZ_SECONDS=60
#: make fuzz-replay     the inputs of test/fuzz/corpus alone, without libFuzzer
#: make torture MINUTES=N  faults without end on an HA cluster, nothing lost; SEED=N SERVERS=3
#: make examples        the engine embedded in another program
#: make lint            compilers with -Werror, cppcheck, style rules
#: make test-sanitize   unit tests and simulator under ASan and UBSan
#: make coverage        line coverage of unit tests and simulator
#: make test-matrix     make test for every PostgreSQL found on this machine
#: make bench           benchmarks (bench/README.md)
#: make clean           remove everything that was built

deps:
	@PG_CONFIG="$(PG_CONFIG)" scripts/install-deps

test: deps
	@$(MAKE) --no-print-directory PG_CONFIG="$(PG_CONFIG)" test-run

demo: deps
	@$(MAKE) --no-print-directory -s -j$$(nproc) PG_CONFIG="$(PG_CONFIG)" demo-run

lint:
	@PG_CONFIG="$(PG_CONFIG)" scripts/install-deps lint
	@PG_CONFIG="$(PG_CONFIG)" scripts/lint

test-matrix: deps
	@scripts/test-matrix

ifneq ($(wildcard $(PGXS)),)

# ----------------------------------------------------------------
# The extension
# ----------------------------------------------------------------

# a directory given both ways counts as a system directory: our warning flags
# are for our code, not for PostgreSQL's headers
PG_CPPFLAGS = -Iinclude -isystem $(shell $(PG_CONFIG) --includedir-server) \
	-isystem $(shell $(PG_CONFIG) --includedir)/internal -MMD -MP
PG_CFLAGS = $(WARNINGS) $(EXTRA_CFLAGS)
SHLIB_LINK = $(RAFT_LIB) -lssl -lcrypto -lpthread
SHLIB_PREREQS = $(RAFT_LIB)
ifeq ($(shell uname -s),Linux)
SHLIB_LINK += -Wl,--version-script=$(EXPORTS)
SHLIB_PREREQS += $(EXPORTS)
endif

# no bitcode: nothing in here is worth inlining into a query
override with_llvm = no
include $(PGXS)

all: $(PROGRAMS)

MAKEDIR = mkdir -p $(@D)

$(BUILD)/server/%.o: src/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(CPPFLAGS) -c -o $@ $<

# exactly what PostgreSQL looks up by name; everything else stays inside
$(EXPORTS): $(SERVER_SOURCES) scripts/make-exports
	@$(MAKEDIR)
	scripts/make-exports $(SERVER_SOURCES) >$@.tmp
	@if cmp -s $@.tmp $@; then rm $@.tmp; touch $@; else mv $@.tmp $@; fi

$(BUILD)/raft/%.o: src/raft/%.c
	@$(MAKEDIR)
	$(CC) $(RAFT_CFLAGS) $(EXTRA_CFLAGS) -Iinclude -MMD -MP -c -o $@ $<

$(RAFT_LIB): $(RAFT_OBJS)
	@$(MAKEDIR)
	@rm -f $@
	$(AR) rcs $@ $^

# ----------------------------------------------------------------
# Storage and network for command line tools and tests
# ----------------------------------------------------------------

FRONT_CPPFLAGS = -DFRONTEND $(CPPFLAGS)
# libpgcommon and libpgport lie in one of the two
FRONT_LIBS = -L$(pkglibdir) -L$(libdir) -lpgcommon -lpgport -lssl -lcrypto -lpthread -lm

$(BUILD)/front/%.o: src/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) -fPIC $(FRONT_CPPFLAGS) -c -o $@ $<

$(FRONT_LIB): $(FRONT_OBJS)
	@$(MAKEDIR)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/bin/%: src/bin/%.c $(FRONT_LIB) $(RAFT_LIB)
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -o $@ $< $(FRONT_LIB) $(RAFT_LIB) $(LDFLAGS) $(FRONT_LIBS)

$(BUILD)/ctl/%.o: src/bin/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -I$(includedir) -c -o $@ $<

$(BUILD)/bin/pgraftctl: $(CTL_OBJS)
	@$(MAKEDIR)
	$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS) -L$(pkglibdir) -lpgfeutils $(libpq_pgport) $(FRONT_LIBS)

.PHONY: install-programs uninstall-programs
install: install-programs
install-programs: $(PROGRAMS)
	$(MKDIR_P) '$(DESTDIR)$(bindir)'
	$(if $(PROGRAMS),$(INSTALL_PROGRAM) $(PROGRAMS) '$(DESTDIR)$(bindir)')

uninstall: uninstall-programs
uninstall-programs:
	rm -f $(PROGRAMS:$(BUILD)/bin/%='$(DESTDIR)$(bindir)/%')

# ----------------------------------------------------------------
# Tests
# ----------------------------------------------------------------

$(BUILD)/unit/%.o: test/unit/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) -Itest/unit -Itest/history $(FRONT_CPPFLAGS) -c -o $@ $<

$(BUILD)/history/%.o: test/history/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) -fPIC $(FRONT_CPPFLAGS) -c -o $@ $<

$(BUILD)/history/check_history: $(BUILD)/history/check_history.o $(HISTORY_OBJS)
	$(CC) $(CFLAGS) -o $@ $^ $(LDFLAGS)

$(BUILD)/history/history_client: test/history/client.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -I$(includedir) -o $@ $< $(LDFLAGS) $(libpq_pgport) $(FRONT_LIBS)

$(UNIT_LIB): $(UNIT_HELPERS) $(HISTORY_OBJS)
	@$(MAKEDIR)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/unit/test_%: $(BUILD)/unit/test_%.o $(UNIT_LIB) $(FRONT_LIB) $(RAFT_LIB)
	$(CC) $(CFLAGS) -o $@ $< $(UNIT_LIB) $(FRONT_LIB) $(RAFT_LIB) $(LDFLAGS) $(FRONT_LIBS)

$(BUILD)/sim/%.o: test/sim/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) -Itest/sim -Itest/history $(FRONT_CPPFLAGS) -c -o $@ $<

$(BUILD)/sim/pgraft_sim: $(SIM_OBJS) $(HISTORY_OBJS) $(FRONT_LIB) $(RAFT_LIB)
	$(CC) $(CFLAGS) -o $@ $(SIM_OBJS) $(HISTORY_OBJS) $(FRONT_LIB) $(RAFT_LIB) $(LDFLAGS) $(FRONT_LIBS)

$(BUILD)/preload/%.so: test/preload/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) -fPIC -shared -o $@ $< -ldl

$(BUILD)/fuzz/%.o: test/fuzz/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) -Itest/fuzz -Itest/unit $(FRONT_CPPFLAGS) -c -o $@ $<

FUZZ_LINK = $(FUZZ_SHARED) $(UNIT_LIB) $(FRONT_LIB) $(RAFT_LIB)
$(BUILD)/unit/fuzz_%: $(BUILD)/fuzz/fuzz_%.o $(BUILD)/fuzz/replay.o $(FUZZ_LINK)
	$(CC) $(CFLAGS) -o $@ $< $(BUILD)/fuzz/replay.o $(FUZZ_LINK) $(LDFLAGS) $(FRONT_LIBS)

$(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/fuzz_%.o $(FUZZ_LINK)
	$(CC) $(CFLAGS) -fsanitize=fuzzer -o $@ $< $(FUZZ_LINK) $(FRONT_LIBS)

.SECONDARY: $(UNIT_TESTS:=.o) $(FUZZ_OBJS)

.PHONY: build-tests unit fuzz-replay sim installcheck tap torture test-run demo-run bench bench-programs
build-tests: all examples $(UNIT_TESTS) $(FUZZ_REPLAYS) $(SIM) $(WRITER) $(PRELOADS) $(HISTORY_CHECK) $(TORTURE_CLIENT)

RUN_TESTS = PG_CONFIG="$(PG_CONFIG)" BUILD="$(BUILD)" REGRESS="$(REGRESS)" TAP="$(TAP)" \
	scripts/run-tests --seeds $(SEEDS) --first $(FIRST)

unit: examples $(UNIT_TESTS) $(FUZZ_REPLAYS)
	@$(RUN_TESTS) unit

fuzz-replay: $(FUZZ_REPLAYS)
	@$(RUN_TESTS) fuzz-replay

sim: $(SIM)
	@$(RUN_TESTS) sim

.PHONY: sim-mutants
sim-mutants:
	@test/sim/mutants.sh

.PHONY: raft-mutants
raft-mutants:
	@test/unit/raft_mutants.sh

.PHONY: ha-mutants
ha-mutants:
	@PG_CONFIG="$(PG_CONFIG)" test/unit/ha_mutants.sh

installcheck:
	@$(RUN_TESTS) --installed regress

tap: all $(WRITER) $(PRELOADS) $(HISTORY_CHECK) $(TORTURE_CLIENT)
	@$(RUN_TESTS) tap

torture: all $(WRITER) $(HISTORY_CHECK) $(TORTURE_CLIENT)
	@PG_CONFIG="$(PG_CONFIG)" MINUTES="$(MINUTES)" scripts/torture

test-run:
	@$(MAKE) --no-print-directory -s -j$$(nproc) build-tests
	@$(RUN_TESTS) --fresh $(FRESH) unit sim regress tap

demo-run: all $(WRITER)
	@PG_CONFIG="$(PG_CONFIG)" scripts/demo

$(BUILD)/bench/lib/%.o: bench/lib/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -I$(includedir) -c -o $@ $<

PATIENT = $(BUILD)/bench/lib/patient.o
$(WRITER): bench/writer.c $(PATIENT)
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -I$(includedir) -o $@ $< $(PATIENT) $(LDFLAGS) $(libpq_pgport) $(FRONT_LIBS)

$(TORTURE_CLIENT): test/torture/torture_client.c $(PATIENT)
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -Ibench/lib -I$(includedir) -o $@ $< $(PATIENT) $(LDFLAGS) $(libpq_pgport) $(FRONT_LIBS)

BENCH_PROGRAMS = $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
$(BUILD)/bench/%: bench/%.c
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -I$(includedir) -o $@ $< $(LDFLAGS) $(libpq_pgport) $(FRONT_LIBS)

# the log alone
$(BUILD)/bench/recovery: bench/recovery.c $(FRONT_LIB) $(RAFT_LIB)
	@$(MAKEDIR)
	$(CC) $(CFLAGS) $(FRONT_CPPFLAGS) -o $@ $< $(FRONT_LIB) $(RAFT_LIB) $(LDFLAGS) $(FRONT_LIBS)

# the engine alone: nothing of PostgreSQL is linked
$(BUILD)/bench/engine: bench/engine.c $(RAFT_LIB)
	@$(MAKEDIR)
	$(CC) -O2 -g $(WARNINGS) $(COPT) -Iinclude -MMD -MP -o $@ $< $(RAFT_LIB)

bench-programs: $(BENCH_PROGRAMS)

bench: all bench-programs
	@PG_CONFIG="$(PG_CONFIG)" bench/run

# ----------------------------------------------------------------
# Examples: as a stranger would build them
# ----------------------------------------------------------------

EXAMPLES = $(patsubst examples/%.c,$(BUILD)/examples/%,$(wildcard examples/*.c))
$(BUILD)/examples/%: examples/%.c $(RAFT_LIB)
	@$(MAKEDIR)
	$(CC) -std=c99 -g $(WARNINGS) $(COPT) $(EXTRA_CFLAGS) -Iinclude -MMD -MP -o $@ $< $(RAFT_LIB)

.PHONY: examples
examples: $(EXAMPLES)

# ----------------------------------------------------------------
# Instrumented builds
# ----------------------------------------------------------------

SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
test-sanitize:
	@$(MAKE) --no-print-directory BUILD=build/sanitize EXTRA_CFLAGS="$(SANITIZE)" sanitize-run
.PHONY: sanitize-run
sanitize-run: $(UNIT_TESTS) $(FUZZ_REPLAYS) $(SIM)
	@ASAN_OPTIONS=abort_on_error=0 $(RUN_TESTS) --slow 4 unit sim

# assertions on, and the compiler's own flags: those of PG_CONFIG may be gcc's
fuzz:
	@PG_CONFIG="$(PG_CONFIG)" scripts/install-deps fuzz
	@$(MAKE) --no-print-directory -s BUILD=build/fuzz CC=clang \
		CFLAGS="-g -O1 -fno-strict-aliasing -fwrapv -fno-omit-frame-pointer $(FUZZ_SANITIZE)" \
		EXTRA_CFLAGS="$(FUZZ_SANITIZE) -DUSE_ASSERT_CHECKING=1" fuzz-run
FUZZ_SANITIZE = -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
.PHONY: fuzz fuzz-run
fuzz-run: $(patsubst test/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SOURCES))
	@scripts/fuzz $(BUILD)/fuzz $(FUZZ_SECONDS) $(FUZZ)

coverage:
	@$(MAKE) --no-print-directory BUILD=build/coverage EXTRA_CFLAGS="--coverage -O0" coverage-run
.PHONY: coverage-run
coverage-run: $(UNIT_TESTS) $(FUZZ_REPLAYS) $(SIM)
	@find $(BUILD) -name '*.gcda' -delete
	@$(RUN_TESTS) unit sim
	@scripts/coverage-report $(BUILD)

-include $(OBJS:.o=.d) $(RAFT_OBJS:.o=.d) $(FRONT_OBJS:.o=.d) $(UNIT_HELPERS:.o=.d) \
	$(UNIT_TESTS:=.d) $(FUZZ_OBJS:.o=.d) $(HISTORY_OBJS:.o=.d) $(SIM_OBJS:.o=.d) $(PROGRAMS:=.d) $(CTL_OBJS:.o=.d) $(BENCH_PROGRAMS:=.d) $(PATIENT:.o=.d) $(TORTURE_CLIENT:=.d) $(EXAMPLES:=.d)

else

# ----------------------------------------------------------------
# No PostgreSQL found: say so, instead of failing in the middle
# ----------------------------------------------------------------

.PHONY: all install installcheck unit sim tap torture test-run demo-run bench clean
all install installcheck unit sim tap torture test-run demo-run bench coverage test-sanitize:
	@echo "\"$(PG_CONFIG)\" gives no PGXS makefile: install the PostgreSQL server development" >&2
	@echo "package (scripts/install-deps does on Debian) or set PG_CONFIG." >&2
	@exit 1

clean:
	rm -rf $(EXTRA_CLEAN) pgraft.so

endif
