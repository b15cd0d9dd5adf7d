package weights

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDifferencesOfTheTwoPublishedSizes(t *testing.T) {
	want := []string{
		"time_dim is 512, the configuration says 1024",
		"model_dim is 1792, the configuration says 4096",
		"ff_dim is 7168, the configuration says 16384",
		"num_text_blocks is 2, the configuration says 4",
		"num_visual_blocks is 32, the configuration says 60",
		"axes_dims is [16 24 24], the configuration says [32 48 48]",
	}
	if diff := cmp.Diff(want, ProVideoDiT().Differences(LiteVideoDiT())); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	if got := LiteVideoDiT().Differences(LiteVideoDiT()); got != nil {
		t.Errorf("a configuration differs from itself: %v", got)
	}
}

func TestDifferencesSeeEverySize(t *testing.T) {
	base := reflect.ValueOf(LiteVideoDiT())
	for k := range base.NumField() {
		name := base.Type().Field(k).Name
		if name == "InstructType" || len(name) > 9 && name[:9] == "Attention" {
			continue // changes channels together with VisualCond, or no tensor at all
		}
		changed := LiteVideoDiT()
		switch f := reflect.ValueOf(&changed).Elem().Field(k); f.Kind() {
		case reflect.Int:
			f.SetInt(f.Int() + 2)
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Array:
			f.Index(1).SetInt(f.Index(1).Int() + 2)
		}
		if len(LiteVideoDiT().Differences(changed)) == 0 {
			t.Errorf("a change of %s goes unseen", name)
		}
	}
}
