package injected

import (
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// Modules lists the files of the libraries that are loaded into this process now.
func Modules() []string {
	process := windows.CurrentProcess()
	modules := make([]windows.Handle, 1024)
	var bytes uint32
	const handle = 8 // bytes
	if windows.EnumProcessModules(process, &modules[0], uint32(handle*len(modules)), &bytes) != nil {
		return nil
	}
	var out []string
	for _, m := range modules[:min(int(bytes/handle), len(modules))] {
		name := make([]uint16, 1024)
		if windows.GetModuleFileNameEx(process, m, &name[0], uint32(len(name))) == nil {
			out = append(out, windows.UTF16ToString(name))
		}
	}
	return out
}

// registered lists the manifests of implicit layers in the registry: values named by a file, of which 0 is on. Those that
// come with a display driver are registered with it and are not listed here.
func registered() []string {
	var out []string
	for _, root := range []registry.Key{registry.LOCAL_MACHINE, registry.CURRENT_USER} {
		key, err := registry.OpenKey(root, `SOFTWARE\Khronos\Vulkan\ImplicitLayers`, registry.QUERY_VALUE)
		if err != nil {
			continue
		}
		names, _ := key.ReadValueNames(-1) // what could be read is better than nothing
		for _, name := range names {
			if off, _, err := key.GetIntegerValue(name); err == nil && off == 0 {
				out = append(out, name)
			}
		}
		key.Close()
	}
	return out
}
