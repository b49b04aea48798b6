# wasd - build, test, install. `make help` lists the targets.
#
# One build tree per flavour: FLAVOUR=release (default, build/), asan, tsan, double, clang (build/FLAVOUR/).
# Sources are found by wildcard, so a new file needs no entry here.

FLAVOUR ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(FLAVOUR),clang)
CC := clang
endif
B := $(if $(filter release,$(FLAVOUR)),build,build/$(FLAVOUR))
O := $(B)/obj

WARN     := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wvla -Werror=implicit-function-declaration
CSTD     := -std=c11 -D_GNU_SOURCE
OPT      := -O3 -g -fno-math-errno
HARDEN   := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE
LDHARDEN := -pie -Wl,-z,relro,-z,now
ifeq ($(FLAVOUR),asan)
OPT    := -O1 -g -fno-omit-frame-pointer -fno-math-errno -fsanitize=address,undefined -fno-sanitize-recover=all -DWASD_SANITIZED
HARDEN := -fPIE
endif
ifeq ($(FLAVOUR),tsan)
OPT    := -O1 -g -fno-omit-frame-pointer -fno-math-errno -fsanitize=thread -DWASD_SANITIZED
HARDEN := -fPIE
endif
ifeq ($(FLAVOUR),double)
OPT    += -DWASD_DOUBLE
endif
CFLAGS  ?=
flags = $(CSTD) $(1) $(WARN) $(HARDEN) -MMD -MP $(COLOUR) $(CFLAGS)
ALL_CFLAGS = $(call flags,$(OPT))
# The tests' own sources: most of a build's time would be theirs, and nothing depends on their speed.
OPT_TEST = $(patsubst -O%,-O1,$(patsubst -g,-g1,$(OPT)))
LDFLAGS ?=
ALL_LDFLAGS = $(filter -fsanitize%,$(OPT)) $(LDHARDEN) $(LDFLAGS)

# Include paths are the layer rules of the architecture: a wrong include does not compile.
INC_base    := -Icore/include -Icore
INC_core    := $(INC_base)
INC_storage := -Icore/include -Istorage
INC_api     := -Icore/include -Istorage -Iapi
INC_server  := -Icore/include -Istorage -Iapi -Iserver

# core/onednn is built if the library is installed, for float32 on x86-64. Not under ThreadSanitizer, which cannot see into libgomp.
ONEDNN := $(if $(filter double tsan,$(FLAVOUR)),,$(shell [ "$$(uname -m)" = x86_64 ] && echo '\#include <oneapi/dnnl/dnnl.h>' | $(CC) -E -x c - >/dev/null 2>&1 && echo yes))
ifneq ($(ONEDNN),)
OPT += -DWASD_ONEDNN
endif

LIBS_base   := -lcjson -lgnutls -lpthread
LIBS_engine := $(if $(ONEDNN),-ldnnl -lgomp) -lopenblas -larchive -ljpeg -lspng -lz -lm $(LIBS_base)
LIBS_daemon := -lmicrohttpd -lcurl -lsqlite3 -lz -lzstd -lm $(LIBS_base)

