# Build, run and test the DIEN scoring server. `make help` lists the targets.
#
# Every build lives in a directory of its own, BUILD; the tests use build/release, build/clang, build/asan, build/tsan,
# build/fuzz and build/aarch64, which are the same rules run with other flags.
BUILD ?= build/release
PYTHON ?= /usr/bin/python3
ifeq ($(origin CC),default)
  CC := gcc
endif
JOBS ?= $(shell nproc)
LISTEN ?= 127.0.0.1:8080
MODEL ?= model/demo
IMAGE ?= dien-server

WARNINGS := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
            -Wcast-qual -Wpointer-arith -Wundef -Wvla
OPTIMISE ?= $(if $(SANITIZE),-O1,-O3)
# No -ffast-math and no contraction: a score has the same bits in every build of one instruction set.
# OpenBLAS without threads of its own. Where the pthread build is installed as well, the links in the usual directories
# lead to that one, so the serial build's own directories are named, for the loader (rpath) too.
MULTIARCH := $(subst -pc-,-,$(shell $(CC) -dumpmachine))
CC_SYSROOT := $(patsubst --sysroot=%,%,$(filter --sysroot=%,$(CC)))
OPENBLAS := $(MULTIARCH)/openblas-serial
CFLAGS_ALL := -std=c17 -D_GNU_SOURCE -I. -isystem $(BUILD)/generated -isystem $(CC_SYSROOT)/usr/include/$(OPENBLAS) $(OPTIMISE) -g -fno-math-errno -ffp-contract=off -fno-omit-frame-pointer \
              -fstack-protector-strong -fPIE -pthread $(WARNINGS) $(CFLAGS)
LDFLAGS_ALL := -pie -pthread -Wl,-z,relro,-z,now $(LDFLAGS)
LIBS := -lmicrohttpd -ljansson -lprotobuf-c -luv -lz -llmdb -lhiredis -lcrypto -lzstd -L$(CC_SYSROOT)/usr/lib/$(OPENBLAS) -Wl,-rpath,/usr/lib/$(OPENBLAS) -lopenblas -lm
ifdef SANITIZE
  CFLAGS_ALL += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all
  LDFLAGS_ALL += -fsanitize=$(SANITIZE)
else
  CFLAGS_ALL += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif

