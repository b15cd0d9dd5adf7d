package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/injected"
)

// withoutLayers keeps the loader (from 1.3.234 on) from taking implicit layers.
const withoutLayers = "VK_LOADER_LAYERS_DISABLE=~implicit~"

// examineLayers opens the device and looks at what other programs loaded into this process by that.
func examineLayers(ctx context.Context, o Options, f *Findings) {
	r := Result{Status: OK}
	var modules []string
	o.onDevice(ctx, f, &r, nil, func(*engine.Device) error {
		modules = injected.Modules()
		return nil
	})
	if r.Status == OK {
		describeLayers(&r, injected.Layers(), modules)
	}
	f.Results = append(f.Results, r)
}

// describeLayers judges layers and loaded libraries.
func describeLayers(r *Result, layers []injected.Layer, modules []string) {
	loaded := map[string]string{} // what a library is called, and its file
	for _, m := range modules {
		loaded[strings.ToLower(name(m))] = m
	}
	var present, dangerous []string
	told := map[string]bool{}
	for _, l := range layers {
		file, inside := loaded[strings.ToLower(l.Library)]
		k, known := injected.ByLayer(l.Name)
		text := l.Why
		switch {
		case inside:
			text = "loaded, " + text
			present = append(present, l.Name)
			delete(loaded, strings.ToLower(name(file)))
		case l.Active:
			text += ", not loaded"
		}
		if known {
			text += fmt.Sprintf("; %s: %s (%s)", k.Product, k.What, k.Source)
			told[k.Product] = told[k.Product] || inside
		}
		r.fact(l.Name, "%s", text)
		if inside && known {
			dangerous = append(dangerous, judge(r, k, l.Disable, l.Name)...)
		}
	}
	for _, file := range loaded {
		if k, known := injected.ByModule(file); known && !told[k.Product] {
			told[k.Product] = true
			r.fact(name(file), "loaded; %s: %s (%s)", k.Product, k.What, k.Source)
			present = append(present, name(file))
			dangerous = append(dangerous, judge(r, k, "", "")...)
		}
	}
	switch {
	case len(dangerous) > 0:
		r.Summary = fmt.Sprintf("%d loaded, known to crash programs: %s", len(present), strings.Join(dangerous, ", "))
	case len(present) > 0:
		r.Summary = fmt.Sprintf("%d loaded, none known to crash: %s", len(present), strings.Join(present, ", "))
	default:
		r.Summary = "none loaded"
	}
}

// judge raises the result's status by what is known about a loaded product, and returns its name if it is known to crash.
func judge(r *Result, k injected.Known, disable, layer string) []string {
	if disable == "" {
		disable = k.Disable
	}
	if disable == "" && layer != "" {
		disable = "VK_LOADER_LAYERS_DISABLE=" + layer
	}
	how := "Uninstall or stop it"
	if disable != "" {
		how = "Set " + disable + " to keep it out"
	}
	switch k.Danger {
	case injected.Crashes:
		r.Status = Warning
		r.advise("%s: %s. %s.", k.Product, k.What, how)
		return []string{k.Product}
	case injected.Slows:
		r.Status = Warning
		r.advise("%s %s. %s.", k.Product, k.What, how)
	}
	return nil
}

// name is the last part of a path of either system.
func name(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }

// layersAtFault is the result for a process that crashes with the implicit layers and works without them.
func layersAtFault(how string) Result {
	r := Result{Name: probeLayers, Title: "injected layers", Status: Failed,
		Summary: "with the layers that other programs inject, opening Vulkan ends the process (" + how + "); without them it works"}
	for _, l := range injected.Layers() {
		if !l.Active {
			continue
		}
		text := l.Why
		if k, known := injected.ByLayer(l.Name); known {
			text += fmt.Sprintf("; %s: %s (%s)", k.Product, k.What, k.Source)
			if k.Danger == injected.Crashes {
				r.advise("Suspect %s.", k.Product)
			}
		}
		r.fact(l.Name, "%s", text)
	}
	r.advise("Set %s to run without them, or remove the one at fault. The rest of this report was made without them.", withoutLayers)
	return r
}
