package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVariantLinesExpand(t *testing.T) {
	tests := []struct {
		name   string
		source string
		want   []string
	}{
		{"no line gives one variant named like the file", "#version 450\n", []string{"mm vulkan1.2 []"}},
		{"a name alone", "//@variant mm_f32", []string{"mm_f32 vulkan1.2 []"}},
		{"values and flags become macros", "  //@variant mm_f32 A=float16_t B= HALF", []string{
			"mm_f32 vulkan1.2 [A=float16_t B= HALF=]"}},
		{"lists multiply, the last fastest", "//@variant mm_{X}_{Y} X=f32|f16 Y=a|b", []string{
			"mm_f32_a vulkan1.2 [X=f32 Y=a]", "mm_f32_b vulkan1.2 [X=f32 Y=b]",
			"mm_f16_a vulkan1.2 [X=f16 Y=a]", "mm_f16_b vulkan1.2 [X=f16 Y=b]"}},
		{"keys are substituted in values, before and after their own place",
			"//@variant mm_{X} T=type_{X} X=f32|f16 U={T}_vec",
			[]string{"mm_f32 vulkan1.2 [T=type_f32 X=f32 U=type_f32_vec]", "mm_f16 vulkan1.2 [T=type_f16 X=f16 U=type_f16_vec]"}},
		{"an empty list item", "//@variant mm{S} S=|_big", []string{"mm vulkan1.2 [S=]", "mm_big vulkan1.2 [S=_big]"}},
		{"env and args hold for what follows", "//@variant mm_a\n//@env vulkan1.3\n//@args -Os\n//@variant mm_b",
			[]string{"mm_a vulkan1.2 []", "mm_b vulkan1.3 [] [-Os]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			variants, err := parseVariants("mm", tt.source)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range variants {
				got = append(got, show(v))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("variants (-want +got):\n%s", diff)
			}
		})
	}
}

func show(v variant) string {
	var defines []string
	for _, d := range v.defines {
		defines = append(defines, d.key+"="+d.value)
	}
	out := fmt.Sprintf("%s %s %v", v.name, v.env, defines)
	if v.args != nil {
		out += fmt.Sprint(" ", v.args)
	}
	return out
}

func TestBadVariantLinesAreRefused(t *testing.T) {
	tests := []struct{ name, source, want string }{
		{"a nameless variant", "//@variant", "line 1: //@variant wants a name"},
		{"an unknown directive", "\n//@varient mm", "line 2: unknown //@varient"},
		{"an empty directive", "//@", "empty //@ line"},
		{"capitals", "//@variant mm_F32", "not lower_case"},
		{"another file's prefix", "//@variant attention_f32", `must be "mm" or begin with "mm_"`},
		{"a prefix without underscore", "//@variant mmx", "must be"},
		{"an unknown placeholder", "//@variant mm_{X} Y=1", "{X} names no KEY"},
		{"a circle", "//@variant mm_{X} X={Y} Y={X}", "refers to itself"},
		{"a key given twice", "//@variant mm X=1 X=2", "X is given twice"},
		{"a key that is no macro", "//@variant mm 1X=2", "no KEY"},
		{"the same name twice", "//@variant mm_a\n//@variant mm_{X} X=b|a", "line 2: variant mm_a is declared on line 1 already"},
		{"an odd environment", "//@env opengl4.5", "//@env wants"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseVariants("mm", tt.source)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

func FuzzParseVariants(f *testing.F) {
	f.Add("//@variant mm_{X} X=f32|f16 T={X}")
	f.Add("//@env vulkan1.3\n//@args -O0\n//@variant mm A=|b")
	f.Fuzz(func(t *testing.T, source string) {
		// A line of many lists multiplies: keep the product small enough to enumerate.
		if strings.Count(source, "|") > 12 {
			return
		}
		variants, err := parseVariants("mm", source)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, v := range variants {
			if seen[v.name] || !variantName.MatchString(v.name) {
				t.Fatalf("bad or repeated name %q", v.name)
			}
			seen[v.name] = true
			for _, d := range v.defines {
				if placeholder.MatchString(d.value) {
					t.Fatalf("%s: %q kept a placeholder", v.name, d.value)
				}
			}
		}
	})
}
