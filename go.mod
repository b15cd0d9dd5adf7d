module github.com/vkandinsky/vkandinsky

go 1.26

require (
	github.com/Eyevinn/mp4ff v0.48.0
	github.com/edsrzf/mmap-go v1.2.0
	github.com/go-gl/mathgl v1.1.0
	github.com/google/go-cmp v0.6.0
	github.com/spf13/pflag v1.0.10
	github.com/vulkan-go/vulkan v0.0.0-20221209234627-c0a353ae26c8
	golang.org/x/image v0.24.0
	golang.org/x/sync v0.11.0
	golang.org/x/sys v0.30.0
	golang.org/x/term v0.29.0
	golang.org/x/text v0.22.0
	gopkg.in/yaml.v3 v3.0.1
)
