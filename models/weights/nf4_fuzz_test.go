package weights

import (
	"math"
	"testing"
)

// FuzzQuantState holds that a description which is taken has sizes that can be allocated and a mean that is finite.
func FuzzQuantState(f *testing.F) {
	f.Add([]byte(`{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[301,67],"nested_blocksize":256,"nested_dtype":"float32","nested_offset":0.01}`))
	f.Add([]byte(`{"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [3584, 18944]}`))
	f.Add([]byte(`{"quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[4194304,4194304]}`))
	f.Add([]byte(`{"nested_offset":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, l, err := parseQuantState(data)
		if err != nil {
			return
		}
		n := l.Elements()
		if l.Rows < 1 || l.Cols < 1 || n < 1 || n > math.MaxUint32 || l.Bytes() < int64(n)/2 || l.Bytes() > int64(n)+4096 {
			t.Errorf("%v takes %d bytes", l, l.Bytes())
		}
		if !l.Plain && (s.Offset == nil || math.IsNaN(float64(*s.Offset)) || math.IsInf(float64(*s.Offset), 0)) {
			t.Errorf("the mean is %v", s.Offset)
		}
	})
}
