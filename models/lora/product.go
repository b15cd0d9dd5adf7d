package lora

// factors are the factors of a matrix's change by all adapters together: the ranks of one follow those of another, so that
// one product B·A is the sum of all.
type factors struct {
	out, in int
	rank    int       // a multiple of quad
	a       []float32 // [rank, in]
	b       []float32 // [out, rank], with the gains in it
}

// quad is how many ranks are added at a time, and columns how many elements of a row, so that the parts of A that are used
// again and again stay in a core's cache: 256 KiB at rank 64.
const (
	quad    = 4
	columns = 1024
)

// factor joins the factors of some adapters.
func factor(terms []term) (factors, error) {
	first := terms[0].change
	f := factors{out: first.up.Shape[0], in: first.down.Shape[1]}
	total := 0
	for _, t := range terms {
		total += t.change.rank()
	}
	f.rank = (total + quad - 1) / quad * quad
	f.a, f.b = make([]float32, f.rank*f.in), make([]float32, f.out*f.rank)
	at := 0
	for _, t := range terms {
		a, err := floats(t.change.down)
		if err != nil {
			return f, err
		}
		b, err := floats(t.change.up)
		if err != nil {
			return f, err
		}
		copy(f.a[at*f.in:], a)
		rank := t.change.rank()
		for o := range f.out {
			row := f.b[o*f.rank+at:]
			for k, v := range b[o*rank : (o+1)*rank] {
				row[k] = t.gain * v
			}
		}
		at += rank
	}
	return f, nil
}

// add adds B·A to rows of a matrix, [n, in], of which the first is row from. An element's change is summed by itself, then
// added, so that it is not rounded to the steps of a larger weight again and again.
func (f factors) add(w []float32, from int) {
	var sum [2][columns]float32
	rows := len(w) / f.in
	for c := 0; c < f.in; c += columns {
		width := min(columns, f.in-c)
		for r := 0; r < rows; r += 2 {
			second := min(r+1, rows-1) // the last row may have no partner, and is its own
			x, y := sum[0][:width], sum[1][:width]
			clear(x)
			clear(y)
			b, d := f.b[(from+r)*f.rank:][:f.rank], f.b[(from+second)*f.rank:][:f.rank]
			for k := 0; k < f.rank; k += quad {
				a := f.a[k*f.in+c:]
				addRanks(x, y, a, a[f.in:], a[2*f.in:], a[3*f.in:], [quad]float32(b[k:]), [quad]float32(d[k:]))
			}
			plus(w[r*f.in+c:][:width], x)
			if second != r {
				plus(w[second*f.in+c:][:width], y)
			}
		}
	}
}

// addRanks adds four ranks to parts of two rows. The conversions keep compilers from fusing multiplication and addition,
// which some processors do: weights are the same everywhere.
func addRanks(x, y, a0, a1, a2, a3 []float32, b, d [quad]float32) {
	n := len(x)
	y, a0, a1, a2, a3 = y[:n], a0[:n], a1[:n], a2[:n], a3[:n]
	b0, b1, b2, b3 := b[0], b[1], b[2], b[3]
	d0, d1, d2, d3 := d[0], d[1], d[2], d[3]
	for i := range x {
		v0, v1, v2, v3 := a0[i], a1[i], a2[i], a3[i]
		x[i] += float32(b0*v0) + float32(b1*v1) + float32(float32(b2*v2)+float32(b3*v3))
		y[i] += float32(d0*v0) + float32(d1*v1) + float32(float32(d2*v2)+float32(d3*v3))
	}
}

func plus(w, sum []float32) {
	sum = sum[:len(w)]
	for i := range w {
		w[i] += sum[i]
	}
}