MODEL_C := $(wildcard model/*.c model/*/*.c)
PROTO_C := $(wildcard proto/*.c)
SERVER_C := $(filter-out server/main.c,$(wildcard server/*.c server/*/*.c))
UNIT_C := $(wildcard tests/unit/test_*.c)
FUZZ_C := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_C := $(wildcard tests/bench/*.c)
C_FILES := $(wildcard model/*.[ch] model/*/*.[ch] proto/*.[ch] server/*.[ch] server/*/*.[ch] tests/*/*.[ch])
objects = $(patsubst %.c,$(BUILD)/%.o,$(1))
# The messages of proto/*.proto, in C.
MESSAGES := $(patsubst %.proto,$(BUILD)/generated/%,$(wildcard proto/*.proto))
LIBRARY_O := $(call objects,$(MODEL_C) $(PROTO_C) $(SERVER_C)) $(addsuffix .pb-c.o,$(MESSAGES))
MAIN_O := $(call objects,server/main.c)
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(UNIT_C))
FUZZ := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_C))
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(BENCH_C))
DEPENDENCIES := $(patsubst %.o,%.d,$(LIBRARY_O) $(MAIN_O) $(call objects,$(UNIT_C) $(FUZZ_C) $(BENCH_C)))

# Debian 12's packages: to build and run; for `make test`; for `make check`.
DEMO_PACKAGES := build-essential pkg-config libmicrohttpd-dev libjansson-dev libprotobuf-c-dev protobuf-c-compiler libuv1-dev libopenblas-serial-dev libxxhash-dev zlib1g-dev liblmdb-dev libhiredis-dev libssl-dev libzstd-dev python3 curl
TEST_PACKAGES := $(DEMO_PACKAGES) libcmocka-dev redis-server protobuf-compiler python3-protobuf python3-numpy python3-pytest python3-pytest-xdist python3-torch python3-httpx
CHECK_PACKAGES := $(TEST_PACKAGES) ca-certificates systemd groff-base debhelper dpkg-dev clang clang-format clang-tidy libclang-rt-14-dev valgrind wrk python3-tqdm python3-zstandard python3-matplotlib haproxy nginx-light strace \
                  mypy flake8 python3-jsonschema python3-yaml libprotobuf-dev python3-venv python3-pip python3-setuptools python3-wheel python3-h5py python3-plyvel python3-snappy python3-crcmod python3-pandas
# Tools that the tests call, kept in the build tree.
TOOLS := build/tools
# To build for AArch64 and to run what was built: a compiler, an emulator, and that architecture's libraries under
# SYSROOT. On such a machine the release build is the same.
ifneq ($(shell uname -m),aarch64)
  CROSS_BUILD := aarch64
  CROSS_PACKAGES := gcc-aarch64-linux-gnu qemu-user
endif
SYSROOT := $(TOOLS)/aarch64
SYSROOT_PACKAGES := libc6-dev libgcc-s1 libmicrohttpd-dev libjansson-dev libprotobuf-c-dev libuv1-dev libxxhash-dev zlib1g-dev liblmdb-dev libhiredis-dev libssl-dev libzstd-dev libopenblas-serial-dev \
                    libcmocka-dev
# A validator, a linter, and types for TypeScript; versions that run on Debian 12's Node.js 18.
OPENAPI_TOOLS := @seriousme/openapi-schema-validator@2.11.0 @redocly/cli@1.34.5 openapi-typescript@7.13.0 typescript@5.9.3
# Schemas of Kubernetes, and of Envoy (which gRPC's package has).
DEPLOY_TOOLS := kubernetes-models@5.1.0 js-yaml@5.5.0 @grpc/grpc-js-xds@1.14.1
ONNXRUNTIME := $(TOOLS)/node_modules/onnxruntime-node

# An option and its value in one word: pytest takes a value of its own for a path, before it knows the options.
PYTEST = $(PYTHON) -m pytest --build-root=build -n $(JOBS) --dist loadgroup
comma := ,
SANITIZERS := address,undefined,float-cast-overflow

# V=1 shows whole commands.
quiet = $(if $(V),,@echo '  $(1)  $@';)

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.PHONY: help build models unit fuzzers demo run test check bench bench-programs bench-load bench-kernels bench-policies \
        bench-memory bench-training bench-wire bench-exponentials bench-peers bench-sweep bench-split bench-precision bench-server bench-figures bench-before-after bench-log bench-goodput bench-reload \
        image image-test deps deps-demo deps-test tools compile-commands mutation \
        builds bench-tested format fuzz clean FORCE

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

build: $(BUILD)/dien-server ## the server, in build/release

demo: deps-demo ## install what is missing, build, score one shopper's session, print the ranking
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	@$(PYTHON) deploy/demo.py --server $(BUILD)/dien-server --model model/demo

.PHONY: fleet
fleet: deps-fleet fleet-prometheus ## three servers, HAProxy, Redis and Prometheus; faults under load, SECONDS (10) each; a table (2 minutes)
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	$(PYTHON) deploy/fleet.py --build $(BUILD) --seconds $(or $(SECONDS),10)

run: deps-demo ## serve MODEL (model/demo) on LISTEN (127.0.0.1:8080) until interrupted
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	exec $(BUILD)/dien-server --model $(MODEL) --listen $(LISTEN)

test: deps-test ## the release build: unit, golden, end to end (3 minutes on 2 processors)
	@$(MAKE) --no-print-directory -j$(JOBS) build-test models
	$(PYTEST) --builds=release -m "not check_only" tests/unit tests/e2e

check: deps tools ## all tests: also clang, sanitizers, AArch64, static, export, OpenAPI, fuzz inputs, image (an hour)
	@set -e; began=$$(date +%s); lap() { now=$$(date +%s); echo "$$1: $$((now - began)) s"; began=$$now; }; \
	for build in $(CHECKED_BUILDS); do $(MAKE) --no-print-directory -j$(JOBS) build-$$build; lap "build $$build"; done; \
	$(MAKE) --no-print-directory models; lap models; \
	rm -f build/closing-line; status=0; $(PYTEST) --closing-line=build/closing-line --builds=release,clang,asan,tsan$(addprefix $(comma),$(CROSS_BUILD)) tests || status=$$?; exit $$status

# For clangd and other tools: how each file is compiled. `make -n` says it, whatever is built.
compile-commands: $(addsuffix .pb-c.h,$(MESSAGES)) $(BUILD)/generated/proto/openapi.json.h ## build/compile_commands.json, for clangd
	@$(MAKE) --no-print-directory -n -B V=1 build unit bench-programs | $(PYTHON) tests/support/compile_commands.py > build/compile_commands.json

mutation: deps-test ## change one line after another; the tests must see each (75 minutes, resumable; tests/mutation/README.md)
	@$(MAKE) --no-print-directory -j$(JOBS) build-test models
	$(PYTHON) tests/mutation/mutation.py --jobs $(JOBS) --output build/mutation

bench: bench-kernels bench-peers bench-server bench-sweep bench-wire bench-split bench-load bench-figures ## these; tables, CSV in tests/bench/results (15 minutes; tests/bench/README.md)

bench-load: deps-bench ## 60 s of closed-loop load on the demo model
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	$(PYTHON) tests/bench/load.py --server $(BUILD)/dien-server --model $(MODEL)

bench-kernels: deps ## every set of kernels on the reference shape, beside the machine's measured peak
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/kernels
	@$(PYTHON) tests/bench/reference_shape.py --output build/bench/reference-shape
	$(PYTHON) tests/bench/record.py kernels $(BUILD)/bench/kernels build/bench/reference-shape

bench-policies: deps ## hit ratios of the cache of user states, by simulation (10 minutes)
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/policies
	$(PYTHON) tests/bench/record.py policies $(BUILD)/bench/policies

bench-training: deps ## 10 million synthetic clicks of a million items through a recipe: speed and memory (20 minutes)
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/dien-server
	nice -n 10 $(PYTHON) tests/bench/record.py training $(PYTHON) tests/bench/training.py

bench-memory: deps ## a million users' states in half the memory, then SECONDS (600) of users that come and go
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/million
	@$(PYTHON) tests/bench/reference_shape.py --output build/bench/reference-shape
	$(PYTHON) tests/bench/record.py million $(BUILD)/bench/million build/bench/reference-shape --seconds $(or $(SECONDS),600)

bench-wire: deps ## decode, resolve, rank and encode beside the scoring call, on the reference shape
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/wire
	@$(PYTHON) tests/bench/reference_shape.py --output build/bench/reference-shape
	$(PYTHON) tests/bench/record.py wire $(BUILD)/bench/wire build/bench/reference-shape

bench-exponentials: deps ## the exponential and what is built of it against double, over all floats (20 minutes)
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/exponentials
	$(PYTHON) tests/bench/record.py exponentials $(BUILD)/bench/exponentials

bench-peers: deps-bench $(ONNXRUNTIME) ## one request on one thread beside ONNX Runtime and PyTorch
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/library
	@$(PYTHON) tests/bench/reference_shape.py --output build/bench/reference-shape
	@$(PYTHON) tests/bench/peers.py --export
	$(PYTHON) tests/bench/peers.py --library $(BUILD)/bench/library

bench-sweep: deps-bench ## how time grows with candidates, behaviours and hidden units; edges of lanes; the paper's shape (1 minute)
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/library
	@$(PYTHON) tests/bench/sweep.py --export
	$(PYTHON) tests/bench/sweep.py --library $(BUILD)/bench/library

bench-split: deps-bench ## large requests among scoring threads, small ones beside them
	@$(MAKE) --no-print-directory -s -j$(JOBS) build
	$(PYTHON) tests/bench/split.py --server $(BUILD)/dien-server

bench-precision: deps-bench ## what reduced precision changes and saves; the demo model on the sessions in DATA, UCI data set 553
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(BUILD)/bench/precision
	$(PYTHON) tests/bench/precision.py --tool $(BUILD)/bench/precision $(if $(DATA),--data $(DATA))

bench-server: bench-peers ## the server over HTTP, closed and open loop, beside one around ONNX Runtime
	@$(MAKE) --no-print-directory -s -j$(JOBS) build $(BUILD)/bench/openloop
	$(PYTHON) tests/bench/server.py --server $(BUILD)/dien-server --openloop $(BUILD)/bench/openloop
	$(PYTHON) tests/bench/server.py --server $(BUILD)/dien-server --openloop $(BUILD)/bench/openloop \
	  --servers dien --kinds cached --server-options "--queue 16" --connections 8

bench-before-after: deps-bench ## this tree beside BEFORE, the directory of another built tree (10 minutes)
	@$(MAKE) --no-print-directory -s -j$(JOBS) build $(addprefix $(BUILD)/bench/,library wire)
	@$(PYTHON) tests/bench/reference_shape.py --output build/bench/reference-shape
	$(PYTHON) tests/bench/before_after.py --before $(BEFORE)

bench-log: deps-bench ## what the access log costs, in pairs with and without it; lines dropped at twice the rate (2 minutes)
	@$(MAKE) --no-print-directory -s -j$(JOBS) build $(BUILD)/bench/access_lines
	@$(PYTHON) tests/bench/reference_shape.py --output build/bench/reference-shape
	$(PYTHON) tests/bench/access_log.py --build $(BUILD)

.PHONY: bench-histories
bench-histories: deps-bench ## a history store of a million users, LMDB and Redis; the server with and without (10 minutes)
	@$(call install,redis-server)
	@$(MAKE) --no-print-directory -s -j$(JOBS) build $(BUILD)/bench/histories
	@$(PYTHON) tests/bench/reference_shape.py --output build/bench/reference-shape
	$(PYTHON) tests/bench/histories.py --build $(BUILD) $(if $(PARTS),--parts $(PARTS))

bench-reload: deps-bench ## twenty reloads of a model with 1 GB of tables under load: the tail around each, and memory (6 minutes)
	@$(MAKE) --no-print-directory -s -j$(JOBS) build $(BUILD)/bench/openloop
	$(PYTHON) tests/bench/reload.py

bench-figures: ## draw the figures from the CSV
	$(PYTHON) tests/bench/figures.py

.PHONY: bench-attacks soak
bench-attacks: deps-bench ## a steady client beside each attack, and nginx under the same clients (14 minutes)
	@$(call install,nginx-light)
	@$(MAKE) --no-print-directory -s -j$(JOBS) build $(BUILD)/bench/attack
	$(PYTHON) tests/bench/attacks.py --server $(BUILD)/dien-server --attack $(BUILD)/bench/attack $(if $(SECONDS),--seconds $(SECONDS))

soak: deps ## SECONDS (600) of all attacks beside steady load, on the release build and on ASan's
	@$(MAKE) --no-print-directory -j$(JOBS) build-release
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/asan CC=clang SANITIZE=$(SANITIZERS) build
	@set -e; for build in release asan; do $(PYTHON) tests/faults/soak.py --build build/$$build --seconds $(or $(SECONDS),600); done

# Where packages put the server. UNITDIR is systemd's; PREFIX and DESTDIR are those of other Makefiles.
PREFIX ?= /usr/local
UNITDIR ?= $(PREFIX)/lib/systemd/system
DATADIR = $(PREFIX)/share/dien-server
DOCDIR = $(PREFIX)/share/doc/dien-server
MANUAL = $(PREFIX)/share/man/man8/dien-server.8
VERSION = $(shell sed -n 's/.*SERVER_VERSION "\(.*\)".*/\1/p' server/base/version.h)

.PHONY: install uninstall deb debian-changelog
install: $(BUILD)/dien-server $(BUILD)/dien-server.8 ## the server, its manual page, systemd unit and demo model below DESTDIR/PREFIX (/usr/local)
	install -D -m 755 $(BUILD)/dien-server $(DESTDIR)$(PREFIX)/bin/dien-server
	install -D -m 644 $(BUILD)/dien-server.8 $(DESTDIR)$(MANUAL)
	install -D -m 644 -t $(DESTDIR)$(DOCDIR) LICENSE CHANGELOG.md
	install -D -m 644 -t $(DESTDIR)$(DATADIR)/demo model/demo/*
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|@BINDIR@|$(PREFIX)/bin|; s|@DATADIR@|$(DATADIR)|' deploy/systemd/dien-server.service > $(DESTDIR)$(UNITDIR)/dien-server.service
	chmod 644 $(DESTDIR)$(UNITDIR)/dien-server.service

uninstall: ## what `make install` has put there
	rm -f $(DESTDIR)$(PREFIX)/bin/dien-server $(DESTDIR)$(MANUAL) $(DESTDIR)$(UNITDIR)/dien-server.service
	rm -rf $(DESTDIR)$(DATADIR) $(DESTDIR)$(DOCDIR)

$(BUILD)/dien-server.8: $(BUILD)/dien-server deploy/man.awk
	$(BUILD)/dien-server --help | awk -v version=$(VERSION) -f deploy/man.awk > $@

# One entry: CHANGELOG.md has the changes. The date is that of the last commit, so that a package can be built again.
debian-changelog:
	@printf 'dien-server (%s) unstable; urgency=medium\n\n  * See /usr/share/doc/dien-server/CHANGELOG.md.\n\n -- %s  %s\n' \
	  '$(VERSION)' "$$(sed -n 's/^Maintainer: //p' deploy/debian/control)" "$$(git log -1 --format=%cD 2>/dev/null || date -R)"

deb: ## a Debian package in build/deb, from deploy/debian
	@$(call install,$(DEMO_PACKAGES) debhelper dpkg-dev)
	rm -rf build/deb && mkdir -p build/deb/source
	cp -r Makefile LICENSE CHANGELOG.md model proto server deploy build/deb/source
	cp -r deploy/debian build/deb/source/debian && rm build/deb/source/debian/README.md
	@$(MAKE) --no-print-directory -s debian-changelog > build/deb/source/debian/changelog
	cd build/deb/source && dpkg-buildpackage -us -uc -b
	rm -rf build/deb/source

image: ## the container image, with buildah, podman or docker
	tests/image/build.sh $(IMAGE)

image-test: ## build the image with buildah on a debootstrapped base, run it without an engine, post a request
	tests/image/test.sh $(IMAGE)

format: ## rewrite the C files as .clang-format says
	clang-format -i $(C_FILES)

FUZZ_SECONDS ?= 60
fuzz: deps ## FUZZ_SECONDS (60) of libFuzzer for each target; new inputs go to build/fuzz/corpus
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/fuzz CC=clang SANITIZE=fuzzer-no-link,$(SANITIZERS) fuzzers
	@set -e; for target in $(patsubst tests/fuzz/fuzz_%.c,%,$(FUZZ_C)); do mkdir -p build/fuzz/corpus/$$target build/fuzz/crashes; \
	  dictionary=tests/fuzz/$$target.dict; [ ! -f $$dictionary ] || set -- -dict=$$dictionary; \
	  build/fuzz/fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 "$$@" \
	    -artifact_prefix=build/fuzz/crashes/$$target- build/fuzz/corpus/$$target tests/fuzz/$$target; set --; done

clean: ## remove everything that was built
	rm -rf build

# ---- builds

# Programs of tests/bench that are tested on each build.
BENCH_TESTED = $(addprefix $(BUILD)/bench/,policies million)
unit: $(UNIT)
bench-programs: $(BENCH)
bench-tested: $(BENCH_TESTED)
fuzzers: $(FUZZ)

CHECKED_BUILDS := release clang asan tsan fuzz $(CROSS_BUILD)
builds: $(addprefix build-,$(CHECKED_BUILDS))
.PHONY: build-test build-release build-clang build-asan build-tsan build-fuzz build-aarch64
build-test:
	@$(MAKE) --no-print-directory BUILD=build/release build unit
build-release:
	@$(MAKE) --no-print-directory BUILD=build/release build unit bench-programs
build-clang:
	@$(MAKE) --no-print-directory BUILD=build/clang CC=clang build unit bench-programs
# By clang: gcc 12 does not align what detect_stack_use_after_return moves off the stack (gcc bug 110027), and vectors need it.
build-asan:
	@$(MAKE) --no-print-directory BUILD=build/asan CC=clang SANITIZE=$(SANITIZERS) build unit bench-tested
build-tsan:
	@$(MAKE) --no-print-directory BUILD=build/tsan SANITIZE=thread build unit bench-tested
build-fuzz:
	@$(MAKE) --no-print-directory BUILD=build/fuzz CC=clang SANITIZE=fuzzer-no-link,$(SANITIZERS) fuzzers
# The server and the tests of what differs between instruction sets; these run in an emulator.
build-aarch64: $(SYSROOT)/.complete
	@$(MAKE) --no-print-directory BUILD=build/aarch64 CC='aarch64-linux-gnu-gcc --sysroot=$(SYSROOT)' build \
	  $(addprefix build/aarch64/unit/,test_kernels test_exponentials test_reduced test_model) build/aarch64/bench/kernels

# Random models over all of FORMAT.md, with PyTorch's scores: for the unit tests of model/ and for tests/e2e.
MODELS := build/models
MODEL_COUNT := 36
models: $(MODELS)/.made ## random models for the tests, in build/models
$(MODELS)/.made: tests/support/random_models.py $(wildcard tests/export/random_model.py model/export/dien/model/*.py)
	$(PYTHON) tests/support/random_models.py --count $(MODEL_COUNT) --output $(MODELS)
	@touch $@

$(BUILD)/dien-server: $(MAIN_O) $(LIBRARY_O) $(BUILD)/link-command
	$(call quiet,LINK)$(CC) $(LDFLAGS_ALL) -o $@ $(MAIN_O) $(LIBRARY_O) $(LIBS)

$(BUILD)/unit/%: $(BUILD)/tests/unit/%.o $(LIBRARY_O) $(BUILD)/link-command
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS_ALL) $(LINK_HERE) -o $@ $< $(LIBRARY_O) $(LIBS) -lcmocka
# Its own functions stand in the place of these.
$(BUILD)/unit/test_http_memory: LINK_HERE := -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc
$(BUILD)/unit/test_action_memory: LINK_HERE := $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc aligned_alloc)

$(BUILD)/bench/%: $(BUILD)/tests/bench/%.o $(LIBRARY_O) $(BUILD)/link-command
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS_ALL) -o $@ $< $(LIBRARY_O) $(LIBS)

$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(LIBRARY_O) $(BUILD)/link-command
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $< $(LIBRARY_O) $(LIBS) -lcmocka

# clang takes minutes to write AddressSanitizer's checks into the unrolled kernels: there they are calls, of the same checks.
ifneq (,$(and $(findstring clang,$(CC)),$(findstring address,$(SANITIZE))))
CFLAGS_KERNELS := -mllvm -asan-instrumentation-with-call-threshold=0
endif
$(BUILD)/model/kernels/%.o: CFLAGS_HERE := $(CFLAGS_KERNELS)
$(BUILD)/%.o: %.c $(BUILD)/compile-command
	@mkdir -p $(@D)
	$(call quiet,CC  )$(CC) $(CFLAGS_ALL) $(CFLAGS_HERE) -MMD -MP -c -o $@ $<

# With bytes for strings, which are the same on the wire: their length is then told (proto/protobuf.c). And with a oneof
# for what is optional, the same again: protobuf-c 1.4 knows no other way to tell that a member is there.
$(BUILD)/generated/proto/%.pb-c.c $(BUILD)/generated/proto/%.pb-c.h &: proto/%.proto
	@mkdir -p $(@D)
	$(call quiet,GEN )sed -E -e 's/^( *(repeated )?)string /\1bytes /' \
	  -e 's/^( *)optional string (\w+) = (\w+);/\1oneof \2_there { bytes \2 = \3; }/' $< > $(@D)/$*.proto && \
	  protoc-c --proto_path=$(@D) --c_out=$(@D) $(@D)/$*.proto
.PRECIOUS: $(BUILD)/generated/proto/%.pb-c.c $(BUILD)/generated/proto/%.pb-c.h
$(BUILD)/proto/protobuf.o $(BUILD)/tests/unit/test_protobuf.o $(BUILD)/tests/bench/wire.o: $(BUILD)/generated/proto/score.pb-c.h
$(BUILD)/proto/history_record.o: $(BUILD)/generated/proto/history.pb-c.h
# The document that GET /openapi.json serves, as numbers for an array; it is ASCII. JSON's strings have no line ends, so
# line ends and indentation can go.
$(BUILD)/generated/proto/openapi.json.h: proto/openapi.json
	@mkdir -p $(@D)
	$(call quiet,GEN )sed 's/^ *//' $< | tr -d '\n' | od -An -v -tu1 | sed 's/  */,/g; s/^,//; s/$$/,/' > $@
$(BUILD)/server/api/openapi_page.o: $(BUILD)/generated/proto/openapi.json.h
# Generated: not ours to warn of.
$(BUILD)/generated/proto/%.pb-c.o: $(BUILD)/generated/proto/%.pb-c.c $(BUILD)/compile-command
	$(call quiet,CC  )$(CC) $(CFLAGS_ALL) -w -c -o $@ $<

# Other flags, another compiler or a file more or less: built again. The stamps change only when their text does.
$(BUILD)/compile-command: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS_ALL) $(CFLAGS_KERNELS)' | cmp -s - $@ || echo '$(CC) $(CFLAGS_ALL) $(CFLAGS_KERNELS)' > $@
$(BUILD)/link-command: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(LDFLAGS_ALL) $(LIBS) $(LIBRARY_O)' | cmp -s - $@ || echo '$(CC) $(LDFLAGS_ALL) $(LIBS) $(LIBRARY_O)' > $@

