# make          builds ./vkandinsky
# make test     every check of the source and the whole test suite on the system's Vulkan driver
# make demo     a small video by the model inside the program, with block swapping: demo.mp4 and demo.png
#
# What is missing is installed with apt (scripts/install-deps.sh) or unpacked beside the system (Go itself, the shader
# compiler). NODEPS=1 leaves the system packages alone.

GO         ?= scripts/go.sh
NODEPS     ?=
PACKAGES   ?= ./...
# What can come near a device; the others gain nothing from another driver.
ON_DEVICES ?= ./cmd/... ./engine/... ./memory/... ./models/... ./swap/...
TESTFLAGS  ?= -count=1 -timeout=30m
export GOFLAGS += -buildvcs=false

# Exact, so that a new release cannot turn the build red on its own.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

# What makes validation layer 1.4.36x see hazards between dispatches and across submits.
SYNCVAL := VK_LAYER_VALIDATE_SYNC=1 VK_LAYER_SYNCVAL_SHADER_ACCESSES_HEURISTIC=1 VK_LAYER_SYNCVAL_FULL_VALIDATION=1

deps = $(if $(NODEPS),@:,@scripts/install-deps.sh $(1))

.DEFAULT_GOAL := build
.PHONY: build shaders format lint shaders-check test test-modern grid bench demo wine clean help

build: ## the program, ./vkandinsky
	$(call deps,build)
	$(GO) build -o vkandinsky ./cmd/vkandinsky

shaders: ## compile shaders/*.comp and their Go declarations
	$(GO) run ./tools/glslc

format: ## gofmt everything
	$(GO) fmt ./...

lint: ## gofmt, go vet, staticcheck
	$(call deps,build)
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) || exit 1; \
	[ -z "$$unformatted" ] || { echo "not gofmt'ed, run make format:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

shaders-check: ## fail when the committed SPIR-V is stale
	$(GO) run ./tools/glslc -check

test: lint shaders-check ## all checks, then the test suite on the system's driver
	$(call deps,build vulkan test media)
	$(GO) run ./tools/gotest -label test $(COUNTS) -- $(TESTFLAGS) $(PACKAGES)

# -short leaves out most clips of the small model (models/tiny), whose kernels other tests compare one by one.
test-modern: ## the test suite on a current Mesa, with cooperative matrices, and a current validation layer
	$(call deps,build media)
	@# Matrix kernels prove that the current driver is the one in use.
	scripts/modern-run.sh $(GO) run ./cmd/vkandinsky devices | tee /dev/stderr | grep 'kernels *matrix' >/dev/null
	$(SYNCVAL) scripts/modern-run.sh $(GO) run ./tools/gotest -label modern $(COUNTS) -- $(TESTFLAGS) -short $(ON_DEVICES)

grid: ## every clip of the small model that the tests know, on the system's driver; make test makes four
	$(call deps,build vulkan test media)
	VKANDINSKY_GRID=all $(GO) run ./tools/gotest -label grid $(COUNTS) -- $(TESTFLAGS) -run TestClips ./models/tiny

bench: build ## Go benchmarks of every package
	$(call deps,build vulkan)
	$(GO) test -run '^$$' -bench . -benchmem -timeout=30m $(PACKAGES)

demo: ## a video by the small model inside the program, with block swapping, and a contact sheet
	$(call deps,build vulkan media)
	GO=$(GO) scripts/demo.sh

wine: ## cross-compile for Windows and run the program under Wine
	$(call deps,build vulkan media windows)
	GO=$(GO) scripts/windows.sh

clean: ## remove what make made in this folder
	rm -rf vkandinsky vkandinsky.exe demo.mp4 demo.png demo.json out

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16
