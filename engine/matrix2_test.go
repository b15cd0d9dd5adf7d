package engine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// matrixGPU is a device that has all that tier matrix2 needs, its flexible matrices as a discrete GPU lists them.
func matrixGPU() *vk.PhysicalDevice {
	p := &vk.PhysicalDevice{
		Limits: vk.Limits{MaxInvocations: 1024, Matrix2MaxWorkgroup: 256, Matrix2MaxDimension: 1024, Matrix2ReservedShared: 8192},
		Features: vk.Features{Timeline: true, Storage16: true, Float16: true, MemoryModel: true, SubgroupMax: true, FullSubgroups: true, SPIRV16: true,
			CooperativeMatrix: true, BFloat16: true, BFloat16Matrix: true, Matrix2: vk.Matrix2Features{Workgroup: true, Flexible: true,
				Reductions: true, Conversions: true, PerElement: true, TensorAddressing: true, BlockLoads: true}},
		Matrices: []vk.Matrix{{M: 16, N: 16, K: 16, A: "f16", B: "f16", C: "f32", R: "f32", Scope: "subgroup"}},
	}
	add := func(operand, sum, scope string, m, n, k, invocations int) {
		p.Flexible = append(p.Flexible, vk.FlexibleMatrix{M: m, N: n, K: k, A: operand, B: operand, C: sum, R: sum, Scope: scope, Invocations: invocations})
	}
	for _, operand := range []string{"f16", "bf16"} {
		add(operand, "f32", "subgroup", 16, 16, 16, 0)
		add(operand, "f32", "workgroup", 32, 32, 16, 128)
		add(operand, "f32", "workgroup", 32, 16, 16, 128)
		add(operand, "f32", "workgroup", 32, 32, 16, 256)
		add(operand, "f32", "workgroup", 64, 32, 16, 512)
	}
	add("f16", "f16", "subgroup", 16, 8, 16, 0)
	add("s8", "s32", "subgroup", 16, 16, 32, 0)
	return p
}

func TestFlexibleMatricesAreTakenFromTheDevicesList(t *testing.T) {
	m, missing := chooseMatrices2(matrixGPU())
	if missing != "" {
		t.Fatal(missing)
	}
	list := []FlexibleMatrices{{MatrixShape{16, 16, 16}, 0}, {MatrixShape{32, 16, 16}, 128}, {MatrixShape{32, 32, 16}, 256}}
	want := Matrix2Caps{BF16: list, F16: list, MaxDimension: 1024, TensorAddressing: true, BlockLoads: true, ReservedShared: 8192}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("matrices (-want +got):\n%s", diff)
	}
	if _, ok := Find(m.BF16, 512); ok {
		t.Error("a workgroup larger than the device's limit for matrices was taken")
	}
	if got, ok := Find(m.BF16, 128); !ok || got != (MatrixShape{32, 16, 16}) {
		t.Errorf("workgroups of 128 hold multiples of %v, %v", got, ok)
	}
}

func TestTiersFollowWhatTheDeviceHas(t *testing.T) {
	for _, c := range []struct {
		name   string
		take   func(p *vk.PhysicalDevice)
		forced Tier
		want   Tier
		refuse string // a word of the error
	}{
		{"all there", func(*vk.PhysicalDevice) {}, TierAuto, TierMatrix2, ""},
		{"matrix asked for", func(*vk.PhysicalDevice) {}, TierMatrix, TierMatrix, ""},
		{"matrix2 asked for", func(*vk.PhysicalDevice) {}, TierMatrix2, TierMatrix2, ""},
		{"no workgroup scope", func(p *vk.PhysicalDevice) { p.Features.Matrix2.Workgroup = false }, TierAuto, TierMatrix2, ""},
		{"no tensor addressing", func(p *vk.PhysicalDevice) { p.Features.Matrix2.TensorAddressing = false }, TierAuto, TierMatrix2, ""},
		{"vulkan 1.2", func(p *vk.PhysicalDevice) { p.Features.SPIRV16 = false }, TierAuto, TierMatrix, ""},
		{"no flexible dimensions", func(p *vk.PhysicalDevice) { p.Features.Matrix2.Flexible = false }, TierAuto, TierMatrix, ""},
		{"no per-element operations", func(p *vk.PhysicalDevice) { p.Features.Matrix2.PerElement = false }, TierMatrix2, 0, "per-element operations"},
		{"no flexible matrices", func(p *vk.PhysicalDevice) { p.Flexible = nil }, TierAuto, TierMatrix, ""},
		{"no matrices", func(p *vk.PhysicalDevice) { p.Features.CooperativeMatrix = false }, TierAuto, TierFP16, ""},
		{"no matrices, matrix2 asked for", func(p *vk.PhysicalDevice) { p.Features.CooperativeMatrix = false }, TierMatrix2, 0, "tier matrix2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := matrixGPU()
			c.take(p)
			got, why, err := ChooseTier(p, c.forced)
			if c.refuse != "" {
				if err == nil || !strings.Contains(err.Error(), c.refuse) {
					t.Fatalf("tier %v, error %v, want one about %q", got, err, c.refuse)
				}
				return
			}
			if err != nil || got != c.want || why == "" {
				t.Errorf("tier %v because %q, %v; want %v", got, why, err, c.want)
			}
		})
	}
}

func TestEveryTierIsReadByItsName(t *testing.T) {
	for tier := TierAuto; tier <= TierMatrix2; tier++ {
		if got, err := ParseTier(tier.String()); err != nil || got != tier {
			t.Errorf("%v is read as %v, %v", tier, got, err)
		}
	}
	if _, err := ParseTier("matrix3"); err == nil || !strings.Contains(err.Error(), "matrix2") {
		t.Errorf("error %v does not name the tiers", err)
	}
}
