package injected

import "strings"

// Danger says what a known product may do to a program that only computes.
type Danger string

// Dangers, the worst first.
const (
	Crashes Danger = "crashes" // programs were reported to crash in it or by it, compute programs among them
	Hides   Danger = "hides"   // it hides devices or changes their order
	Slows   Danger = "slows"   // it looks at every call
	Draws   Danger = "draws"   // it only acts when pictures are shown, which this program never does
)

// Known is a product of which something is written down.
type Known struct {
	Product string `json:"product"`
	Danger  Danger `json:"danger"`
	What    string `json:"what"`              // one sentence
	Disable string `json:"disable,omitempty"` // the setting that keeps it out, "NAME=1"
	Source  string `json:"source"`            // where it is written

	layers, files []string // parts of layers' names and of libraries' file names, in lower case
}

// all is what is known, with sources; a longer name stands before one that it contains. Where Disable is empty the
// layer's own manifest, or the loader's filter, says how to keep it out.
func all() []Known {
	return []Known{
		{"Bandicam", Crashes, "crashes programs while they create an instance or a device, also when Bandicam does not run",
			"VK_LAYER_bandicam_helper_DEBUG_1=1", "https://github.com/moonlight-stream/moonlight-qt/issues/1425",
			[]string{"bandicam"}, []string{"bdcamvk"}},
		{"Mirillis Action!", Crashes, "crashed llama.cpp on Vulkan while it created its device",
			"", "https://github.com/ggml-org/llama.cpp/issues/8828",
			[]string{"mirillis"}, []string{"mirillisactionvulkanlayer"}},
		{"FPS Monitor", Crashes, "crashed llama.cpp on Vulkan inside the driver",
			"", "https://github.com/ggml-org/llama.cpp/issues/8828",
			[]string{"fpsmon"}, []string{"fpsmonvk"}},
		{"RivaTuner Statistics Server (MSI Afterburner)", Crashes, "older versions crash programs on Vulkan, llama.cpp among them",
			"DISABLE_RTSS_LAYER=1", "https://github.com/ggml-org/llama.cpp/issues/18109",
			[]string{"rtss"}, []string{"rtssvklayer", "rtsshooks"}},
		{"Overwolf", Crashes, "its copy of OBS's capture crashed programs while they created an instance",
			"DISABLE_VULKAN_OW_OBS_CAPTURE=1", "https://github.com/godotengine/godot/issues/55258",
			[]string{"layer_ow_"}, []string{"ow-graphics-hook"}},
		{"OBS Studio's game capture", Crashes, "versions of it made vkCreateDevice fail or programs crash; language models on Vulkan were hit",
			"DISABLE_VULKAN_OBS_CAPTURE=1", "https://github.com/KhronosGroup/Vulkan-Docs/issues/2808",
			[]string{"layer_obs_hook"}, []string{"graphics-hook"}},
		{"obs-vkcapture", Crashes, "up to 1.5.5 it crashed programs at the start beside another layer",
			"", "https://github.com/nowrep/obs-vkcapture/issues/294",
			[]string{"obs_vkcapture"}, []string{"vklayer_obs_vkcapture"}},
		{"Twitch Studio", Crashes, "crashed every program on Vulkan on Intel's GPUs",
			"", "https://github.com/IGCIT/Intel-GPU-Community-Issue-Tracker-IGCIT/issues/730",
			[]string{"twitch"}, nil},
		{"AgaueEye", Crashes, "crashed programs at their start",
			"DISABLE_SAMPLE_LAYER=1", "https://github.com/SaschaWillems/VulkanCapsViewer/issues/193",
			[]string{"agaueeye"}, nil},
		{"GamePP", Crashes, "RenderDoc keeps it out as buggy",
			"DISABLE_GAMEPP_LAYER=1", "https://github.com/baldurk/renderdoc/blob/v1.x/renderdoc/driver/vulkan/vk_layer.cpp",
			[]string{"gamepp"}, nil},
		{"OCAT", Crashes, "overflowed the stack in vkCreateDevice under the validation layer",
			"", "https://github.com/GPUOpen-Tools/ocat/issues/33",
			[]string{"layer_ocat"}, nil},
		{"vkBasalt", Crashes, "crashed programs in vkCreateDevice beside another layer",
			"DISABLE_VKBASALT=1", "https://github.com/baldurk/renderdoc/issues/2486",
			[]string{"vkbasalt"}, []string{"libvkbasalt"}},
		{"MangoHud", Crashes, "versions of it crashed programs in vkCreateDevice",
			"DISABLE_MANGOHUD=1", "https://github.com/flightlessmango/MangoHud/issues/2123",
			[]string{"mangohud"}, []string{"libmangohud"}},
		{"ReShade", Crashes, "crashes some programs at their start",
			"DISABLE_VK_LAYER_reshade_1=1", "https://github.com/Novum/vkQuake/issues/521",
			[]string{"layer_reshade"}, []string{"reshade64", "reshade32"}},
		{"Korthos low latency layer", Crashes, "crashed programs at their start beside another layer",
			"", "https://github.com/nowrep/obs-vkcapture/issues/294",
			[]string{"korthos"}, []string{"korthos_lowlatency"}},
		{"Steam's overlay", Crashes, "keeps a device in a global variable and crashed programs that use several",
			"DISABLE_VK_LAYER_VALVE_steam_overlay_1=1", "https://github.com/ValveSoftware/steam-for-linux/issues/9120",
			[]string{"valve_steam_overlay"}, []string{"steamoverlayvulkanlayer"}},
		{"Steam's shader recorder (Fossilize)", Slows, "records every pipeline, and did not go with another overlay",
			"DISABLE_VK_LAYER_VALVE_steam_fossilize_1=1", "https://github.com/GPUOpen-Tools/ocat/issues/68",
			[]string{"valve_steam_fossilize"}, []string{"vklayer_steam_fossilize", "steamfossilizevulkanlayer"}},
		{"Epic Online Services overlay", Crashes, "was among the layers whose removal ended crashes of whisper.cpp on AMD's driver",
			"EOS_OVERLAY_DISABLE_VULKAN_WIN64=1", "https://github.com/cjpais/Handy/issues/2049",
			[]string{"eos_overlay"}, []string{"eosovh"}},
		{"AMD switchable graphics", Hides, "hides devices by a setting of the driver, and with NVIDIA's layer beside it hid all",
			"DISABLE_LAYER_AMD_SWITCHABLE_GRAPHICS_1=1", "https://github.com/KhronosGroup/Vulkan-Loader/issues/552",
			[]string{"amd_switchable_graphics"}, nil},
		{"NVIDIA Optimus", Hides, "chooses the devices that are listed by a setting of NVIDIA's control panel",
			"DISABLE_LAYER_NV_OPTIMUS_1=1", "https://github.com/KhronosGroup/Vulkan-Loader/issues/552",
			[]string{"nv_optimus"}, nil},
		{"RenderDoc", Slows, "records every call for a debugger",
			"", "https://renderdoc.org/docs/behind_scenes/vulkan_support.html",
			[]string{"renderdoc"}, []string{"librenderdoc", "renderdoc.dll"}},
		{"Mesa's overlay", Draws, "writes statistics over pictures",
			"", "https://docs.mesa3d.org/envvars.html",
			[]string{"mesa_overlay"}, []string{"vklayer_mesa_overlay"}},
		{"Mesa's device selection", Hides, "puts the device that MESA_VK_DEVICE_SELECT names first; harmless with current loaders",
			"NODEVICE_SELECT=1", "https://docs.mesa3d.org/envvars.html",
			[]string{"mesa_device_select"}, []string{"vklayer_mesa_device_select"}},
	}
}

// ByLayer finds what is known about a layer by its name.
func ByLayer(name string) (Known, bool) {
	name = strings.ToLower(name)
	return find(name, func(k Known) []string { return k.layers })
}

// ByModule finds what is known about a loaded library by its file.
func ByModule(path string) (Known, bool) {
	return find(strings.ToLower(base(path)), func(k Known) []string { return k.files })
}

func find(name string, parts func(Known) []string) (Known, bool) {
	for _, k := range all() {
		for _, part := range parts(k) {
			if strings.Contains(name, part) {
				return k, true
			}
		}
	}
	return Known{}, false
}