.PRECIOUS: $(BUILD)/%.o
-include $(DEPENDENCIES)

# ---- what must be installed

# $(call install,PACKAGES): nothing to do, and no network, when all are there.
define install
if command -v dpkg-query >/dev/null; then \
  have=" $$(dpkg-query -W -f='$${db:Status-Status}:$${Package} ' $(1) 2>/dev/null)"; missing=; \
  for package in $(1); do case "$$have" in *" installed:$$package "*) ;; *) missing="$$missing $$package" ;; esac; done; \
  if [ -n "$$missing" ]; then echo "installing$$missing"; \
    as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
    $$as_root apt-get update -qq && \
    $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi; \
else echo "not Debian: install these by their names here: $(1)"; fi
endef

deps-demo:
	@$(call install,$(DEMO_PACKAGES))

# Node.js often comes from elsewhere than Debian: looked for as a command.
NODE_PACKAGES = $(if $(shell command -v node),,nodejs) $(if $(shell command -v npm),,npm)

.PHONY: deps-fleet
deps-fleet:
	@$(call install,$(DEMO_PACKAGES) haproxy redis-server)

.PHONY: deps-bench
deps-bench:
	@$(call install,$(DEMO_PACKAGES) wrk protobuf-compiler python3-protobuf python3-numpy python3-torch python3-tqdm $(NODE_PACKAGES))

