package ref

import "math"

// Attention describes one attention in float64 with every product written out: softmax(scale * q k^T) v per head over
// the visible keys. The zero values of the optional fields mean no restriction.
type Attention struct {
	Heads, KVHeads, Tq, Tk, Dim int
	Q                           []float64 // [Heads, Tq, Dim]
	K, V                        []float64 // [KVHeads, Tk, Dim]; query head h reads kv head h / (Heads/KVHeads)
	Scale                       float64
	// Visible tells whether query i of head h sees key j; nil means always.
	Visible func(h, i, j int) bool
}

// Run returns [Tq, Heads, Dim]. A query that sees no key gives zeros.
func (a Attention) Run() []float64 {
	mustHold("Attention Q", a.Q, a.Heads*a.Tq*a.Dim)
	mustHold("Attention K", a.K, a.KVHeads*a.Tk*a.Dim)
	mustHold("Attention V", a.V, a.KVHeads*a.Tk*a.Dim)
	out := make([]float64, a.Tq*a.Heads*a.Dim)
	weights := make([]float64, a.Tk)
	for h := range a.Heads {
		kv := h / (a.Heads / a.KVHeads) * a.Tk * a.Dim
		for i := range a.Tq {
			q := a.Q[(h*a.Tq+i)*a.Dim:][:a.Dim]
			sum := a.weights(weights, q, kv, h, i)
			if sum == 0 {
				continue
			}
			o := out[(i*a.Heads+h)*a.Dim:][:a.Dim]
			for j, w := range weights {
				if w == 0 {
					continue
				}
				for c, v := range a.V[kv+j*a.Dim:][:a.Dim] {
					o[c] += w / sum * v
				}
			}
		}
	}
	return out
}

// weights fills w with exp(score - max), zero where the key is not visible, and returns their sum.
func (a Attention) weights(w []float64, q []float64, kv, h, i int) float64 {
	top := math.Inf(-1)
	for j := range w {
		w[j] = math.Inf(-1)
		if a.Visible != nil && !a.Visible(h, i, j) {
			continue
		}
		s := 0.0
		for c, k := range a.K[kv+j*a.Dim:][:a.Dim] {
			s += q[c] * k
		}
		w[j] = s * a.Scale
		top = math.Max(top, w[j])
	}
	sum := 0.0
	for j, s := range w {
		if math.IsInf(s, -1) {
			w[j] = 0
			continue
		}
		w[j] = math.Exp(s - top)
		sum += w[j]
	}
	return sum
}

// CausalVisible sees keys j <= i + tk - tq: the last query sees the last key.
func CausalVisible(tq, tk int) func(h, i, j int) bool {
	return func(_, i, j int) bool { return j <= i+tk-tq }
}

// FramesVisible sees the keys of the query's frame and of all earlier frames, n tokens each (HunyuanVideo's causal VAE;
// huggingface/diffusers, models/autoencoders/autoencoder_kl_hunyuan_video.py, prepare_causal_attention_mask).
func FramesVisible(n int) func(h, i, j int) bool {
	return func(_, i, j int) bool { return j < (i/n+1)*n }
}

// BlocksVisible sees whole blocks of 64 keys: mask is [heads, blocks, blocks], query block first.
func BlocksVisible(mask []bool, blocks int) func(h, i, j int) bool {
	return func(h, i, j int) bool { return mask[(h*blocks+i/64)*blocks+j/64] }
}
