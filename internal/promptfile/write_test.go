package promptfile

import (
	"bytes"
	"slices"
	"testing"
)

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	want := [][]Value{
		{{"prompt", "A fox runs."}},
		{{"prompt", "true"}, {"seed", "18446744073709551615"}, {"expand_prompt", "false"}, {"guidance_weight", "3.5"}},
		{{"prompt", "- # : \"two\nlines\", 狐 'x' "}, {"lora", "a.safetensors:0.5"}, {"lora", "7"}, {"image", "C:\\a b.png"}},
		{{"prompt", "7"}, {"lora", ""}, {"negative_prompt", ""}, {"magcache", "true"}, {"width", "32"}},
		{{"prompt", "\ttabs and lines\n\n at the end\n"}},
	}
	var out bytes.Buffer
	for _, values := range want {
		if err := Write(&out, Job{Values: values}); err != nil {
			t.Fatal(err)
		}
	}
	jobs, err := Parse("x.yaml", out.Bytes())
	if err != nil || len(jobs) != len(want) {
		t.Fatalf("%d entries, %v:\n%s", len(jobs), err, out.String())
	}
	for k, j := range jobs {
		if !slices.Equal(j.Values, want[k]) {
			t.Errorf("%q is read as %q from\n%s", want[k], j.Values, out.String())
		}
	}
	if err := Write(&out, Job{Values: []Value{{"colour", "red"}}}); err == nil {
		t.Error("an unknown setting is written")
	}
}