deps-test:
	@$(call install,$(TEST_PACKAGES))

# Clients of tests/clients in their languages.
CLIENT_PACKAGES := golang-go openjdk-17-jdk-headless python3-requests python3-aiohttp python3-httpx python3-h2
deps: ## Debian packages that the build and all tests need
	@$(call install,$(CHECK_PACKAGES) $(CLIENT_PACKAGES) $(CROSS_PACKAGES) $(NODE_PACKAGES))

# Prometheus and promtool without the daemon that their package would start; validators of OpenAPI documents; AArch64's libraries.
tools: $(if $(CROSS_BUILD),$(SYSROOT)/.complete) $(TOOLS)/prometheus $(TOOLS)/node_modules/openapi-typescript $(TOOLS)/node_modules/undici $(TOOLS)/node_modules/kubernetes-models

define fetch_prometheus
	@mkdir -p $(TOOLS)/prometheus-package
	cd $(TOOLS)/prometheus-package && (apt-get download -qq prometheus || (apt-get update -qq && apt-get download -qq prometheus)) && dpkg -x prometheus_*.deb .
	mv $(TOOLS)/prometheus-package/usr/bin/promtool $(TOOLS)/promtool
	mv $(TOOLS)/prometheus-package/usr/bin/prometheus $(TOOLS)/prometheus
	rm -r $(TOOLS)/prometheus-package