src = $(sort $(foreach d,$(1),$(wildcard $(d)/*.c)))
obj = $(patsubst %.c,$(O)/%.o,$(1))

SRC_base    := $(call src,core/base)
SRC_core    := $(filter-out core/base/% core/engine/% $(if $(ONEDNN),,core/onednn/%),$(call src,core/*))
SRC_engine  := $(call src,core/engine)
SRC_storage := $(call src,storage)
SRC_api     := $(call src,api)
SRC_server  := $(call src,server server/*)

LIB_base    := $(O)/libbase.a
LIB_core    := $(O)/libcore.a
LIB_storage := $(O)/libstorage.a
LIB_api     := $(O)/libapi.a
LIB_server  := $(O)/libserver.a

.DEFAULT_GOAL := all
.PHONY: all help deps deps-test test test-fixtures asan tsan double clang format format-check deps-format install uninstall clean quickstart stop bench tests-build check-deps

all: $(B)/wasd $(B)/wasd-engine ## build/wasd and build/wasd-engine

# Progress is one counting line, rewritten on a terminal, with compiler messages below it; V=1 shows complete command lines. make itself keeps the
# counter, because it expands the recipes one after the other; the total comes from a dry run of make.
Q := $(if $(V),,@)
DONE :=
TOTAL = $(eval TOTAL := $(shell $(MAKE) -n MAKEFLAGS= COUNTING=1 FLAVOUR=$(FLAVOUR) $(or $(filter all tests-build $(B)/%,$(MAKECMDGOALS)),all) 2>/dev/null | grep -cx 'echo COUNTED'))$(TOTAL)
line := $(if $(MAKE_TERMOUT),\r\033[K[%3d/%d] %-4s %s,[%3d/%d] %-4s %s\n)
last = $(if $(and $(MAKE_TERMOUT),$(filter $(words $(DONE)),$(TOTAL))),; echo)
counted = $(eval DONE += x)@printf '$(line)' $(words $(DONE)) $(TOTAL) $(1) $(patsubst $(O)/%,%,$@)$(last)
note = $(if $(COUNTING),echo COUNTED,$(if $(V),,$(call counted,$(1))))
run = $(if $(V)$(COUNTING),$(1),@o=$$($(1) 2>&1); s=$$?; [ -z "$$o" ] || printf '$(if $(MAKE_TERMOUT),\n)%s\n' "$$o" >&2; exit $$s)
COLOUR := $(if $(and $(MAKE_TERMERR),$(if $(V),,yes)),-fdiagnostics-color=always)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/' | sort

# Fuse products and sums into one rounding, as the libraries do; standard C alone would keep them apart.
$(O)/core/onednn/%.o: OPT += -ffp-contract=fast
$(O)/core/%.o: core/%.c | check-deps
	@mkdir -p $(@D)
	$(call note,CC)
	$(call run,$(CC) $(INC_core) $(ALL_CFLAGS) -c -o $@ $<)
$(O)/storage/%.o: storage/%.c | check-deps
	@mkdir -p $(@D)
	$(call note,CC)
	$(call run,$(CC) $(INC_storage) $(ALL_CFLAGS) -c -o $@ $<)
$(O)/api/%.o: api/%.c | check-deps
	@mkdir -p $(@D)
	$(call note,CC)
	$(call run,$(CC) $(INC_api) $(ALL_CFLAGS) -c -o $@ $<)
$(O)/server/%.o: server/%.c | check-deps
	@mkdir -p $(@D)
	$(call note,CC)
	$(call run,$(CC) $(INC_server) $(ALL_CFLAGS) -c -o $@ $<)

$(LIB_base): $(call obj,$(SRC_base))
$(LIB_core): $(call obj,$(SRC_core))
$(LIB_storage): $(call obj,$(SRC_storage))
$(LIB_api): $(call obj,$(SRC_api))
$(LIB_server): $(call obj,$(filter-out server/main.c,$(SRC_server))) $(O)/web/assets.o
$(O)/lib%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(call run,ar rcs $@ $^)

# The dashboard and the reference are linked into the daemon; charts come from Debian's libjs-dygraphs.
WEB  := $(sort $(wildcard web/*.html web/*.css web/*.js web/*.mjs web/*.svg))
DOCS := $(patsubst web/docs/%.md,$(O)/web/docs/%.html,$(sort $(wildcard web/docs/*.md))) $(sort $(wildcard web/docs/*.png))
$(O)/web/assets.o: web/embed.sh $(WEB) $(DOCS) | check-deps
	@mkdir -p $(@D)
	$(call note,WEB)
	$(Q)sh web/embed.sh $(O)/web/assets.S $(WEB) $(DOCS) /usr/share/javascript/dygraphs/dygraph.min.js /usr/share/javascript/dygraphs/dygraph.min.css
	$(call run,$(CC) -c -o $@ $(O)/web/assets.S)

# A page is built from its Markdown and from the daemon's tables.
$(O)/web/docs/%.html: web/docs/%.md web/docs/frame.html web/docs/page.sh $(O)/web/docs/tables
	$(call note,DOC)
	$(Q)$(O)/web/docs/tables $* <$< >$(@:.html=.md) && sh web/docs/page.sh web/docs/frame.html $* <$(@:.html=.md) >$@.new && mv $@.new $@
$(O)/web/docs/tables: web/docs/tables.c $(LIB_api) $(LIB_storage) $(LIB_base) | check-deps
	@mkdir -p $(@D)
	$(call run,$(CC) -Iapi $(INC_api) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $< $(LIB_api) $(LIB_storage) $(LIB_base) -lsqlite3 -lz $(LIBS_base) -lm)

$(B)/wasd: $(O)/server/main.o $(LIB_server) $(LIB_api) $(LIB_storage) $(LIB_base)
	$(call note,LD)
	$(call run,$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS_daemon))
$(B)/wasd-engine: $(call obj,$(SRC_engine)) $(LIB_core) $(LIB_base)
	$(call note,LD)
	$(call run,$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS_engine))

# ---- tests: one program per file, linked with the libraries that its folder may use; T=name,name builds those whose path contains a name ----
PY := /usr/bin/python3
ifneq ($(filter tests-build,$(MAKECMDGOALS)),)
TEST_BIN := $(filter $(B)/%,$(shell $(PY) tests/run --list --only '$(or $(T),$(B)/)' $(if $(filter double,$(FLAVOUR)),--build none --double,--build) $(B)))
endif
tests-build: $(TEST_BIN)
$(O)/tests/%.o: tests/%.c | check-deps
	@mkdir -p $(@D)
	$(call note,CC)
	$(call run,$(CC) $(INC_$(*D)) -Itests $(call flags,$(OPT_TEST)) -c -o $@ $<)
$(B)/tests/base/%: $(O)/tests/base/%.o $(LIB_base)
	$(call test_program,$(LIBS_base) -lm)
$(B)/tests/core/%: $(O)/tests/core/%.o $(LIB_core) $(LIB_base)
	$(call test_program,$(LIBS_engine))
$(B)/tests/storage/%: $(O)/tests/storage/%.o $(LIB_storage) $(LIB_base)
	$(call test_program,-lsqlite3 $(LIBS_base) -lm)
$(B)/tests/api/%: $(O)/tests/api/%.o $(LIB_api) $(LIB_storage) $(LIB_base)
	$(call test_program,-lsqlite3 -lz $(LIBS_base) -lm)
$(B)/tests/server/%: $(O)/tests/server/%.o $(LIB_server) $(LIB_api) $(LIB_storage) $(LIB_base)
	$(call test_program,$(LIBS_daemon))
.SECONDARY: $(patsubst tests/%.c,$(O)/tests/%.o,$(wildcard tests/*/*.c))
define test_program
@mkdir -p $(@D)
$(call note,TEST)
$(call run,$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(1))
endef

test: deps-test ## run all tests; T=name,name runs the tests whose path contains one of these names
	$(MAKE) all tests-build
	$(MAKE) FLAVOUR=double tests-build
	$(PY) tests/run $(if $(T),--only $(T)) --build $(B) --double build/double
test-fixtures: deps-test ## compare with the golden numbers in WASD_FIXTURES (default ../shared/fixtures), double and float
	$(MAKE) tests-build
	$(MAKE) FLAVOUR=double tests-build
	$(PY) tests/run --only fixtures --build $(B) --double build/double
# The C sources are formatted by .clang-format. Other versions of clang-format lay out some lines differently.
CLANG_FORMAT ?= clang-format-14
c_sources = git ls-files '*.c' '*.h'
format: ## format the C sources by .clang-format
	$(c_sources) | xargs $(CLANG_FORMAT) -i
format-check: ## fail if a C source is not formatted by .clang-format
	$(c_sources) | xargs $(CLANG_FORMAT) --dry-run -Werror
asan: deps-test ## run the tests under AddressSanitizer and UBSan
	$(MAKE) FLAVOUR=asan all tests-build
	$(PY) tests/run $(if $(T),--only $(T)) --build build/asan
tsan: deps-test ## run the daemon's tests under ThreadSanitizer
	$(MAKE) FLAVOUR=tsan T=$(or $(T),server) all tests-build
	$(PY) tests/run --only $(or $(T),server) --build build/tsan
double clang: ## build this flavour
	$(MAKE) FLAVOUR=$@ all tests-build

# ---- packages ----
PKGS := gcc libc6-dev binutils libmicrohttpd-dev libcjson-dev libopenblas-pthread-dev $(if $(filter x86_64,$(shell uname -m)),libdnnl-dev) libsqlite3-dev libarchive-dev \
        libjpeg62-turbo-dev libspng-dev zlib1g-dev libzstd-dev libgnutls28-dev libcurl4-gnutls-dev libjs-dygraphs cmark-gfm curl
PKGS_TEST := python3 chromium chromium-driver
missing = $(shell for p in $(1); do dpkg-query -W -f='$${Status}\n' $$p 2>/dev/null | grep -q '^install ok installed' || echo $$p; done)
define apt_install
@m="$(call missing,$(1))"; [ -n "$$m" ] || exit 0; \
command -v apt-get >/dev/null || { echo "These packages are missing, and there is no apt-get here to install them:" $$m >&2; exit 1; }; \
sudo=; if [ "$$(id -u)" != 0 ]; then sudo=sudo; command -v sudo >/dev/null || { echo "Run as root: apt-get install" $$m >&2; exit 1; }; fi; \
echo "Installing with apt-get$${sudo:+ (sudo may ask for your password)}:" $$m; \
$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$m >/dev/null
endef
deps: ## install the Debian packages for a build
	$(call apt_install,$(PKGS))
deps-test: ## the same, plus the packages for the tests
	$(call apt_install,$(PKGS) $(PKGS_TEST))
# One pass over the headers of all packages; the compiler, or ls, names the missing ones.
deps-format: ## install clang-format
	$(call apt_install,clang-format-14)
check-deps:
	@printf '#include <%s>\n' stdio.h microhttpd.h cjson/cJSON.h sqlite3.h archive.h jpeglib.h spng.h zlib.h zstd.h gnutls/crypto.h curl/curl.h cblas.h | $(CC) -E -x c - >/dev/null \
	  && ls /usr/share/javascript/dygraphs/dygraph.min.js /usr/bin/cmark-gfm >/dev/null \
	  || { echo "packages are missing: run 'make deps' first (make quickstart and make test do it themselves)" >&2; exit 1; }

# ---- use ----
quickstart: deps ## install, build, start on 127.0.0.1:8080 (WASD_LISTEN), train, classify, switch modes
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@WASD_BUILD=$(B) sh tests/quickstart.sh
stop: ## stop the daemon started by quickstart
	@WASD_BUILD=$(B) sh tests/quickstart.sh stop
SHARE := $(PREFIX)/share
install: all ## install into $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/wasd $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 755 $(B)/wasd $(DESTDIR)$(PREFIX)/bin/wasd
	install -m 755 $(B)/wasd-engine $(DESTDIR)$(PREFIX)/libexec/wasd/wasd-engine
	sed 's|@PREFIX@|$(PREFIX)|g' systemd/wasd.service.in > $(DESTDIR)$(PREFIX)/lib/systemd/system/wasd.service
	install -d $(addprefix $(DESTDIR)$(SHARE)/,man/man1 bash-completion/completions zsh/site-functions)
	$(B)/wasd man --all $(DESTDIR)$(SHARE)/man/man1
	$(B)/wasd completion bash > $(DESTDIR)$(SHARE)/bash-completion/completions/wasd
	$(B)/wasd completion zsh > $(DESTDIR)$(SHARE)/zsh/site-functions/_wasd
uninstall: ## remove the installed files
	rm -f $(DESTDIR)$(PREFIX)/bin/wasd $(DESTDIR)$(PREFIX)/libexec/wasd/wasd-engine $(DESTDIR)$(PREFIX)/lib/systemd/system/wasd.service
	rm -f $(addprefix $(DESTDIR)$(SHARE)/,man/man1/wasd.1 man/man1/wasd-*.1 bash-completion/completions/wasd zsh/site-functions/_wasd)
	-rmdir $(DESTDIR)$(PREFIX)/libexec/wasd 2>/dev/null
clean: ## remove every build tree
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
