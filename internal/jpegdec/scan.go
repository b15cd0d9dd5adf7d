package jpegdec

// pass is a scan: which coefficients of which components it codes, and to which bit.
type pass struct {
	components []*component
	from, to   int // coefficients in zigzag order
	high, low  int // bits: known before, known after
	eobs       int // blocks that have no more coefficients
	r          bitReader
}

// scan decodes a scan; what follows its header is its data.
func (d *decoder) scan(body []byte) error {
	p, err := d.pass(body)
	if err != nil {
		return err
	}
	p.r = bitReader{data: d.data, at: d.at}
	decode := d.decoding(p)
	units, across := p.units(d)
	for n := range units {
		if d.interval > 0 && n > 0 && n%d.interval == 0 {
			if err := p.restart(); err != nil {
				return err
			}
		}
		if err := p.unit(n%across, n/across, decode); err != nil {
			return err
		}
		if p.r.short() {
			return errData
		}
	}
	d.at = p.r.at
	return nil
}

// pass reads a scan's header.
func (d *decoder) pass(body []byte) (*pass, error) {
	if d.components == nil || len(body) < 1 || len(body) != 4+2*int(body[0]) || body[0] < 1 || int(body[0]) > len(d.components) {
		return nil, errData
	}
	p := &pass{}
	for k := range int(body[0]) {
		var c *component
		for _, other := range d.components {
			if other.id == int(body[1+2*k]) {
				c = other
			}
		}
		tables := body[2+2*k]
		if c == nil || tables>>4 > 3 || tables&15 > 3 {
			return nil, errData
		}
		for _, other := range p.components {
			if other == c {
				return nil, errData
			}
		}
		c.dc, c.ac, c.last, c.seen = d.tables[0][tables>>4], d.tables[1][tables&15], 0, true
		p.components = append(p.components, c)
	}
	tail := body[len(body)-3:]
	p.from, p.to, p.high, p.low = int(tail[0]), int(tail[1]), int(tail[2]>>4), int(tail[2]&15)
	if !d.progressive {
		p.from, p.to, p.high, p.low = 0, 63, 0, 0
		return p, nil
	}
	if p.to > 63 || p.from > p.to || p.from == 0 && p.to != 0 || p.from > 0 && len(p.components) > 1 || p.low > 13 || p.high > 0 && p.high != p.low+1 {
		return nil, errData
	}
	return p, nil
}

// units returns how many units the scan has, and how many of them lie side by side.
func (p *pass) units(d *decoder) (all, across int) {
	if len(p.components) == 1 {
		c := p.components[0]
		return c.width * c.height, c.width
	}
	across = ceil(d.width, 8*d.hMax)
	return across * ceil(d.height, 8*d.vMax), across
}

// unit decodes the blocks of a unit: one, or h×v of every component.
func (p *pass) unit(x, y int, decode blockFunc) error {
	if len(p.components) == 1 {
		return decode(p.components[0], x, y)
	}
	for _, c := range p.components {
		for k := range c.h * c.v {
			if err := decode(c, x*c.h+k%c.h, y*c.v+k/c.h); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *pass) restart() error {
	for _, c := range p.components {
		c.last = 0
	}
	p.eobs = 0
	return p.r.restart()
}

// blockFunc decodes what a scan says of the block at column x and row y of a component.
type blockFunc func(c *component, x, y int) error

func (d *decoder) decoding(p *pass) blockFunc {
	if !d.progressive {
		return func(c *component, x, y int) error { return d.baseline(p, c, x, y) }
	}
	kind := p.firstAC
	switch {
	case p.from == 0 && p.high == 0:
		kind = p.firstDC
	case p.from == 0:
		kind = p.moreDC
	case p.high > 0:
		kind = p.moreAC
	}
	return func(c *component, x, y int) error { return kind(c, (*[64]int16)(c.blocks[64*(y*c.stride+x):])) }
}

// baseline decodes a whole block and makes its samples.
func (d *decoder) baseline(p *pass, c *component, x, y int) error {
	q := d.quant[c.tq]
	if q == nil {
		return errData
	}
	var block [64]int32
	dc, err := p.nextDC(c)
	if err != nil {
		return err
	}
	block[0] = int32(int16(dc)) * int32(q[0])
	for k := 1; k < 64; k++ {
		s, err := p.r.symbol(c.ac)
		if err != nil {
			return err
		}
		size := int(s & 15)
		if size == 0 {
			if s != 0xf0 {
				break
			}
			k += 15
			continue
		}
		if k += int(s >> 4); k > 63 {
			return errData
		}
		block[natural(k)] = p.r.extended(size) * int32(q[natural(k)])
	}
	c.put(x, y, &block)
	return nil
}

// nextDC decodes the first coefficient of the next block.
func (p *pass) nextDC(c *component) (int32, error) {
	size, err := p.r.symbol(c.dc)
	if err != nil || size > 15 {
		return 0, errData
	}
	c.last += p.r.extended(int(size))
	return c.last, nil
}

// firstDC, moreDC, firstAC and moreAC are the four kinds of progressive scans (T.81, G.1.2).
func (p *pass) firstDC(c *component, block *[64]int16) error {
	dc, err := p.nextDC(c)
	block[0] = int16(dc << p.low)
	return err
}

func (p *pass) moreDC(_ *component, block *[64]int16) error {
	if p.r.bits(1) == 1 {
		block[0] |= 1 << p.low
	}
	return nil
}

func (p *pass) firstAC(c *component, block *[64]int16) error {
	if p.eobs > 0 {
		p.eobs--
		return nil
	}
	for k := p.from; k <= p.to; k++ {
		s, err := p.r.symbol(c.ac)
		if err != nil {
			return err
		}
		run, size := int(s>>4), int(s&15)
		if size == 0 {
			if run < 15 {
				p.eobs = 1<<run + int(p.r.bits(run)) - 1
				return nil
			}
			k += 15
			continue
		}
		if k += run; k > p.to {
			return errData
		}
		block[natural(k)] = int16(p.r.extended(size) << p.low)
	}
	return nil
}

func (p *pass) moreAC(c *component, block *[64]int16) error {
	k := p.from
	for ; p.eobs == 0 && k <= p.to; k++ {
		s, err := p.r.symbol(c.ac)
		if err != nil {
			return err
		}
		run, size := int(s>>4), int(s&15)
		value := int16(0)
		switch {
		case size == 1:
			value = 1 << p.low
			if p.r.bits(1) == 0 {
				value = -value
			}
		case size != 0:
			return errData
		case run < 15:
			p.eobs = 1<<run + int(p.r.bits(run))
		}
		if p.eobs > 0 {
			break
		}
		if k = p.refine(block, k, run); k > p.to && value != 0 {
			return errData
		}
		if value != 0 {
			block[natural(k)] = value
		}
	}
	if p.eobs > 0 {
		p.refine(block, k, 64)
		p.eobs--
	}
	return nil
}

// refine reads a bit of every coefficient from k on that is not zero, passing over so many that are; it returns the place of
// the next one that is zero.
func (p *pass) refine(block *[64]int16, k, zeros int) int {
	for ; k <= p.to; k++ {
		v := &block[natural(k)]
		if *v == 0 {
			if zeros == 0 {
				return k
			}
			zeros--
			continue
		}
		if p.r.bits(1) == 1 && *v&(1<<p.low) == 0 {
			if *v > 0 {
				*v += 1 << p.low
			} else {
				*v -= 1 << p.low
			}
		}
	}
	return k
}