endef
$(TOOLS)/prometheus: | deps
	$(fetch_prometheus)
# The fleet needs no other tool, and so not the packages of all tests.
.PHONY: fleet-prometheus
fleet-prometheus:
	$(if $(wildcard $(TOOLS)/prometheus),,$(fetch_prometheus))

$(TOOLS)/node_modules/openapi-typescript: | deps
	@mkdir -p $(TOOLS)
	npm install --prefix $(TOOLS) --no-audit --no-fund --silent --ignore-scripts $(OPENAPI_TOOLS)
	@touch $@

$(TOOLS)/node_modules/kubernetes-models: | deps
	@mkdir -p $(TOOLS)
	npm install --prefix $(TOOLS) --no-audit --no-fund --silent --ignore-scripts $(DEPLOY_TOOLS)
	@touch $@

# A client of tests/clients: the one here that pipelines.
$(TOOLS)/node_modules/undici: | deps
	@mkdir -p $(TOOLS)
	npm install --prefix $(TOOLS) --no-audit --no-fund --silent undici@6.29.1
	@touch $@

# With its own record of what is installed (nothing) apt finds another architecture's packages and what they depend on,
# while the machine itself keeps its one architecture.
SYSROOT_APT = $(abspath $(TOOLS))/aarch64-apt
apt_aarch64 = apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State=$(SYSROOT_APT) \
              -o Dir::State::status=$(SYSROOT_APT)/status -o Dir::Cache=$(SYSROOT_APT) -o Debug::NoLocking=1
$(SYSROOT)-packages: FORCE
	@mkdir -p $(@D)
	@echo '$(SYSROOT_PACKAGES)' | cmp -s - $@ || echo '$(SYSROOT_PACKAGES)' > $@
$(SYSROOT)/.complete: $(SYSROOT)-packages | deps
	@rm -rf $(SYSROOT) $(SYSROOT_APT)
	@mkdir -p $(SYSROOT) $(SYSROOT_APT)/lists/partial $(SYSROOT_APT)/archives/partial
	@touch $(SYSROOT_APT)/status
	$(apt_aarch64) update
	$(apt_aarch64) install -y --no-install-recommends --download-only $(SYSROOT_PACKAGES) >/dev/null
	@for package in $(SYSROOT_APT)/archives/*.deb; do dpkg -x "$$package" $(SYSROOT) || exit 1; done
	@rm -rf $(SYSROOT_APT)
	@touch $@

# A peer of the benchmarks. Its own script would fetch libraries for graphics cards; those for the CPU are in the package.
$(ONNXRUNTIME): | deps-bench
	@mkdir -p $(TOOLS)
	npm install --prefix $(TOOLS) --no-audit --no-fund --silent --ignore-scripts onnxruntime-node@1.30.0
	@touch $@
