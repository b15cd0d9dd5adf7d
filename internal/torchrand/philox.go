package torchrand

// philox is Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): a
// counter of 128 bits and a key of 64 give four random words.
func philox(c [4]uint32, key uint64) [4]uint32 {
	const (
		mul0, mul1 = 0xD2511F53, 0xCD9E8D57
		add0, add1 = 0x9E3779B9, 0xBB67AE85
	)
	k0, k1 := uint32(key), uint32(key>>32)
	for range 10 {
		p0, p1 := mul0*uint64(c[0]), mul1*uint64(c[2])
		c = [4]uint32{uint32(p1>>32) ^ c[1] ^ k0, uint32(p1), uint32(p0>>32) ^ c[3] ^ k1, uint32(p0)}
		k0, k1 = k0+add0, k1+add1
	}
	return c
}
