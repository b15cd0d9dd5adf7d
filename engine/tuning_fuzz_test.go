package engine

import "testing"

func FuzzParseTuning(f *testing.F) {
	f.Add([]byte(`{"version": 1, "driver": "d", "choices": [{"kernel": "matmul", "shape": "a", "shader": "fill", "code": "` + CodeHash("fill") + `", "choice": "x"}]}`))
	f.Add([]byte(`{"version": 1, "driver": "d", "choices": [{"kernel": "matmul", "shader": "none", "code": "", "choice": "x"}, null]}`))
	f.Add([]byte(`{"version": 1e3, "choices": 7}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, e := range parseTuning(data, "d") {
			if e.Kernel == "" || e.Choice == "" || e.Code != CodeHash(e.Shader) {
				t.Errorf("a choice that holds nothing: %+v", e)
			}
		}
	})
}
