# StrakeFS: one non-recursive Makefile. `make help` lists what it does.
#
#   V=1                      show the commands
#   CC=clang                 another compiler
#   SAN=address,undefined    a sanitizer build, in a folder of its own
#   SAN=thread               likewise
#   DEV=0                    warnings are not errors (for packagers)

SAN ?=
DEV ?= 1
V   ?= 0

empty :=
comma := ,
tag   := $(subst $(comma),-,$(SAN))
B     := build$(if $(tag),/san-$(tag))

PREFIX  ?= /usr/local
DESTDIR ?=

# What is missing for building is installed first: whatever is made from nothing asks for $(NEED_DEPS), which is mostly empty.
PKGS    := liburing lmdb libprotobuf-c libcrypto libsystemd libisal inih
PKGS_RDMA := libibverbs librdmacm
ifneq ($(filter-out deps help clean stop format lint check-fresh,$(or $(MAKECMDGOALS),all)),)
ifneq ($(shell pkg-config --exists $(PKGS) $(PKGS_RDMA) fuse3 check 2>/dev/null && command -v protoc-c >/dev/null && \
               command -v $(firstword $(CC)) >/dev/null && echo yes),yes)
NEED_DEPS := deps
endif
endif

WARN    := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
           -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wformat=2 -Wvla -Wimplicit-fallthrough \
           $(if $(filter 1,$(DEV)),-Werror)
OPT     ?= -O2
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer -DSTRAKE_SAN=1)
CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -I$(B)/gen
CFLAGS  := -std=gnu17 -g $(OPT) -fno-common -fstack-protector-strong $(WARN) $(SANFLAGS)
LDFLAGS := $(SANFLAGS) -Wl,--as-needed
ARFLAGS := rcs

# Asked when they are needed, not when the file is read: `make deps` may only just have installed them.
LIBS_COMMON = $(shell pkg-config --libs $(PKGS)) -lpthread
LIBS_RDMA   = $(shell pkg-config --libs $(PKGS_RDMA))
LIBS_FUSE   = $(shell pkg-config --libs fuse3)
LIBS_CHECK  = $(shell pkg-config --libs check)
CF_FUSE     = $(shell pkg-config --cflags fuse3)

Q := $(if $(filter 1,$(V)),,@)
silent := $(findstring s,$(firstword -$(MAKEFLAGS)))
say = $(if $(filter 1,$(V))$(silent),,@printf '  %-6s %s\n' $(1) $(2))

# --- what there is ------------------------------------------------------------------------------------------------

PROTOS  := $(wildcard proto/*.proto)
GEN_C   := $(PROTOS:proto/%.proto=$(B)/gen/proto/%.pb-c.c)
GEN_H   := $(GEN_C:.c=.h)

src = $(filter-out %/main.c,$(wildcard $(addsuffix /*.c,$(1))))
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))

LIB_PROTO  := $(B)/lib/libstrake-proto.a
LIB_COMMON := $(B)/lib/libstrake-common.a
LIB_MGS    := $(B)/lib/libstrake-mgs.a
LIB_MDS    := $(B)/lib/libstrake-mds.a
LIB_OSS    := $(B)/lib/libstrake-oss.a
LIB_CLIENT := $(B)/lib/libstrake.a
LIB_FUSE   := $(B)/lib/libstrake-fuse.a
LIB_CLI    := $(B)/lib/libstrake-cli.a
LIB_RDMA   := $(B)/lib/libstrake-rdma.a
BASE       := $(LIB_COMMON) $(LIB_PROTO)

$(LIB_COMMON): $(call obj,$(call src,common proto))
$(LIB_MGS):    $(call obj,$(call src,mgs))
$(LIB_MDS):    $(call obj,$(call src,mds))
$(LIB_OSS):    $(call obj,$(call src,oss))
$(LIB_CLIENT): $(call obj,$(call src,client client/data))
$(LIB_FUSE):   $(call obj,$(call src,client/fuse))
$(LIB_CLI):    $(call obj,$(call src,client/cli client/fsck))
# Tests link the RDMA transport, with a fabric of their own; programs load it.
$(LIB_RDMA):   $(call obj,$(call src,common/rdma))
PLUGIN     := $(B)/lib/strake-rdma.so

PROGRAMS   := $(patsubst %,$(B)/bin/%,$(if $(wildcard mgs/main.c),strake-mgs) $(if $(wildcard mds/main.c),strake-mds) \
              $(if $(wildcard oss/main.c),strake-oss) $(if $(wildcard client/fuse/main.c),mount.strake) \
              $(if $(wildcard client/cli/main.c),strake))
UNIT_TESTS := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/*_test.c))
FUZZ       := $(patsubst tests/fuzz/%.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))
TEST_TOOLS := $(patsubst tests/tools/%.c,$(B)/tests/%,$(wildcard tests/tools/*.c)) \
              $(patsubst tests/tools/%/main.c,$(B)/tests/%,$(wildcard tests/tools/*/main.c))

