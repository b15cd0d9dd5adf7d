package engine

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// pipelines makes and keeps compute pipelines. The key holds all that a pipeline depends on.
type pipelines struct {
	device *Device
	cache  *vk.PipelineCache
	file   string // where the cache is saved, "" nowhere

	mu    sync.Mutex
	byKey map[pipelineKey]*pipeline
	saved int // bytes of the cache as loaded
}

type pipelineKey struct {
	shader   string
	spec     string // id and bits of every constant
	bindings int
}

type pipeline struct {
	vk     *vk.Pipeline
	access []shaders.Access // by binding number; unbound numbers are reads
}

func newPipelines(d *Device) (*pipelines, error) {
	p := &pipelines{device: d, byKey: map[pipelineKey]*pipeline{}}
	var data []byte
	if d.opts.CacheDir != "" {
		info := d.Summary.Physical.Info
		p.file = filepath.Join(d.opts.CacheDir, "pipelines-"+hex.EncodeToString(info.PipelineCacheUUID[:])+".bin")
		data, _ = os.ReadFile(p.file) // a missing or unreadable cache is a cache miss
	}
	p.saved = len(data)
	var err error
	p.cache, err = d.vk.NewPipelineCache(data)
	return p, err
}

// Used returns the shader variants that the device has computed with since it was opened, and the hash of each one's code
// (CodeHash).
func (d *Device) Used() map[string]string {
	d.pipelines.mu.Lock()
	defer d.pipelines.mu.Unlock()
	out := map[string]string{}
	for key := range d.pipelines.byKey {
		if _, ok := out[key.shader]; !ok {
			out[key.shader] = CodeHash(key.shader)
		}
	}
	return out
}

// get returns the pipeline for a call, compiling it the first time.
func (p *pipelines) get(c Call) (*pipeline, error) {
	key := pipelineKey{shader: c.Shader, spec: specKey(c.Spec), bindings: len(c.Bind)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if found := p.byKey[key]; found != nil {
		return found, nil
	}
	shader, ok := shaders.Get(c.Shader)
	if !ok {
		panic("engine: no shader " + c.Shader)
	}
	made := &pipeline{access: make([]shaders.Access, len(c.Bind))}
	for k := range made.access {
		made.access[k] = shaders.Read
	}
	for _, b := range shader.Bindings {
		if int(b.Index) >= len(c.Bind) {
			panic(fmt.Sprintf("engine: shader %s has a binding %d, the call binds %d tensors", c.Shader, b.Index, len(c.Bind)))
		}
		made.access[b.Index] = b.Access
	}
	if shader.PushSize > len(c.Push) {
		panic(fmt.Sprintf("engine: shader %s has %d bytes of push constants, the call %d", c.Shader, shader.PushSize, len(c.Push)))
	}
	if w := shader.Workgroup(c.Spec); int(w[0]*w[1]*w[2]) > p.device.caps.MaxInvocations {
		return nil, fmt.Errorf("shader %s: workgroup of %v is larger than the device's %d invocations", c.Shader, w, p.device.caps.MaxInvocations)
	}
	spec := map[uint32]uint32{}
	for _, v := range c.Spec {
		spec[v.ID] = v.Bits
	}
	subgroup := 0
	if slices.Contains(shader.Capabilities, "CooperativeMatrixKHR") {
		subgroup = p.device.caps.SubgroupSize
	}
	var err error
	made.vk, err = p.device.vk.NewPipeline(vk.PipelineOptions{Name: c.Shader, SPIRV: shaders.SPIRV(c.Shader), Bindings: len(c.Bind),
		PushSize: len(c.Push), Spec: spec, Subgroup: subgroup, Cache: p.cache})
	if err != nil {
		return nil, err
	}
	p.byKey[key] = made
	return made, nil
}

func specKey(spec []shaders.SpecValue) string {
	key := make([]byte, 0, 8*len(spec))
	for _, v := range spec {
		for shift := 0; shift < 32; shift += 8 {
			key = append(key, byte(v.ID>>shift))
		}
		for shift := 0; shift < 32; shift += 8 {
			key = append(key, byte(v.Bits>>shift))
		}
	}
	return string(key)
}

// close saves the cache when it grew and frees all pipelines. A cache that cannot be written costs only time later, so
// it is logged and not an error.
func (p *pipelines) close() error {
	if p.file != "" {
		if data, err := p.cache.Data(); err == nil && len(data) > p.saved {
			if err := writeAtomic(p.file, data); err != nil {
				p.device.log.Warn("pipeline cache not saved", "error", err)
			}
		}
	}
	for _, made := range p.byKey {
		made.vk.Destroy()
	}
	p.cache.Destroy()
	return nil
}

// writeAtomic writes a file under a temporary name and renames it, so that a reader never sees half of it.
func writeAtomic(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
