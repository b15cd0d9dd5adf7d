package engine

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// pipelines makes and keeps compute pipelines. The key holds all that a pipeline depends on.
type pipelines struct {
	device *Device
	cache  *vk.PipelineCache
	file   string // where the cache is saved, "" nowhere

	mu             sync.Mutex // guards what follows
	counts         PipelineCounts
	byKey          map[pipelineKey]*making
	saved          int  // bytes of the cache as loaded or last saved
	ending, closed bool // no more are made; all are gone
}

// making is a pipeline that is made, or about to be: each is made once, by whoever asks for it first.
type making struct {
	done     chan struct{} // closed when pipeline or err is there
	used     bool          // by a call that was recorded; guarded by pipelines.mu
	pipeline *pipeline
	err      error
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
	p := &pipelines{device: d, byKey: map[pipelineKey]*making{}}
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
	for key, m := range d.pipelines.byKey {
		if _, ok := out[key.shader]; !ok && m.used {
			out[key.shader] = CodeHash(key.shader)
		}
	}
	return out
}

// keyOf is the key of a call's pipeline.
func keyOf(c Call) pipelineKey {
	return pipelineKey{shader: c.Shader, spec: specKey(c.Spec), bindings: len(c.Bind)}
}

// has tells whether a pipeline is there or being made.
func (p *pipelines) has(key pipelineKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byKey[key] != nil
}

// PipelineCounts tell how many pipelines a device has made and how long recording waited for them.
type PipelineCounts struct {
	Made   int           `json:"made"`
	Late   int           `json:"made_at_first_use"` // of these, not ahead of it
	Waited time.Duration `json:"waited_ns"`         // until pipelines were there, also those that others were making
}

// Since returns what was counted after an earlier reading of the same counts.
func (c PipelineCounts) Since(earlier PipelineCounts) PipelineCounts {
	return PipelineCounts{Made: c.Made - earlier.Made, Late: c.Late - earlier.Late, Waited: c.Waited - earlier.Waited}
}

// Pipelines returns what was counted since the device was opened.
func (d *Device) Pipelines() PipelineCounts {
	d.pipelines.mu.Lock()
	defer d.pipelines.mu.Unlock()
	return d.pipelines.counts
}

// get returns the pipeline for a call, compiling it the first time; use says that the call is being recorded. It may be called by
// several goroutines: they compile different pipelines at once, and wait for each other where they need the same.
func (p *pipelines) get(c Call, use bool) (*pipeline, error) {
	key := keyOf(c)
	p.mu.Lock()
	m := p.byKey[key]
	if m != nil {
		m.used = m.used || use
		p.mu.Unlock()
		return p.await(m, use)
	}
	if p.ending {
		p.mu.Unlock()
		return nil, errors.New("the device is being closed")
	}
	m = &making{done: make(chan struct{}), used: use, err: errors.New("the pipeline was not made")}
	p.byKey[key] = m
	p.mu.Unlock()
	defer close(m.done)
	start := time.Now()
	m.pipeline, m.err = p.make(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.err != nil {
		delete(p.byKey, key) // the next one to ask tries again
		return nil, m.err
	}
	p.counts.Made++
	if use {
		p.counts.Late++
		p.counts.Waited += time.Since(start)
	}
	return m.pipeline, nil
}

// await waits for a pipeline that another goroutine makes, or has made.
func (p *pipelines) await(m *making, use bool) (*pipeline, error) {
	select {
	case <-m.done:
		return m.pipeline, m.err
	default:
	}
	start := time.Now()
	<-m.done
	if use {
		p.mu.Lock()
		p.counts.Waited += time.Since(start)
		p.mu.Unlock()
	}
	return m.pipeline, m.err
}

// make compiles.
func (p *pipelines) make(c Call) (*pipeline, error) {
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
	time.Sleep(p.device.opts.Limits.SlowCompile)
	if hook := p.device.opts.Limits.Compiling; hook != nil {
		hook(len(c.Bind))
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

// save writes the cache when it grew. A cache that cannot be written costs only time later, so it is logged and not an error.
func (p *pipelines) save() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == "" || p.closed {
		return
	}
	data, err := p.cache.Data()
	if err != nil || len(data) <= p.saved {
		return
	}
	if err := writeAtomic(p.file, data); err != nil {
		p.device.log.Warn("pipeline cache not saved", "error", err)
		return
	}
	p.saved = len(data)
}

// close waits for what is being made, saves the cache and frees all pipelines.
func (p *pipelines) close() error {
	p.mu.Lock()
	p.ending = true
	all := slices.Collect(maps.Values(p.byKey))
	p.mu.Unlock()
	for _, m := range all {
		<-m.done
	}
	p.save()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, m := range all {
		if m.pipeline != nil {
			m.pipeline.vk.Destroy()
		}
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