.PHONY: all build tests-build fuzz fuzz-targets fuzz-build deps run stop check check-unit check-cluster check-long check-fresh \
        check-rdma bench bench-rdma install clean format help lint force
.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:

all: build
build: $(PROGRAMS) $(PLUGIN)
tests-build: build $(UNIT_TESTS) $(TEST_TOOLS)

# --- rules --------------------------------------------------------------------------------------------------------

# Another compiler or other flags: everything is made anew.
flags := $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS)
ifneq ($(strip $(file <$(B)/flags)),$(strip $(flags)))
$(B)/flags: force
endif
$(B)/flags: | $(NEED_DEPS)
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(flags))' >$@

$(B)/gen/proto/%.pb-c.c $(B)/gen/proto/%.pb-c.h: proto/%.proto | $(NEED_DEPS)
	$(call say,PROTO,$<)
	@mkdir -p $(@D)
	$(Q)protoc-c --c_out=$(B)/gen $<

# Generated code is not ours to keep free of warnings.
$(B)/obj/gen/%.o: $(B)/gen/proto/%.c $(GEN_H) $(B)/flags
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu17 -g $(OPT) $(SANFLAGS) $(CPPFLAGS) -c -o $@ $<

$(LIB_PROTO): $(patsubst $(B)/gen/proto/%.c,$(B)/obj/gen/%.o,$(GEN_C))

$(B)/obj/%.o: %.c $(B)/flags | $(GEN_H)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(if $(filter client/fuse/%,$<),$(CF_FUSE)) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/lib/%.a:
	$(call say,AR,$@)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) $(ARFLAGS) $@ $^

# What the plug-in uses of the program that loads it.
EXPORT := -Wl,--dynamic-list=common/rdma/host.list

$(B)/pic/%.o: %.c $(B)/flags | $(GEN_H)
	$(call say,PIC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

$(PLUGIN): $(patsubst %.c,$(B)/pic/%.o,$(call src,common/rdma))
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $^ $(LIBS_RDMA)

define program # name, main object, libraries, extra link flags
$(B)/bin/$(1): $(B)/obj/$(2).o $(3) $(BASE)
	$$(call say,LD,$$@)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) $$(EXPORT) -o $$@ $$^ $(4) $$(LIBS_COMMON)
endef
$(eval $(call program,strake-mgs,mgs/main,$(LIB_MGS)))
$(eval $(call program,strake-mds,mds/main,$(LIB_MDS)))
$(eval $(call program,strake-oss,oss/main,$(LIB_OSS)))
$(eval $(call program,mount.strake,client/fuse/main,$(LIB_FUSE) $(LIB_CLIENT),$$(LIBS_FUSE)))
$(eval $(call program,strake,client/cli/main,$(LIB_CLI) $(LIB_CLIENT)))

ALL_LIBS := $(foreach d,mgs mds oss client/fuse client/cli client,$(if $(call src,$(d)),$(patsubst %,$(B)/lib/%,\
            $(subst client/fuse,libstrake-fuse.a,$(subst client/cli,libstrake-cli.a,$(if $(filter client,$(d)),libstrake.a,\
            $(if $(filter client/%,$(d)),$(d),libstrake-$(d).a))))))) $(LIB_RDMA) $(BASE)

FUZZ_LIBS := $(LIB_MGS) $(LIB_MDS) $(LIB_OSS) $(LIB_CLI) $(LIB_CLIENT) $(LIB_RDMA) $(BASE)

# A test that names its module (tests/unit/mdt_log_test.c) links every library and takes what it uses.
$(B)/tests/%: tests/unit/%.c $(ALL_LIBS) | $(GEN_H)
	$(call say,TEST,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $@.d $(LDFLAGS) $(EXPORT) -o $@ $< -Wl,--start-group $(ALL_LIBS) -Wl,--end-group \
		$(LIBS_CHECK) $(LIBS_FUSE) $(LIBS_COMMON)
$(B)/tests/%: tests/tools/%.c $(ALL_LIBS) | $(GEN_H)
	$(call say,TOOL,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CF_FUSE) $(CFLAGS) -MMD -MP -MF $@.d $(LDFLAGS) -o $@ $< -Wl,--start-group $(ALL_LIBS) \
		-Wl,--end-group $(LIBS_FUSE) $(LIBS_COMMON)

# Speaks verbs itself.
$(B)/tests/wrong_verbs: LIBS_COMMON += $(LIBS_RDMA)
# Loads the plug-in.
$(B)/tests/late_write: LDFLAGS += $(EXPORT)

# Of several files: a folder of its own.
define folder_tool # name
$(B)/tests/$(1): $$(call obj,$$(wildcard tests/tools/$(1)/*.c))
	$$(call say,TOOL,$$@)
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(LDFLAGS) -o $$@ $$^
endef
$(foreach t,$(patsubst tests/tools/%/main.c,%,$(wildcard tests/tools/*/main.c)),$(eval $(call folder_tool,$(t))))

# Fuzz targets are of a build of their own, clang's, in which what they call is instrumented.
$(B)/fuzz/%: tests/fuzz/%.c $(FUZZ_LIBS) | $(GEN_H)
	$(call say,FUZZ,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $@.d $(LDFLAGS) -fsanitize=fuzzer $(FUZZ_LDFLAGS) -o $@ $< \
		$(FUZZ_LIBS) $(LIBS_COMMON)
# Damage to its own state ends an MDT; here it is told, and the next input comes.
$(B)/fuzz/state_fuzz: FUZZ_LDFLAGS := -Wl,--wrap=logger_die
# What servers answer is the input.
$(B)/fuzz/told_fuzz: FUZZ_LDFLAGS := -Wl,--wrap=servers_call
# Two new states an input: the room that each takes beforehand would be nearly all of the time.
$(B)/fuzz/replay_fuzz: FUZZ_LDFLAGS := -Wl,--wrap=fallocate64
fuzz-build: $(FUZZ)

# --- verbs --------------------------------------------------------------------------------------------------------

deps:
	$(Q)scripts/deps.sh

run: all
	$(Q)scripts/run.sh

stop:
	$(Q)scripts/run.sh --stop

# With SAN=... that build only.
check: $(if $(SAN),tests-build)
	$(Q)tests/run.sh $(if $(SAN),--build $(B)) $(MAKEOVERRIDES)

# The same with twenty times the work in what has rounds: hours.
check-long: export TIMES := 20
check-long: check

# The parts of `make check`, for one build.
check-unit: tests-build
	$(Q)tests/run.sh --only unit --build $(B)
check-cluster: tests-build
	$(Q)tests/run.sh --only cluster --build $(B)

check-fresh:
	$(Q)scripts/check-fresh.sh

# How long things take, beside MooseFS; no test.
bench: build $(B)/tests/passthrough
	$(Q)scripts/bench.sh

# On RDMA devices of software, in a guest; and with the kernel's NFS server.
check-rdma:
	$(Q)tests/guest/check.sh

# RDMA beside TCP, on such devices; no test.
bench-rdma: build
	$(Q)tests/guest/bench.sh

fuzz-targets:
	$(Q)$(MAKE) CC=clang SAN=fuzzer-no-link,address,undefined B=build/san-fuzz fuzz-build
# All of them, SECONDS each; CORPUS=DIR goes on from there.
SECONDS ?= 60
fuzz: fuzz-targets
	$(Q)for target in build/san-fuzz/fuzz/*_fuzz; do tests/fuzz/run.sh $$target $(SECONDS) || exit; done

install: all
	$(Q)scripts/install.sh '$(B)' '$(DESTDIR)' '$(PREFIX)'

format:
	$(Q)git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

lint:
	$(Q)git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format --dry-run -Werror

clean:
	$(Q)rm -rf build

help:
	@sed -n 's/^#   /  /p' Makefile | head -5
	@echo '  make            build build/bin/*'
	@echo '  make deps       install what building and testing needs (Debian packages)'
	@echo '  make run        set up, build, start a cluster, import a dataset, read it as a training job does'
	@echo '  make stop       end what make run started'
	@echo '  make check      all tests, plain and with sanitizers'
	@echo '  make check-long the same with twenty times the work: hours'
	@echo '  make check-fresh  make run, stop and check in a bare Debian, which it makes and removes'
	@echo '  make check-rdma   what needs RDMA devices, on devices of software, or an NFS server: in a guest, whose kernel it builds once'
	@echo '  make bench      how long everyday work takes, here and on MooseFS, which it installs; minutes of an idle machine'
	@echo '  make bench-rdma   RDMA beside TCP on devices of software in such a guest: latency, MiB/s, CPU, copies, calls'
	@echo '  make fuzz       look for bytes that break a decoder, SECONDS=60 each'
	@echo '  make install    DESTDIR= PREFIX=$(PREFIX)'

-include $(shell find $(B)/obj $(B)/pic $(B)/tests $(B)/fuzz -name '*.d' 2>/dev/null)
